"""Start a plugin's executable the way a runtime starts what is in its plugin directory."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from nri_inject.errors import NriError
from nri_inject.runtime import discovery
from nri_inject.runtime.peer import Peer, Tap, Updater

TRIED: Final[Mapping[str, str]] = {"NRI_INJECT_STATUS_DIR": "", "PYTHONUNBUFFERED": "1"}
"""Variables for a plugin that is only tried: no status socket of it on this node, and nothing that
it prints is held back."""


def launch(
    path: str | Path,
    update: Updater | None = None,
    *,
    log: bool = False,
    tap: Tap | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Peer:
    """Start a plugin the way a runtime starts a pre-installed one, and return its connection.

    The file's name is `NN-name`. The plugin gets its path as only argument, three variables as
    its environment, a connected socket as descriptor 3, and nothing on descriptors 0 to 2
    (NRI, pkg/adaptation/plugin.go); with `log` all that it writes goes to our standard error.
    `environment` has further variables, which no runtime sets. Raises NriError for a name of
    another form, and for a file that cannot be executed.
    """
    index, name = discovery.identity(path)
    return launch_as(path, index, name, update, log=log, tap=tap, environment=environment)


def launch_as(
    path: str | Path,
    index: str,
    name: str,
    update: Updater | None = None,
    *,
    log: bool = False,
    tap: Tap | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Peer:
    """Do what `launch` does for a file of any name."""
    if discovery.is_webassembly(path):
        raise NriError(f"plugin {path}: is a WebAssembly module, which cannot be run here")
    ours, theirs = socket.socketpair()
    variables = {"NRI_PLUGIN_NAME": name, "NRI_PLUGIN_IDX": index, "NRI_PLUGIN_SOCKET": "3"}
    silent = (0,) if log else (0, 1, 2)
    actions: list[Any] = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in silent]
    if log:
        actions.append((os.POSIX_SPAWN_DUP2, 2, 1))  # what it prints, too
    try:
        with theirs:
            pid = os.posix_spawn(
                path,
                [str(path)],
                {**environment, **variables},
                file_actions=[*actions, (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)],
            )
    except OSError as error:
        ours.close()
        raise NriError(f"cannot start plugin {path}: {error.strerror}") from error
    peer = Peer(ours, update, pid, tap=tap)
    peer.index, peer.name = index, name
    return peer
