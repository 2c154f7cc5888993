"""The node that a command runs on, and what `try` and `policy check` take from it.

Its configuration, its policy and its runtime count where the command line names no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final

import click

from nri_inject import capabilities
from nri_inject.capabilities import Runtime, dotted
from nri_inject.cli.reading import Warn, read_bytes, read_policy
from nri_inject.errors import ConfigError
from nri_inject.node import files, gather, texts
from nri_inject.node.runtime import Node, look
from nri_inject.plugins.programs import PLUGIN_NAMES
from nri_inject.service import config
from nri_inject.service.health import status
from nri_inject.service.logs import one_line
from nri_inject.service.options import DIR, FILE, Decorator, together, unsafe_option
from nri_inject.text import yamltext
from nri_inject.text.yamltext import Value

ConfigDocument = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Here:
    """What a node says of itself; `notes` are sentences of its running plugins.

    `file` is the configuration of its plugins, as the command sees it, empty for none.
    """

    root: str = "/"
    file: str = ""
    runtime: Runtime | None = None
    notes: tuple[str, ...] = field(default=())


def look_here(root: str = "/") -> Here:
    """Look at the node whose file tree is below `root`; one without a runtime says nothing."""
    try:
        node = look(root)
        paths = gather.configurations(node, PLUGIN_NAMES)
    except (ConfigError, OSError):
        alone = files.resolve(root, texts.CONFIG_FILE)  # of a service beside an unknown runtime
        return Here(root, str(alone) if alone.exists() else "")
    said = status.ask_all(str(files.resolve(root, status.directory())))
    notes = [note for one in said.values() if one for note in one.get("notes", ())]
    file = str(files.resolve(root, paths[0])) if paths else ""
    return Here(root, file, _runtime(node), tuple(dict.fromkeys(notes)))


def _runtime(node: Node) -> Runtime | None:
    if node.release is None:
        return None
    return capabilities.identify(node.distribution.runtime, dotted(node.release))


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeOptions:
    """What counts in place of the node's own files, as the command line says it."""

    config: str | None = None
    policy: str | None = None
    cdi_dirs: tuple[str, ...] = ()
    hooks_dirs: tuple[str, ...] = ()
    unsafe: bool = False
    root: str = "/"


def node_options(policy_help: str) -> Decorator:
    """Give a command these options; it gets their values as `node`."""
    directories = partial(click.option, multiple=True, type=DIR, help="As for the plugins.")
    root = "The node's file tree, whose configuration counts unless another is given; /."
    options = (
        click.option("--config", type=FILE, help="The plugins' configuration (YAML)."),
        click.option("--policy", type=FILE, help=policy_help),
        directories("--cdi-dir", "cdi_dirs"),
        directories("--hooks-dir", "hooks_dirs"),
        unsafe_option,
        click.option("--root", default="/", type=DIR, help=root),
    )

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def command(**given: Any) -> int:
            own = {option.name: given.pop(option.name) for option in fields(NodeOptions)}
            return function(node=NodeOptions(**own), **given)

        return together(*options)(command)

    return decorate


def show_here(here: Here, document: Mapping[str, Value], runtime: Runtime, *, quiet: bool) -> None:
    """Print what is taken from the node, on standard error."""
    for line in () if quiet else _lines(here, document, runtime):
        click.echo(one_line(f"Node: {line}"), err=True)


def _lines(here: Here, document: Mapping[str, Value], runtime: Runtime) -> Iterator[str]:
    if here.file:
        policy = document.get("policy")
        shown = policy.get("file", "") if isinstance(policy, dict) else ""
        parts = [f"runtime {runtime.name} {runtime.version}", f"configuration {here.file}"]
        yield ", ".join([*parts, *([f"policy {shown}"] if shown else [])])
    yield from here.notes


_SUITE_ALONE: Final = "configuration"


def document_of(here: Here, given: NodeOptions, warn: Warn) -> ConfigDocument:
    """Return the plugins' configuration as a runtime would hand it over.

    That of the command line counts, else the node's. ConfigError for what cannot be read, Faulty
    for what has a fault, the policy's file included.
    """
    file, policy, unsafe = given.config or here.file, given.policy, given.unsafe
    document = _read(file, unsafe=unsafe, warn=warn) if file else {}
    if policy is not None:
        document["policy"] = (
            config.UNRESTRICTED if policy == config.UNRESTRICTED else {"file": policy}
        )
    _check(document, file or _SUITE_ALONE)
    path = _policy_file(document)
    if path:
        where = path if policy is not None or given.config else str(files.resolve(here.root, path))
        _, is_trusted = read_policy(where, unsafe=unsafe, warn=warn)
        document["policy"] = {"file": str(Path(where).absolute())} if is_trusted else _loaded(where)
    document["log"] = "stderr"  # nothing of the host is changed
    if isinstance(document.get("audit"), dict):
        document["audit"] = "off"
    if unsafe:
        document["unsafe_files"] = True
    for section, directories in (("cdi", given.cdi_dirs), ("hooks", given.hooks_dirs)):
        if directories:
            absolute: Value = [str(Path(directory).absolute()) for directory in directories]
            before = document.get(section)
            document[section] = {**(before if isinstance(before, dict) else {}), "dirs": absolute}
    return document


def _read(file: str, *, unsafe: bool, warn: Warn) -> ConfigDocument:
    limit = yamltext.OUR_FILE.size
    data, _ = read_bytes(file, limit, unsafe=unsafe, warn=warn)
    return config.read_document(data, file)


def _check(document: Mapping[str, Value], source: str) -> None:
    # The policy's path may be relative on a command line.
    config.checked({**document, **_absolute(document)}, source)


def _absolute(document: Mapping[str, Value]) -> ConfigDocument:
    path = _policy_file(document)
    return {"policy": {"file": str(Path(path).absolute())}} if path else {}


def _policy_file(document: Mapping[str, Any]) -> str:
    policy = document.get("policy")
    path = policy.get("file", "") if isinstance(policy, dict) else ""
    return path if isinstance(path, str) else ""


def _loaded(file: str) -> Value:
    """Return the rules of a file that a plugin would refuse, to be handed over in its place."""
    rules = yamltext.load(Path(file).read_bytes(), yamltext.OUR_FILE)
    return {"rules": []} if rules is None else rules
