"""`nri-inject upgrade`: running plugins become the version that is installed now.

The signal SIGUSR2 asks for it, and the status document says how it ended.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

import click

from nri_inject.cli.status import plugin_options, sockets_of
from nri_inject.service.command import FAILED
from nri_inject.service.health import status
from nri_inject.service.logs import one_line
from nri_inject.service.options import format_option, show
from nri_inject.service.parent.trial import UPGRADE

MAX_SECONDS: Final = 60.0
"""How long an upgrade of a plugin may take."""

_PAUSE: Final = 0.05  # seconds between two questions


@click.command("upgrade", epilog="Example: nri-inject upgrade --plugin nri-inject")
@plugin_options
@format_option
def command(*, plugin: str, status_dir: str, output: str) -> int:
    """Have running plugins become the version that is installed now, without a gap.

    Process and connection stay, also those of a plugin that the runtime has launched. The new
    version reads the configuration and the policy first; if it cannot take over, the old one goes
    on. Ends with status 1 if a plugin was not upgraded, or if there is none.
    """
    try:
        sockets = sockets_of(status_dir, plugin)
    except OSError as error:
        click.echo(f"Error: {status_dir}: {error.strerror}", err=True)
        return FAILED
    rows = [upgraded(name, path) for name, path in sockets.items()]
    lines = map(_line, rows) if rows else [f"no plugin has a socket in {status_dir}"]
    show(output, {"plugins": rows}, map(one_line, lines))
    return 0 if rows and not any(row["error"] for row in rows) else FAILED


def upgraded(name: str, path: str) -> dict[str, Any]:
    """Upgrade the plugin of a status socket; return its versions, and why it was not upgraded."""
    before = status.ask(path)
    if before is None:
        return _row(name, {}, {}, "does not answer: it was killed, or it hangs")
    if before.get("upgrades") is None:
        return _row(name, before, before, "has no worker, so it cannot be upgraded: restart it")
    try:
        process = os.pidfd_open(before["pid"])
    except OSError as error:
        return _row(name, before, before, f"process {before['pid']}: {error.strerror}")
    try:
        return _signalled(name, path, before, process)
    except OSError as error:
        return _row(name, before, before, f"cannot send a signal to it: {error.strerror}")
    finally:
        os.close(process)


def _signalled(name: str, path: str, before: Mapping[str, Any], process: int) -> dict[str, Any]:
    """Ask for the upgrade, and wait for its end."""
    signal.pidfd_send_signal(process, UPGRADE)
    deadline = time.monotonic() + MAX_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_PAUSE)
        try:
            signal.pidfd_send_signal(process, 0)
        except ProcessLookupError:
            return _row(name, before, before, "has ended during the upgrade, see its log")
        now = status.ask(path)
        if now is not None and now["upgrades"]["count"] > before["upgrades"]["count"]:
            return _row(name, before, now, now["upgrades"]["error"])
    return _row(name, before, before, f"no end within {MAX_SECONDS:.0f} s, see its log")


def _row(
    name: str, before: Mapping[str, Any], now: Mapping[str, Any], error: str
) -> dict[str, Any]:
    return {
        "plugin": before.get("plugin", name),
        "pid": before.get("pid"),
        "before": before.get("version"),
        "now": now.get("version"),
        "error": error,
    }


def _line(row: Mapping[str, Any]) -> str:
    if row["error"]:
        goes_on = f"version {row['now']} goes on: " if row["now"] else ""
        return f"{row['plugin']}  not upgraded, {goes_on}{row['error']}"
    return f"{row['plugin']}  upgraded from {row['before']} to {row['now']}, process {row['pid']}"
