"""The unix socket that external plugins connect to."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from nri_inject.errors import NriError


def listen(path: str | Path) -> socket.socket:
    """Listen on a path without ever blocking.

    Makes the directory if it is missing, for its owner alone, and replaces the socket of a
    runtime that has ended. NriError if that cannot be done.
    """
    try:
        _make_way(Path(path))
        return _bound(path)
    except OSError as error:
        raise NriError(f"cannot listen on {path}: {error.strerror or error}") from error


def _make_way(path: Path) -> None:
    missing = [directory for directory in path.parents if not directory.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=0o700)
    if path.is_symlink() or path.exists():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise NriError(f"cannot listen on {path}: it exists and is not a socket")
        path.unlink()


def _bound(path: str | Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen()
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
