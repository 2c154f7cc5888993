"""A plugin's configuration: one YAML document, the same for every plugin of the suite.

A runtime hands it over as drop-in text; started by hand a plugin reads it from a file.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from nri_inject import trust, yamltext
from nri_inject.annotations import Fault, Field, list_of, map_of, read_line
from nri_inject.errors import ConfigError
from nri_inject.yamltext import Value

if TYPE_CHECKING:  # read only where rules stand in the configuration itself
    from nri_inject.policy.rules import Policy

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
class Validator:
    """What the policy validator asks beside the policy.

    A required plugin is given as `name` or as `NN-name`; a pod's annotation of the key
    `tolerate_missing_plugins_annotation` lets it do without.
    """

    required_plugins: tuple[str, ...] = ()
    tolerate_missing_plugins_annotation: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the node, by its path."""

    path: str


@dataclass(frozen=True, slots=True)
class Config:
    """What an admin decides.

    `policy` is who may inject what: rules, a file of them, or the word "unrestricted", which
    gives every pod what it asks for; None means that nothing was said, and allows nothing.
    `audit` is where each decision is written down: the log, a file, or nowhere.
    `on_unsupported` says what becomes of a container that asks for something its runtime would
    drop in silence: it fails, or it starts without and a warning is logged. `unsafe_files` means
    that nobody asks who could have written the configuration, policy, CDI and hook files.
    """

    policy: Literal["unrestricted"] | File | Policy | None = None
    audit: Literal["log", "off"] | File = "log"
    on_unsupported: Literal["fail", "warn"] = "fail"
    unsafe_files: bool = False
    cdi: Cdi = Cdi()
    hooks: Hooks = Hooks()
    validator: Validator = Validator()


# Whatever a second document says would be left unread, a policy for example.
_ONE_DOCUMENT: Final = dataclasses.replace(yamltext.SPEC_FILE, several=False)

# Key -> the words that it may have, the type of its value, or the keys of its mapping. What
# _READERS has is read apart.
_Keys: TypeAlias = "Mapping[str, tuple[str, ...] | type[bool | str | list[str] | object] | _Keys]"
_KEYS: Final[_Keys] = {
    "policy": object,
    "audit": object,
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
    "validator": object,
}


def read(text: str | bytes, source: str) -> Config:
    """Read a configuration's text; an empty one is the default.

    Raises ConfigError, with all faults, for a text that is no YAML mapping, a key that no
    plugin of the suite knows, and a value that the key cannot have. `source` names the text.
    """
    return checked(read_document(text, source), source)


def read_file(path: str, *, unsafe: bool = False) -> Config:
    """Read a configuration file; ConfigError if that fails for any reason.

    One that others could have written is not believed, unless `unsafe`.
    """
    return read(read_bytes(path, unsafe=unsafe), path)


def read_bytes(path: str, *, unsafe: bool = False) -> bytes:
    """Return a file's content, a byte more than is allowed at most; ConfigError as `read_file`."""
    try:
        return trust.read(path, _ONE_DOCUMENT.size + 1, unsafe=unsafe)
    except trust.Untrusted as error:
        raise ConfigError(f"configuration {path}: {error}; it is not believed") from error
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
    for name in _READERS.keys() & document.keys():
        sections[name] = _READERS[name](document[name])
    for name, section in (("cdi", Cdi), ("hooks", Hooks)):
        if name in sections:
            sections[name] = section(**_frozen(sections[name]))
    return Config(**sections)


def policy_of(text: str) -> Literal["unrestricted"] | File:
    """Return the policy that a command line names: a file, or the literal word."""
    return UNRESTRICTED if text == UNRESTRICTED else File(text)


def _policy(value: Value) -> Literal["unrestricted"] | File | Policy:
    if value == UNRESTRICTED:
        return UNRESTRICTED
    if isinstance(value, dict) and "file" in value:
        return _file(value, "policy")
    if not isinstance(value, dict):
        raise ConfigError(
            f"policy: {value!r} is none of: the word {UNRESTRICTED}, {{file: PATH}},"
            " or rules as in docs/allow-a-device.md"
        )
    from nri_inject.policy import document

    return document.checked(value, "policy", "this node's policy")


def _audit(value: Value) -> Literal["log", "off"] | File:
    if value == "log" or value is None:
        return "log"
    if value == "off" or value is False:  # YAML makes false of the word
        return "off"
    if isinstance(value, dict):
        return _file(value, "audit")
    raise ConfigError(f"audit: {value!r} is none of: log, off, {{file: PATH}}")


def _file(value: Mapping[str, Value], name: str) -> File:
    path = value.get("file")
    if [*value] != ["file"] or not _is_path(path):
        raise ConfigError(
            f"{name}: {{file: PATH}} with an absolute path expected, and no other key"
        )
    return File(str(path))


def _validator(value: Value) -> Validator:
    try:
        given = _VALIDATOR(value)
    except Fault as fault:
        raise ConfigError("; ".join(fault.at("validator"))) from fault
    return Validator(**{key: _as_tuple(item) for key, item in given.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_VALIDATOR: Final = map_of(
    (
        Field("required_plugins", list_of(read_line)),
        Field("tolerate_missing_plugins_annotation", read_line),
    )
)

_READERS: Final[Mapping[str, Callable[[Value], Any]]] = {
    "policy": _policy,
    "audit": _audit,
    "validator": _validator,
}


def _frozen(section: Mapping[str, Value]) -> dict[str, Any]:
    return {key: _as_tuple(value) for key, value in section.items()}


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
        elif known is object:
            try:
                _READERS[key](value)
            except ConfigError as error:
                yield str(error)
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
