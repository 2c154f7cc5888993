"""A plugin's configuration: one YAML document, the same for every plugin of the suite.

A runtime hands it over as drop-in text; started by hand a plugin reads it from a file.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from nri_inject import yamltext
from nri_inject.errors import ConfigError
from nri_inject.yamltext import Value

UNRESTRICTED: Final = "unrestricted"


@dataclass(frozen=True, slots=True)
class Config:
    """What an admin decides.

    `policy` is who may inject what. The word "unrestricted" is the only one so far: whatever a
    pod asks for is given to it; None means that nothing was said, and has the same effect.
    `on_unsupported` says what becomes of a container that asks for something its runtime would
    drop in silence: it fails, or it starts without and a warning is logged.
    """

    policy: Literal["unrestricted"] | None = None
    on_unsupported: Literal["fail", "warn"] = "fail"


# Whatever a second document says would be left unread, a policy for example.
_ONE_DOCUMENT: Final = dataclasses.replace(yamltext.SPEC_FILE, several=False)

_WORDS: Final = {"policy": (UNRESTRICTED,), "on_unsupported": ("fail", "warn")}


def read(text: str | bytes, source: str) -> Config:
    """Read a configuration's text; an empty one is the default.

    Raises ConfigError, with all faults, for a text that is no YAML mapping, a key that no
    plugin of the suite knows, and a value that the key cannot have. `source` names the text.
    """
    return checked(read_document(text, source), source)


def read_file(path: str) -> Config:
    """Read a configuration file; ConfigError if that fails for any reason."""
    return read(read_bytes(path), path)


def read_bytes(path: str) -> bytes:
    """Return a file's content, a byte more than is allowed at most; ConfigError if it can't."""
    try:
        with Path(path).open("rb") as file:
            return file.read(_ONE_DOCUMENT.size + 1)
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error


def read_document(text: str | bytes, source: str) -> dict[str, Value]:
    """Return the mapping that a text is, none of its values checked; ConfigError if it is none."""
    try:
        document = yamltext.load(text, _ONE_DOCUMENT)
    except yamltext.YamlError as error:
        raise ConfigError(f"{source}: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(
            f"{source}: a mapping of keys to values expected, as in `policy: {UNRESTRICTED}`"
        )
    return document


def checked(document: Mapping[str, Value], source: str) -> Config:
    """Return the configuration that a document is; ConfigError with everything wrong in it."""
    faults = [fault for key, value in document.items() for fault in _faults(key, value)]
    if faults:
        raise ConfigError(f"{source}: {'; '.join(faults)}")
    return Config(**document)  # type: ignore[arg-type]  # _faults has looked at each value


def _faults(key: str, value: Value) -> list[str]:
    words = _WORDS.get(key)
    if words is None:
        near = difflib.get_close_matches(key, _WORDS, n=1)
        hint = f", did you mean {near[0]!r}" if near else f", known are {', '.join(_WORDS)}"
        return [f"unknown key {key!r}{hint}"]
    if value not in words:
        return [f"{key}: {value!r} is none of: {', '.join(words)}"]
    return []
