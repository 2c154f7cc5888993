"""The environment of a hook's program: the one in its file, or root's PATH alone.

OCI (runtime specification 1.2, config.md) does not define what a hook without `env` gets. runc
before 1.3 runs a createContainer hook, as root and with the host's files, with the variables of the
container. The pod's author chooses those, so LD_PRELOAD is enough to become root of the host
(CVE-2025-23266). All runtimes obey an `env` with an entry, and NRI's messages cannot carry an empty
one. So each hook gets an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where root finds programs."""


def environment(written: Sequence[str]) -> tuple[str, ...]:
    """Return a hook's environment, entries NAME=value, for what a file has in `env`.

    A list that is not empty is the whole environment, whether it has PATH or not.
    """
    return tuple(written) or (PATH,)
