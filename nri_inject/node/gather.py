"""The facts for `doctor`, gathered from a node: files, statuses, the runtime's configuration.

It connects to no socket of a runtime: a runtime accepts connections one after the other, so a
silent one would delay all others for seconds (NRI, pkg/adaptation).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from nri_inject import capabilities
from nri_inject.capabilities import Runtime
from nri_inject.cdi import lint, registry
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.errors import ConfigError
from nri_inject.hooks.registry import DIRECTORIES, EXTENSIONS, HookRegistry
from nri_inject.host import trust
from nri_inject.host.nodes import HostDevices, HostFiles
from nri_inject.host.programs import program_warning
from nri_inject.host.unread import unread
from nri_inject.node import files, record, starters, texts
from nri_inject.node.record import InstalledPath
from nri_inject.node.runtime import Node
from nri_inject.service import config
from nri_inject.text.yamltext import Value

_LISTENS: Final = 0x10000  # __SO_ACCEPTCON of Linux, in the flags of /proc/net/unix


@dataclass(frozen=True, slots=True)
class PluginFile:
    """An entry of the plugin directory that a runtime would launch or stumble over."""

    name: str
    path: str
    executable: bool
    dangling: bool
    unsafe: str | None
    ours: bool


@dataclass(frozen=True, slots=True)
class Gathered:
    """All that the checks look at.

    `documents` are the plugins' configurations by path, each its mapping or what is wrong with
    it; `statuses` what our running plugins say of themselves, None for one that does not answer.
    """

    node: Node
    plugins: Sequence[PluginFile] = ()
    installed: Sequence[InstalledPath] = ()
    documents: Mapping[str, Mapping[str, Value] | str] = field(default_factory=dict)
    statuses: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    starters: Sequence[tuple[str, str]] = ()
    """What starts plugins of ours, by any way: path, and the plugin's name."""
    cdi_errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cdi_absent: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What CDI specs name and this host does not have, by file."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Files in the directories of CDI specs and hooks that no program reads, and why."""
    hook_errors: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unsafe: Mapping[str, str] = field(default_factory=dict)
    socket: str = ""
    """What is wrong with the NRI socket; empty if nothing is."""

    @property
    def ours(self) -> list[PluginFile]:
        """The plugins of ours that the runtime launches."""
        return [plugin for plugin in self.plugins if plugin.ours]

    @property
    def external(self) -> bool:
        """Whether a unit of ours connects to the socket by itself."""
        return any(entry.path.startswith(record.UNITS) for entry in self.installed)

    @property
    def runtime(self) -> Runtime | None:
        """The runtime as far as its release is known."""
        if self.node.release is None:
            return None
        return capabilities.identify(
            self.node.distribution.runtime, capabilities.dotted(self.node.release)
        )


def gather(
    node: Node,
    known: Sequence[str],
    statuses: Mapping[str, Mapping[str, Any] | None],
    *,
    cdi_dirs: Sequence[str] = (),
    hooks_dirs: Sequence[str] = (),
) -> Gathered:
    """Look at a node; `known` are the names of our plugins. ConfigError if it can't be looked at.

    Directories of CDI specs and hooks are those of the configuration unless given.
    """
    installed = record.recorded(node.root)
    links = {entry.path for entry in installed if entry.kind == "link"}
    plugins = [*_plugin_files(node, known, links)]
    paths = _configuration_paths(node, plugins, installed)
    documents = {path: read_configuration(node.root, path) for path in paths}
    settings = _settings(documents)
    cdi = [*(cdi_dirs or settings.cdi.dirs or registry.DEFAULT_DIRECTORIES)]
    hooks = [*(hooks_dirs or settings.hooks.dirs or DIRECTORIES)]
    cdi_errors, cdi_absent = _cdi_faults(node.root, cdi)
    return Gathered(
        node=node,
        plugins=plugins,
        installed=installed,
        documents=documents,
        statuses=statuses,
        starters=[*starters.starters(node)],
        cdi_errors=cdi_errors,
        cdi_absent=cdi_absent,
        hook_errors=_hook_errors(node.root, hooks),
        unread={
            path: why
            for directories, endings in ((cdi, registry.EXTENSIONS), (hooks, EXTENSIONS))
            for directory in directories
            for path, why in unread(str(files.resolve(node.root, directory)), endings)
        },
        unsafe={path: why for path in paths if (why := trust.untrusted(path, root=node.root))},
        socket=_socket_fault(node),
    )


