"""The files that commands are asked about: manifests of pods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from nri_inject.errors import ConfigError
from nri_inject.runtime import manifests
from nri_inject.runtime.manifests import Planned


def planned_in(files: Iterable[str]) -> Iterator[Planned]:
    """Yield the containers that manifests describe; ConfigError for what cannot be read."""
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read manifest {file}: {reason(error)}") from error
        yield from manifests.read(text, file)


def reason(error: Exception) -> str:
    """Return an error's text in one line, without the path that the message already begins with."""
    text = isinstance(error, OSError) and error.strerror
    return text or " ".join(str(error).split())
