"""Files that a command makes of the host's devices, once or for as long as it runs.

A file is replaced in one step and only if its content changes, so its readers are not woken.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import click

from nri_inject.host.devices import inventory
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.source import HostInventory
from nri_inject.node.files import make_directory, write
from nri_inject.service.options import DIR
from nri_inject.text.words import plain

root_option: Final = click.option(
    "--root",
    default="/",
    type=DIR,
    help="Directory of the host's /dev and /sys; default: /. Properties of udev are read"
    " for / only.",
)
"""The option of the host's directory."""


class Refusal(Exception):
    """Say why files cannot be made or written."""


class GeneratedFiles:
    """Files of a directory; `texts` makes them of devices, by file name, empty for no file.

    Each text begins with `mark`, and a file without it is another program's. `output` is the
    format of the reports: text or JSON.
    """

    def __init__(
        self,
        directory: str,
        mark: str,
        texts: Callable[[Inventory], Mapping[str, str]],
        output: str,
    ) -> None:
        self._directory = Path(directory)
        self._mark = mark
        self._texts = texts
        self._output = output

    def make(self, root: str) -> None:
        """Make the files, and report each; Refusal if that fails."""
        self._report(self._store(inventory.read(root)))

    def follow(self, root: str) -> None:
        """Make them again at each event of a device, until a signal ends it.

        Files that stay as they are are not reported.
        """
        with closing(HostInventory(root)) as source, _ended_by_sigterm() as signals:
            try:
                while True:
                    done = self._store(source.inventory())
                    self._report({word: done[word] for word in ("wrote", "removed")})
                    select.select([source.fileno(), signals], [], [])
            except KeyboardInterrupt:
                return

    def _report(self, done: Mapping[str, list[str]]) -> None:
        if self._output == "text":
            for word, files in done.items():
                for file in files:
                    click.echo(f"{word} {plain(file)}")
        elif any(done.values()):
            click.echo(json.dumps(done))

    def _store(self, found: Inventory) -> dict[str, list[str]]:
        """Bring the files up to date; return which were written, removed and left."""
        done: dict[str, list[str]] = {"wrote": [], "removed": [], "unchanged": []}
        try:
            make_directory(self._directory)
            for name, text in self._texts(found).items():
                file = self._directory / name
                before = self._own(file)
                if text and text != before:
                    write(file, text.encode(), 0o644)
                    done["wrote"].append(str(file))
                elif text:
                    done["unchanged"].append(str(file))
                elif before is not None:
                    file.unlink()
                    done["removed"].append(str(file))
        except OSError as error:
            where = plain(str(error.filename or self._directory))
            raise Refusal(f"{where}: {error.strerror}") from error
        return done

    def _own(self, file: Path) -> str | None:
        """Return the content of a file that this command wrote; None if there is none."""
        try:
            text = file.read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return None
        if not text.startswith(self._mark):
            raise Refusal(f"{plain(str(file))} was not written by this command; move it")
        return text


@contextmanager
def _ended_by_sigterm() -> Iterator[int]:
    """Take SIGTERM, with which services are ended, for an interrupt.

    Give a descriptor that can be read after a signal: one that comes just before a wait begins
    would not end it otherwise.
    """
    woken, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    woken_before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    try:
        yield woken
    finally:
        signal.set_wakeup_fd(woken_before)
        signal.signal(signal.SIGTERM, before)
        os.close(woken)
        os.close(tell)
