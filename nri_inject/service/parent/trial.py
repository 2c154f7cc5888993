"""The program that is installed now: a trial of it, and its start in place of this process.

The trial is a process of its own. It reads the state, the configuration and the policy, and ends
with one line that says whether it could take over. Only then does execve(2) replace this process,
which keeps its id, its control group and its connections.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from nri_inject.service.parent import handover
from nri_inject.service.parent.handover import Handover
from nri_inject.service.parent.system import ended_within, words

UPGRADE: Final = signal.SIGUSR2
"""The signal that asks for an upgrade. Terminals send SIGHUP when they are closed."""

MAX_TRIAL: Final = 30.0
"""How long a trial may take, in seconds."""

MAX_OUTPUT: Final = 64 << 10
"""How many bytes of a trial's output are kept, from its end."""

_MAX_WORDS: Final = 300  # characters of a line that a trial has written
_BURIAL: Final = 0.05  # seconds for the kernel to end a trial


def verdict(agrees: bool, text: str) -> str:
    """Return the line with which a trial ends: its version, or why it cannot take over."""
    return json.dumps({"agrees": agrees, "text": text})


class Trial:
    """A process that tries to take over. OSError if it cannot be started.

    `seconds` is how long it has taken, `fault` says why it does not agree, and `program` is its
    version, once it `is_over`.
    """

    def __init__(self, state: Handover) -> None:
        self.state = state
        self.is_over = self._is_waited_for = False
        self.fault = self.program = ""
        self.seconds = 0.0
        self._output = b""
        self._began = time.monotonic()
        self._identity = _identity()
        self._pipe, theirs = os.pipe()
        try:
            self.pid = _spawned(state, theirs)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(self._pipe, False)

    @property
    def is_current(self) -> bool:
        """Whether the program is still the one that was started."""
        return _identity() == self._identity

    def fileno(self) -> int:
        """Return the descriptor of its output."""
        return self._pipe

    def ready(self) -> None:
        """Read what it has written."""
        try:
            data = os.read(self._pipe, MAX_OUTPUT)
        except BlockingIOError:
            return
        self._output = (self._output + data)[-MAX_OUTPUT:]
        if not data:
            self._conclude(ended_within(self.pid, _BURIAL))

    def check_time(self) -> None:
        """Give it up if it has taken too long."""
        if not self.is_over and time.monotonic() >= self._began + MAX_TRIAL:
            self._conclude(None)
            self.fault = f"the new version did not start within {MAX_TRIAL:.0f} s"

    def close(self) -> list[int]:
        """Let go of it; return the process if it has not been waited for."""
        os.close(self._pipe)
        if self._is_waited_for:
            return []
        os.kill(self.pid, signal.SIGKILL)
        return [self.pid] if ended_within(self.pid, _BURIAL) is None else []

    def _conclude(self, status: int | None) -> None:
        self.is_over = True
        self.seconds = time.monotonic() - self._began
        self._is_waited_for = status is not None
        lines = self._output.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else ""
        try:
            said = json.loads(last)
            agrees, text = said["agrees"] is True, str(said["text"])
        except (ValueError, KeyError, TypeError):
            detail = f": {last[:_MAX_WORDS]}" if last else ""
            self.fault = f"the new version {words(status)}{detail}"
            return
        self.program, self.fault = (text, "") if agrees else ("", text)


def _spawned(state: Handover, output: int) -> int:
    """Start the trial of a state, and return the process; OSError if that fails."""
    descriptor = handover.write(state)
    try:
        # A version that has no such trial finds no connection in its place, and ends.
        environ = _environment({handover.TRIAL: str(descriptor), "NRI_PLUGIN_SOCKET": str(output)})
        environ.pop("NOTIFY_SOCKET", None)  # it does not speak for the service
        path, arguments = _program()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        return os.posix_spawn(path, arguments, environ, file_actions=actions)
    finally:
        os.close(descriptor)


def replace(state: Handover, connections: Sequence[socket.socket]) -> str:
    """Become the program that is installed now; return why not if that fails.

    A signal that asks for an upgrade is ignored until the program has its handler.
    """
    path, arguments = _program()
    before = signal.signal(UPGRADE, signal.SIG_IGN)
    descriptor = -1
    try:
        descriptor = handover.write(state)
        for connection in connections:
            connection.set_inheritable(True)
        environ = _environment({handover.VARIABLE: str(descriptor)})
        os.execve(path, arguments, environ)  # noqa: S606 - an admin's program, and no shell
    except OSError as error:
        fault = f"cannot start {path}: {error.strerror}"
    for connection in connections:
        connection.set_inheritable(False)
    if descriptor >= 0:
        os.close(descriptor)
    signal.signal(UPGRADE, before)
    return fault


def _program() -> tuple[str, list[str]]:
    """Return the path to execute and the arguments with which this process was started.

    The path is that of the start, so it leads through the links and the first line of the script
    as they are now.
    """
    if found := shutil.which(sys.argv[0]):
        return found, sys.argv
    return sys.executable, sys.orig_argv  # python -m nri_inject


def _identity() -> tuple[int, int, int] | None:
    try:
        status = os.stat(_program()[0])
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process's start, with variables of our own."""
    environ = {**os.environ, **own}
    if getattr(sys, "frozen", False):  # PyInstaller's own would lead to the parts of this version
        environ["PYINSTALLER_RESET_ENVIRONMENT"] = "1"
        environ.pop("LD_LIBRARY_PATH", None)
        with suppress(KeyError):
            environ["LD_LIBRARY_PATH"] = environ.pop("LD_LIBRARY_PATH_ORIG")
    return environ
