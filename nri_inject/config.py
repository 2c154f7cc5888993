"""A plugin's configuration: one YAML document, the same for every plugin of the suite.

A runtime hands it over as drop-in text; started by hand a plugin reads it from a file.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar

from nri_inject import yamltext
from nri_inject.errors import ConfigError
from nri_inject.yamltext import Value

Section = TypeVar("Section", "Logger", "Differ")

UNRESTRICTED: Final = "unrestricted"


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
class Logger:
    """What the event logger writes; the words are explained in plugins.logger.

    `log_file` empty means standard output; `namespaces` and `pods` are patterns, none for all.
    """

    events: tuple[str, ...] = ("all",)
    format: Literal["yaml", "json"] = "yaml"
    log_file: str = ""
    namespaces: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    add_annotation: str = ""
    set_annotation: str = ""
    add_env: str = ""
    set_env: str = ""


@dataclass(frozen=True, slots=True)
class Differ:
    """What the container differ writes.

    `indices` are the places in the order of plugins where it looks; `log_file` empty means
    standard output; `unchanged` that containers that nobody changed are mentioned, too.
    """

    indices: tuple[str, ...] = ("00", "99")
    format: Literal["text", "json"] = "text"
    log_file: str = ""
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class ResourceAssigner:
    """Who gets which CPUs; the words are explained in plugins.resource_assigner.pools.

    `reserved` is a list of CPUs as the kernel writes it, or one CPU; `reserved_namespaces` and
    `beyond_requests` are patterns of namespaces' names.
    """

    reserved: str | int = ""
    reserved_namespaces: tuple[str, ...] = ("kube-system",)
    whole_cpus: bool = True
    beyond_requests: tuple[str, ...] = ()
    memory_nodes: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """What an admin decides.

    `policy` is who may inject what. The word "unrestricted" is the only one so far: whatever a
    pod asks for is given to it; None means that nothing was said, and has the same effect.
    `on_unsupported` says what becomes of a container that asks for something its runtime would
    drop in silence: it fails, or it starts without and a warning is logged. `unsafe_files` means
    that nobody asks who could have written CDI and hook files.
    """

    policy: Literal["unrestricted"] | None = None
    on_unsupported: Literal["fail", "warn"] = "fail"
    unsafe_files: bool = False
    cdi: Cdi = Cdi()
    hooks: Hooks = Hooks()
    logger: Logger = Logger()
    differ: Differ = Differ()
    resource_assigner: ResourceAssigner = ResourceAssigner()


# Whatever a second document says would be left unread, a policy for example.
_ONE_DOCUMENT: Final = dataclasses.replace(yamltext.SPEC_FILE, several=False)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a value must be, and how that is called."""

    holds: Callable[[Value], bool]
    what: str


def _is_line(value: Value) -> bool:
    return isinstance(value, str) and value.isprintable()


_LINE: Final = _Rule(_is_line, "text of one line")
_LINES: Final = _Rule(
    lambda value: isinstance(value, list) and all(map(_is_line, value)), "a list of texts"
)

_NUMBERS: Final = _Rule(
    lambda value: _is_line(value) or type(value) is int, "a list of CPUs, as in 0-1,8"
)

# Key -> the words that it may have, the type of its value, a rule, or the keys of its mapping.
_Keys: TypeAlias = "Mapping[str, tuple[str, ...] | type[bool | str | list[str]] | _Rule | _Keys]"
_KEYS: Final[_Keys] = {
    "policy": (UNRESTRICTED,),
    "on_unsupported": ("fail", "warn"),
    "unsafe_files": bool,
    "cdi": {"mode": ("resolve", "native"), "dirs": list},
    "hooks": {
        "dirs": list,
        "host_root": str,
        "bind_mounts": ("real", "any"),
        "empty_command": ("no-match", "fail"),
        "unusable_program": ("skip", "fail"),
        "present": ("drop", "keep"),
    },
    "logger": {
        "events": _LINES,
        "format": ("yaml", "json"),
        "log_file": str,
        "namespaces": _LINES,
        "pods": _LINES,
        "add_annotation": _LINE,
        "set_annotation": _LINE,
        "add_env": _LINE,
        "set_env": _LINE,
    },
    "differ": {
        "indices": _LINES,
        "format": ("text", "json"),
        "log_file": str,
        "unchanged": bool,
    },
    "resource_assigner": {
        "reserved": _NUMBERS,
        "reserved_namespaces": _LINES,
        "whole_cpus": bool,
        "beyond_requests": _LINES,
        "memory_nodes": bool,
    },
}

_SECTIONS: Final = {
    "cdi": Cdi,
    "hooks": Hooks,
    "logger": Logger,
    "differ": Differ,
    "resource_assigner": ResourceAssigner,
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
    for name, section in _SECTIONS.items():
        if name in sections:
            sections[name] = section(**_frozen(sections[name]))
    return Config(**sections)


def with_options(section: Section, own: Mapping[str, Any]) -> Section:
    """Let options that were given on the command line count before the configuration's."""
    return dataclasses.replace(section, **{name: value for name, value in own.items() if value})


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
        elif isinstance(known, _Rule):
            if not known.holds(value):
                yield f"{place}{key}: {value!r} is not {known.what}"
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


_CHECKS: Final[Mapping[type, tuple[Callable[[Value], bool], str]]] = {
    bool: (lambda value: isinstance(value, bool), "true or false"),
    str: (_is_path, "an absolute path"),
    list: (_are_paths, "a list of absolute paths"),
}
