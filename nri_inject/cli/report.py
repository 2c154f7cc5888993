"""`nri-inject report`: one archive with what a maintainer asks for."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import click

from nri_inject.cli.doctor import examined, status_dir_option
from nri_inject.cli.install import host_options
from nri_inject.errors import ConfigError
from nri_inject.node.files import resolve
from nri_inject.node.report import Report, collect
from nri_inject.service import logs, terminal
from nri_inject.service.command import FAILED
from nri_inject.service.health import status
from nri_inject.service.options import FILE, Helped, format_option, show
from nri_inject.text.words import plain

STDOUT: Final = "-"


@click.command("report", cls=Helped, epilog="Example: nri-inject report --output report.tar.gz")
@click.option(
    "--output",
    "file",
    type=FILE,
    help="The archive, a file that does not exist yet; - is standard output."
    " nri-inject-report-TIME.tar.gz unless given.",
)
@host_options
@status_dir_option
@format_option
def command(
    *,
    file: str | None,
    root: str,
    runtime: str | None,
    runtime_config: str,
    status_dir: str | None,
    output: str,
) -> int:
    """Write one archive with the facts about this node that a maintainer asks for.

    It has versions, what doctor and status say, the plugins' configuration and policy, and the ends
    of their logs. Secrets are masked, and the archive is readable by its owner only. Read it before
    you send it. Ends with status 1 if the archive cannot be written.
    """
    logs.configure(verbosity=0)  # what is wrong is part of the report
    with terminal.progress("looking at the node"):
        said = status.ask_all(status_dir or str(resolve(root, status.directory())))
        try:
            seen, findings = examined(root, runtime, runtime_config, said)
            report = collect(root, said, seen, findings)
        except (ConfigError, OSError) as error:
            report = collect(root, said, None, str(error))
    data = report.archive()
    if file == STDOUT:
        sys.stdout.buffer.write(data)
        return 0
    path = file or time.strftime("nri-inject-report-%Y%m%d-%H%M%S.tar.gz", time.gmtime())
    try:
        _write(path, data)
    except OSError as error:
        terminal.show_error(f"cannot write {plain(path)}: {error.strerror}")
        return FAILED
    _show(path, report, output)
    return 0


def _write(path: str, data: bytes) -> None:
    """Write a file that does not exist yet, for its owner only; all of it or nothing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except BaseException:
        Path(path).unlink()
        raise


def _show(path: str, report: Report, output: str) -> None:
    document = {"file": path, "files": [*report.content], "left_out": report.left_out}
    lines = [f"left out {plain(one)}: {plain(why)}" for one, why in report.left_out.items()]
    lines.append(
        f"wrote {plain(path)}; read it before you send it: it has names of pods and paths of this"
        " node"
    )
    show(output, document, lines)
