"""`nri-inject run`: the suite as a plugin command of its own."""

from __future__ import annotations

import os
import sys
from typing import Final

from nri_inject import options
from nri_inject.command import Options, identity
from nri_inject.plugins import suite

_IDX, _NAME = identity(suite.main, sys.argv[0], os.environ)

command: Final = options.program(suite.main, Options(idx=_IDX, name=_NAME), "run")