def _plugin_files(node: Node, known: Sequence[str], links: set[str]) -> Iterator[PluginFile]:
    for name in files.names(node.root, node.nri.plugins):
        path = f"{node.nri.plugins}/{name}"
        where = files.resolve_parent(node.root, path)
        end = files.resolve(node.root, path)
        status = where.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        yield PluginFile(
            name=name,
            path=path,
            # A runtime judges a link by the link's own bits, which are all set.
            executable=bool(status.st_mode & 0o111),
            dangling=not end.exists(),
            unsafe=trust.untrusted(path, root=node.root) if end.exists() else None,
            ours=path in links or name[3:] in known,
        )


def configurations(node: Node, known: Sequence[str]) -> list[str]:
    """Return the files that our plugins on a node are configured by, by their paths there."""
    installed = record.recorded(node.root)
    links = {entry.path for entry in installed if entry.kind == "link"}
    return _configuration_paths(node, [*_plugin_files(node, known, links)], installed)


def _configuration_paths(
    node: Node, plugins: Sequence[PluginFile], installed: Sequence[InstalledPath]
) -> list[str]:
    """Return the files that our plugins are configured by: NRI's rule, and our record."""
    paths = [entry.path for entry in installed if entry.path == texts.CONFIG_FILE]
    for plugin in plugins:
        candidates = (f"{plugin.name}.conf", f"{plugin.name[3:]}.conf") if plugin.ours else ()
        for candidate in candidates:
            path = f"{node.nri.configurations}/{candidate}"
            if files.resolve(node.root, path).exists():
                paths.append(path)
                break
    return paths


def read_configuration(root: str, path: str) -> Mapping[str, Value] | str:
    """Return the mapping that a plugin's configuration is, or the sentence of its fault."""
    try:
        return config.read_document(files.read(root, path), path)
    except (ConfigError, FileNotFoundError) as error:
        return str(error)


def _settings(documents: Mapping[str, Mapping[str, Value] | str]) -> config.Config:
    for path, document in documents.items():
        if not isinstance(document, str):
            try:
                return config.checked(document, path)
            except ConfigError:
                continue
    return config.Config()


_Sentences: TypeAlias = Mapping[str, Sequence[str]]


def _cdi_faults(root: str, directories: Sequence[str]) -> tuple[_Sentences, _Sentences]:
    """Return the errors of CDI specs by file, and what they name and this host does not have."""
    where = [str(files.resolve(root, path)) for path in directories]
    with closing(CdiRegistry(where, watched=False)) as found:
        specs = found.current()
    # A root that is only a file tree has no nodes.
    has_nodes = files.resolve(root, "/dev/null").exists()
    devices, paths = HostDevices(root) if has_nodes else None, HostFiles(root)
    runs = partial(program_warning, root=root)
    absent = {
        file.path: [problem.sentence for problem in lint.absent(file.spec, devices, paths, runs)]
        for file in specs.files
        if file.spec is not None
    }
    return specs.errors, absent


def _hook_errors(root: str, directories: Sequence[str]) -> _Sentences:
    with closing(HookRegistry(directories, host_root=root)) as found:
        return found.errors


def _socket_fault(node: Node) -> str:
    """Say what is wrong with the NRI socket, without connecting to it."""
    where = files.resolve(node.root, node.nri.socket)
    try:
        status = where.stat()
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if not stat.S_ISSOCK(status.st_mode):
        return "is not a socket"
    if not os.access(where, os.R_OK | os.W_OK):
        return "refuses the connection: permission denied"
    if not node.root.rstrip("/") and not _is_listening(where):
        return "no process listens on it; a stopped runtime left it behind"
    return ""


def _is_listening(where: Path) -> bool:
    """Tell whether the kernel knows a listener of that path; /proc/net/unix, see proc(5).

    A runtime may have bound it by another name, /var/run being a link to /run.
    """
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]
    except OSError:
        return True
    rows = [parts for line in lines if len(parts := line.split(maxsplit=7)) == 8]
    return any(
        int(flags, 16) & _LISTENS and str(files.resolve("/", path)) == str(where)
        for *_, flags, _type, _state, _inode, path in rows
        if path.startswith("/")
    )
