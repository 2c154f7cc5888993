"""A plugin's configuration: one YAML document, the same for every plugin of the suite.

A runtime hands it over as drop-in text; started by hand a plugin reads it from a file.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from nri_inject import yamltext
from nri_inject.errors import ConfigError
from nri_inject.yamltext import Value

UNRESTRICTED: Final = "unrestricted"


class Address(str):
    """`HOST:PORT`, an IPv6 address in brackets; the kind of value, for the table of keys."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Cdi:
    """How CDI devices are had.

    `mode` says who resolves names: we, or the runtime, which gets the names as they are. `dirs`
    are directories of spec files in rising priority, the standard's if empty.
    """

    mode: Literal["resolve", "native"] = "resolve"
    dirs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hooks:
    """How OCI hooks are had; the words are explained where they act, in oci_hooks.match.

    `dirs` are directories of hook files in rising priority, the standard's if empty; `host_root`
    is where the host's files are seen, for a plugin that runs in a container.
    """

    dirs: tuple[str, ...] = ()
    host_root: str = "/"
    bind_mounts: Literal["real", "any"] = "real"
    empty_command: Literal["no-match", "fail"] = "no-match"
    unusable_program: Literal["skip", "fail"] = "skip"
    present: Literal["drop", "keep"] = "drop"


@dataclass(frozen=True, slots=True)
class Config:
    """What an admin decides.

    `policy` is who may inject what. The word "unrestricted" is the only one so far: whatever a
    pod asks for is given to it; None means that nothing was said, and has the same effect.
    `on_unsupported` says what becomes of a container that asks for something its runtime would
    drop in silence: it fails, or it starts without and a warning is logged. `unsafe_files` means
    that nobody asks who could have written CDI and hook files. `host_root` is where the
    host's device nodes and hook programs are seen, for a plugin that runs in a container.
    `metrics_address` is the `HOST:PORT` where Prometheus finds metrics, empty for none.
    """

    policy: Literal["unrestricted"] | None = None
    on_unsupported: Literal["fail", "warn"] = "fail"
    unsafe_files: bool = False
    host_root: str = "/"
    metrics_address: str = ""
    cdi: Cdi = Cdi()
    hooks: Hooks = Hooks()


# Whatever a second document says would be left unread, a policy for example.
_ONE_DOCUMENT: Final = dataclasses.replace(yamltext.SPEC_FILE, several=False)

# Key -> the words that it may have, the type of its value, or the keys of its mapping.
_Keys: TypeAlias = "Mapping[str, tuple[str, ...] | type[bool | str | list[str]] | _Keys]"
_KEYS: Final[_Keys] = {
    "policy": (UNRESTRICTED,),
    "on_unsupported": ("fail", "warn"),
    "unsafe_files": bool,
    "host_root": str,
    "metrics_address": Address,
    "cdi": {"mode": ("resolve", "native"), "dirs": list},
    "hooks": {
        "dirs": list,
        "host_root": str,
        "bind_mounts": ("real", "any"),
        "empty_command": ("no-match", "fail"),
        "unusable_program": ("skip", "fail"),
        "present": ("drop", "keep"),
    },
}


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
    faults = list(_faults(document, _KEYS, ""))
    if faults:
        raise ConfigError(f"{source}: {'; '.join(faults)}")
    sections: dict[str, Any] = dict(document)
    for name, section in (("cdi", Cdi), ("hooks", Hooks)):
        if name in sections:
            sections[name] = section(**_frozen(sections[name]))
    return Config(**sections)


def _frozen(section: Mapping[str, Value]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in section.items()
    }


def _faults(document: Mapping[str, Value], keys: _Keys, place: str) -> Iterator[str]:
    for key, value in document.items():
        known = keys.get(key)
        if known is None:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f", did you mean {near[0]!r}" if near else f", known are {', '.join(keys)}"
            yield f"{place}unknown key {key!r}{hint}"
        elif isinstance(known, Mapping):
            if isinstance(value, dict):
                yield from _faults(value, known, f"{place}{key}: ")
            else:
                yield f"{place}{key}: a mapping with {', '.join(known)} expected"
        elif isinstance(known, tuple):
            if value not in known:
                yield f"{place}{key}: {value!r} is none of: {', '.join(known)}"
        else:
            is_so, what = _CHECKS[known]
            if not is_so(value):
                yield f"{place}{key}: {value!r} is not {what}"


def _is_path(value: Value) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value


def _are_paths(value: Value) -> bool:
    return isinstance(value, list) and all(map(_is_path, value))


def _is_address(value: Value) -> bool:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 1 << 16
    return bool(host and colon) and is_port and (":" not in host or host[0] + host[-1] == "[]")


_CHECKS: Final[Mapping[type, tuple[Callable[[Value], bool], str]]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    str: (_is_path, "an absolute path"),
    list: (_are_paths, "a list of absolute paths"),
    Address: (_is_address, "an address and a port, as in 127.0.0.1:9464"),
}
