"""Which runtime a node has, and what its configuration says of NRI."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any, Final

from nri_inject.capabilities import Version
from nri_inject.errors import ConfigError
from nri_inject.node import files
from nri_inject.node.layout import CONFIGURATIONS, DISTRIBUTIONS, PLUGINS, SOCKET, Distribution

CONTAINERD_KEY: Final = "io.containerd.nri.v1.nri"
_MAX_IMPORTS: Final = 100
_VERSION_SECONDS: Final = 5.0

# NRI's setting -> its key in containerd's table and in CRI-O's.
_KEYS: Final = {
    "socket": ("socket_path", "nri_listen"),
    "plugins": ("plugin_path", "nri_plugin_dir"),
    "configurations": ("plugin_config_path", "nri_plugin_config_dir"),
    "validator": ("default_validator", "default_validator"),
}
_CRIO_ENABLE: Final = {"nri_enable_default_validator": "enable"}


@dataclass(frozen=True, slots=True)
class Nri:
    """What a runtime's configuration says of NRI.

    `enabled` is None where the file does not say and the default depends on a release that we do
    not know. `imports` are the patterns of files that the configuration reads besides itself.
    """

    enabled: bool | None = None
    connections: bool = True
    socket: str = SOCKET
    plugins: str = PLUGINS
    configurations: str = CONFIGURATIONS
    validator: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A host as its file tree below `root` shows it, with its one runtime."""

    root: str
    distribution: Distribution
    nri: Nri
    release: Version | None = None


TomlDocument = Mapping[str, Any]


def found(root: str) -> list[Distribution]:
    """Return the distributions that have left their marks on a host.

    k3s and its like bring a containerd of their own; one in the usual place besides is another.
    """
    return [
        one
        for one in DISTRIBUTIONS
        if any(files.resolve(root, path).exists() for path in (one.config, *one.binaries))
    ]


def look(root: str = "/", *, name: str = "", config: str = "") -> Node:
    """Return the node of a host; ConfigError if it has no runtime, or several and no `name`.

    `config` is the runtime's configuration file where that is not the usual one.
    """
    distribution = _chosen(root, name)
    if config:
        distribution = Distribution(
            distribution.name,
            distribution.runtime,
            config,
            distribution.binaries,
            distribution.unit,
        )
    release = _release(root, distribution)
    return Node(
        root, distribution, nri_of(distribution, documents(root, distribution), release), release
    )


def _chosen(root: str, name: str) -> Distribution:
    if name:
        return next(one for one in DISTRIBUTIONS if one.name == name)
    here = found(root)
    if not here:
        known = ", ".join(one.name for one in DISTRIBUTIONS)
        raise ConfigError(f"no runtime found below {root}; choose one with --runtime ({known})")
    if len(here) > 1:
        names = ", ".join(one.name for one in here)
        raise ConfigError(f"several runtimes found: {names}; choose one with --runtime")
    return here[0]


def documents(root: str, distribution: Distribution) -> list[TomlDocument]:
    """Return what a runtime reads, in order: a later one wins. ConfigError for what is no TOML.

    containerd's imports are relative to the file that names them, and may import in turn.
    """
    read: list[TomlDocument] = []
    pending = [distribution.config]
    seen: set[str] = set()
    while pending and len(seen) < _MAX_IMPORTS:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        document = _toml(root, path)
        if document is not None:
            read.append(document)
            pending += _imported(root, path, document)
    for name in files.names(root, distribution.drop_ins) if distribution.drop_ins else ():
        document = _toml(root, f"{distribution.drop_ins}/{name}")
        if document is not None:
            read.append(document)
    return read


def _toml(root: str, path: str) -> TomlDocument | None:
    try:
        return tomllib.loads(files.read(root, path).decode())
    except FileNotFoundError:
        return None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are such
        raise ConfigError(f"{path}: {error}") from error


def import_patterns(path: str, document: TomlDocument) -> list[str]:
    """Return the absolute patterns that a containerd configuration imports."""
    given = document.get("imports", [])
    patterns = given if isinstance(given, list) else []
    return [str(PurePosixPath(path).parent / one) for one in patterns if isinstance(one, str)]


def _imported(root: str, path: str, document: TomlDocument) -> Iterable[str]:
    for pattern in import_patterns(path, document):
        directory, last = str(PurePosixPath(pattern).parent), PurePosixPath(pattern).name
        yield from (
            f"{directory}/{name}"
            for name in files.names(root, directory)
            if fnmatchcase(name, last)
        )


def nri_of(
    distribution: Distribution, read: Sequence[TomlDocument], release: Version | None = None
) -> Nri:
    """Return what documents say of NRI, with the runtime's defaults for what they don't.

    NRI is off in containerd before 2.0, and on from there and in CRI-O (docs/NRI.md of
    containerd 2.0, crio.conf(5) of CRI-O 1.30).
    """
    crio = distribution.runtime == "cri-o"
    table: dict[str, Any] = {}
    for document in read:
        table |= (
            _table(document, "crio", "nri") if crio else _table(document, "plugins", CONTAINERD_KEY)
        )
    if crio:
        enabled: bool | None = table.get("enable_nri", True) is True
        connections = table.get("nri_disable_connections") is not True
    else:
        enabled = _enabled(table, read, release)
        connections = table.get("disable_connections") is not True
    values = {name: table[keys[crio]] for name, keys in _KEYS.items() if keys[crio] in table}
    if crio and isinstance(values.get("validator"), dict):
        values["validator"] = _as_nri_says(values["validator"])
    return Nri(
        enabled=enabled,
        connections=connections,
        imports=tuple(
            pattern
            for document in read[:1]
            for pattern in import_patterns(distribution.config, document)
        ),
        **{name: value for name, value in values.items() if _fits(name, value)},
    )


def _as_nri_says(validator: Mapping[str, Any]) -> dict[str, Any]:
    """Return CRI-O's rules for NRI's default validator under NRI's own names (CRI-O 1.34)."""
    return {
        _CRIO_ENABLE.get(key, key.removeprefix("nri_validator_")): rule
        for key, rule in validator.items()
    }


def _enabled(
    table: Mapping[str, Any], read: Sequence[TomlDocument], release: Version | None
) -> bool | None:
    for document in read:
        switched_off = document.get("disabled_plugins", [])
        if isinstance(switched_off, list) and CONTAINERD_KEY in switched_off:
            return False
    if isinstance(table.get("disable"), bool):
        return not table["disable"]
    if release is not None:
        return release >= (2, 0, 0)
    # Only containerd 2 reads the third version of the format.
    return True if any(document.get("version") == 3 for document in read) else None


def _fits(name: str, value: object) -> bool:
    if name == "validator":
        return isinstance(value, Mapping)
    return isinstance(value, str) and value.startswith("/")


def _table(document: TomlDocument, *keys: str) -> Mapping[str, Any]:
    value: object = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _release(root: str, distribution: Distribution) -> Version | None:
    """Ask the runtime's executable; only on the host itself, since another's is not ours to run."""
    if root.rstrip("/"):
        return None
    for path in distribution.binaries:
        try:
            done = subprocess.run(  # noqa: S603 - a path of our own table
                [path, "--version"],
                capture_output=True,
                timeout=_VERSION_SECONDS,
                check=False,
                text=True,
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            continue
        if (release := release_in(done.stdout)) is not None:
            return release
    return None


def release_in(text: str) -> Version | None:
    """Return the first version in what a runtime prints of itself."""
    match = re.search(r"\bv?([0-9]+)\.([0-9]+)\.([0-9]+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
