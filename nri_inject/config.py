"""A plugin's configuration: one YAML document, the same for every plugin of the suite.

A runtime hands it over as drop-in text; started by hand a plugin reads it from a file.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar

from nri_inject import trust, yamltext
from nri_inject.errors import ConfigError
from nri_inject.yamltext import Value

if TYPE_CHECKING:  # read only where rules stand in the configuration itself
    from nri_inject.policy.rules import Policy

Section = TypeVar("Section", "Logger", "Differ")

UNRESTRICTED: Final = "unrestricted"


@dataclass(frozen=True, slots=True)
class Cdi:
    """How CDI devices are had.

    `mode` says who resolves names: we, or the runtime, which gets the names as they are. `dirs`
    are directories of spec files in rising priority, the standard's if empty.
    `container_annotations` says whether names that only the container's annotations have are
    judged by the policy like a pod's request, or trusted as the kubelet's.
    """

    mode: Literal["resolve", "native"] = "resolve"
    dirs: tuple[str, ...] = ()
    container_annotations: Literal["judge", "trust"] = "judge"


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

    `policy` is who may inject what: rules, a file of them, or the word "unrestricted", which
    gives every pod what it asks for; None means that nothing was said, and allows nothing.
    `audit` is where each decision is written down: the log, a file, or nowhere.
    `on_unsupported` says what becomes of a container that asks for something its runtime would
    drop in silence: it fails, or it starts without and a warning is logged. `unsafe_files` means
    that nobody asks who could have written the configuration, policy, CDI and hook files.
    `host_root` is where the
    host's device nodes and hook programs are seen, for a plugin that runs in a container.
    `metrics_address` is the `HOST:PORT` where Prometheus finds metrics, empty for none.
    """

    policy: Literal["unrestricted"] | File | Policy | None = None
    audit: Literal["log", "off"] | File = "log"
    on_unsupported: Literal["fail", "warn"] = "fail"
    unsafe_files: bool = False
    host_root: str = "/"
    metrics_address: str = ""
    cdi: Cdi = Cdi()
    hooks: Hooks = Hooks()
    validator: Validator = Validator()
    logger: Logger = Logger()
    differ: Differ = Differ()
    resource_assigner: ResourceAssigner = ResourceAssigner()


# Whatever a second document says would be left unread, a policy for example.
_ONE_DOCUMENT: Final = dataclasses.replace(yamltext.SPEC_FILE, several=False)


# --- what a value may be ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a value must be, and how that is called."""

    holds: Callable[[Value], bool]
    what: str


def _is_line(value: Value) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_path(value: Value) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value


def _is_address(value: Value) -> bool:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 1 << 16
    return bool(host and colon) and is_port and (":" not in host or host[0] + host[-1] == "[]")


_SWITCH: Final = _Rule(lambda value: isinstance(value, bool), "true or false")
_PATH: Final = _Rule(_is_path, "an absolute path")
_PATHS: Final = _Rule(
    lambda value: isinstance(value, list) and all(map(_is_path, value)), "a list of absolute paths"
)
_LINE: Final = _Rule(_is_line, "text of one line")
_LINES: Final = _Rule(
    lambda value: isinstance(value, list) and all(map(_is_line, value)), "a list of texts"
)
_ADDRESS: Final = _Rule(_is_address, "an address and a port, as in 127.0.0.1:9464")
_NUMBERS: Final = _Rule(
    lambda value: _is_line(value) or type(value) is int, "a list of CPUs, as in 0-1,8"
)


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


# Key -> the words that it may have, a rule, what reads it, or the keys of its mapping.
_Reader: TypeAlias = Callable[[Value], Any]
_Known: TypeAlias = tuple[str, ...] | _Rule | _Reader
_Keys: TypeAlias = "Mapping[str, _Known | _Keys]"
_KEYS: Final[_Keys] = {
    "policy": _policy,
    "audit": _audit,
    "on_unsupported": ("fail", "warn"),
    "unsafe_files": _SWITCH,
    "host_root": _PATH,
    "metrics_address": _ADDRESS,
    "cdi": {
        "mode": ("resolve", "native"),
        "dirs": _PATHS,
        "container_annotations": ("judge", "trust"),
    },
    "hooks": {
        "dirs": _PATHS,
        "host_root": _PATH,
        "bind_mounts": ("real", "any"),
        "empty_command": ("no-match", "fail"),
        "unusable_program": ("skip", "fail"),
        "present": ("drop", "keep"),
    },
    "validator": {
        "required_plugins": _LINES,
        "tolerate_missing_plugins_annotation": _LINE,
    },
    "logger": {
        "events": _LINES,
        "format": ("yaml", "json"),
        "log_file": _PATH,
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
        "log_file": _PATH,
        "unchanged": _SWITCH,
    },
    "resource_assigner": {
        "reserved": _NUMBERS,
        "reserved_namespaces": _LINES,
        "whole_cpus": _SWITCH,
        "beyond_requests": _LINES,
        "memory_nodes": _SWITCH,
    },
}

_SECTIONS: Final = {
    "cdi": Cdi,
    "hooks": Hooks,
    "validator": Validator,
    "logger": Logger,
    "differ": Differ,
    "resource_assigner": ResourceAssigner,
}


# --- reading ------------------------------------------------------------------------------------


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
    for name, read_it in (("policy", _policy), ("audit", _audit)):
        if name in sections:
            sections[name] = read_it(sections[name])
    for name, section in _SECTIONS.items():
        if name in sections:
            sections[name] = section(**_frozen(sections[name]))
    return Config(**sections)


def policy_of(text: str) -> Literal["unrestricted"] | File:
    """Return the policy that a command line names: a file, or the literal word."""
    return UNRESTRICTED if text == UNRESTRICTED else File(text)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def with_options(section: Section, own: Mapping[str, Any]) -> Section:
    """Let options that were given on the command line count before the configuration's."""
    return dataclasses.replace(section, **{name: value for name, value in own.items() if value})


def _frozen(section: Mapping[str, Value]) -> dict[str, Any]:
    return {key: _as_tuple(value) for key, value in section.items()}


def _faults(document: Mapping[str, Value], keys: _Keys, place: str) -> Iterator[str]:
    for key, value in document.items():
        known = keys.get(key)
        if known is None:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f", did you mean {near[0]!r}" if near else f", known are {', '.join(keys)}"
            yield f"{place}unknown key {key!r}{hint}"
        elif not isinstance(known, Mapping):
            if fault := _fault(key, value, known):
                yield f"{place}{fault}"
        elif isinstance(value, dict):
            yield from _faults(value, known, f"{place}{key}: ")
        else:
            yield f"{place}{key}: a mapping with {', '.join(known)} expected"


def _fault(key: str, value: Value, known: _Known) -> str:
    """Return what is wrong with a key's value, or nothing."""
    if isinstance(known, _Rule):
        return "" if known.holds(value) else f"{key}: {value!r} is not {known.what}"
    if isinstance(known, tuple):
        return "" if value in known else f"{key}: {value!r} is none of: {', '.join(known)}"
    try:
        known(value)
    except ConfigError as error:
        return str(error)
    return ""
