"""The configuration file that a command line names, followed for every plugin."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from nri_inject.errors import ConfigError, Faulty
from nri_inject.host.follow import FollowedFile, Follower, FollowRule, ParsedFile
from nri_inject.service import config
from nri_inject.service.base import Options, with_options
from nri_inject.service.config import Config
from nri_inject.text import yamltext

RULE: Final = FollowRule(half_written=True, faulty=True, untrusted=True, gone=True)
"""The version of a configuration that counts while the newest one cannot be used."""


class ConfigFile:
    """The configuration in a file, with the values of the command line in place of its own.

    `on_change` is called with the file when it has changed; a Watch of the stub's loop.
    """

    def __init__(self, path: str, options: Options) -> None:
        self.path: Final = os.path.abspath(path)  # links stay
        self.on_change: Callable[[FollowedFile[Config]], None] | None = None
        self._options = options
        self._follower = Follower(
            self._parse,
            RULE,
            files=[self.path],
            max_size=yamltext.OUR_FILE.size,
            unsafe=options.unsafe_files,
            sealed=True,
        )
        self._follower.look()

    def current(self) -> Config:
        """Return the newest good version; ConfigError, or Faulty, if there has been none."""
        file = self._follower.files[self.path]
        if file.counts is None:
            if file.trouble == "faulty":
                raise Faulty(file.sentence)
            raise ConfigError(f"configuration: {file.sentence}")
        return file.counts

    def fileno(self) -> int:
        """Return a descriptor that can be read when the file may have changed."""
        return self._follower.fileno()

    def ready(self) -> None:
        """Read the file if it has changed, and call."""
        if self._follower.look() and self.on_change is not None:
            self.on_change(self._follower.files[self.path])

    def close(self) -> None:
        """Stop watching."""
        self._follower.close()

    def _parse(self, path: str, data: bytes) -> ParsedFile[Config]:
        try:
            return ParsedFile(with_options(config.read(data, path), self._options))
        except ConfigError as error:
            return ParsedFile(None, "faulty", str(error))
