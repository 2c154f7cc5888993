"""`nri-inject run`: the suite as a plugin command of its own."""

from __future__ import annotations

import os
import sys
from typing import Final

from nri_inject.plugins import suite
from nri_inject.service.base import Options
from nri_inject.service.command import identity, parser

_IDX, _NAME = identity(suite.main, sys.argv[0], os.environ)

command: Final = parser(suite.main, Options(idx=_IDX, name=_NAME), "run")
