"""Warnings of `nri-inject cdi validate` and `list`: specs that work, and not as they are meant.

`warnings` looks at a spec alone. `absent` looks for the nodes, files and programs that it names,
because a container fails where one of them is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from nri_inject.cdi.records import Edits, Mount, Spec, SpecNode
from nri_inject.host import hook_environment
from nri_inject.host.model import DeviceNode as HostNode
from nri_inject.host.model import HostPath, NotADevice, ProcLinkError
from nri_inject.text import modes
from nri_inject.text.fields import Problem
from nri_inject.text.flow import flow
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamltext import Path

_NO_ENV: Final = (
    f"the hook has no env, so nri-inject passes only {hook_environment.PATH}; a runtime"
    " that reads this file itself, as in mode native, may pass the"
    " container's variables, such as LD_PRELOAD"
)

_ABSENT: Final = " does not exist"
_UNSEEN: Final = "is not visible to the plugin"  # and so may be there
_LIST: Final = "list the nodes, or use nri-inject cdi generate"
_PATTERN: Final = re.compile(r"[*?]|\[.*\]|\{.*[,.].*\}")
# These are directories on every host that has them.
_DIRECTORIES: Final = frozenset(
    f"/dev{path}"
    for path in (
        *("", "/bus", "/bus/usb", "/char", "/block", "/disk", "/dri", "/dri/by-path", "/dvb"),
        *("/hugepages", "/infiniband", "/input", "/mapper", "/media", "/net", "/pts", "/serial"),
        *("/serial/by-id", "/serial/by-path", "/shm", "/snd", "/v4l", "/v4l/by-id", "/vfio"),
    )
)


def warnings(spec: Spec) -> Iterator[Problem]:
    """Return a warning for each part of a spec that works, and hardly as it is meant."""
    for place, edits in _all_edits(spec):
        yield from _of_edits(edits, place)


def absent(
    spec: Spec,
    devices: Mapping[str, HostNode] | None,
    files: Mapping[str, HostPath],
    program_warning: Callable[[str], str | None],
) -> Iterator[Problem]:
    """Return a warning for each node, file and program of a spec that the host does not have.

    `devices` and `files` are the host's, None for nodes that cannot be seen; `program_warning`
    says why a program there does not run.
    Each path has one warning, however often it is named.
    """
    seen: set[str] = set()
    for place, edits in _all_edits(spec):
        for key, part, why in _absent_of_edits(edits, devices, files, program_warning):
            if why not in seen:
                seen.add(why)
                yield Problem("absent", (*place, key, part), why, warning=True)


def hint(path: str) -> str:
    """Say why a path can be no device node, if its text shows it; empty text otherwise."""
    if _PATTERN.search(path):
        return f"CDI has no patterns; {_LIST}"
    if path.endswith("/") or path in _DIRECTORIES:
        return f"CDI has no directories of nodes; {_LIST}"
    return ""


def groups(gids: Sequence[int]) -> str:
    """Say what containers need that are not root, for groups that NRI cannot give them."""
    return (
        f"NRI cannot add groups to a container: one that is not root needs"
        f" {supplemental(gids)} in the pod's securityContext"
    )


def supplemental(gids: Sequence[int]) -> str:
    """Return the line of a pod's securityContext that gives it these groups."""
    return f"supplementalGroups: [{', '.join(map(str, gids))}]"


def _all_edits(spec: Spec) -> Iterator[tuple[Path, Edits]]:
    yield ("containerEdits",), spec.edits
    for number, device in enumerate(spec.devices):
        yield ("devices", number, "containerEdits"), device.edits


def _of_edits(edits: Edits, place: Path) -> Iterator[Problem]:
    for number, hook in enumerate(edits.hooks):
        if not hook.env:
            path = (*place, "hooks", number)
            yield Problem("hook-without-env", path, _NO_ENV, warning=True)
    for number, node in enumerate(edits.device_nodes):
        source = node.host_path or node.path
        if why := hint(source):
            path = (*place, "deviceNodes", number)
            yield Problem("no-node", path, f"{quoted(source)}: {why}", warning=True)
        meant = None if node.file_mode is None else modes.decimal_mode(node.file_mode)
        if meant is not None:
            path = (*place, "deviceNodes", number, "fileMode")
            wanted = f"{flow(meant)} in YAML, {int(meant)} in JSON"
            sentence = f"{node.file_mode} is decimal (0{node.file_mode:o}); write {wanted}"
            yield Problem("decimal-mode", path, sentence, warning=True)
    for number, mount in enumerate(edits.mounts):
        if _PATTERN.search(mount.host_path):
            sentence = f"{quoted(mount.host_path)}: CDI has no patterns; list the files"
            yield Problem("no-file", (*place, "mounts", number), sentence, warning=True)
    if gids := tuple(dict.fromkeys(gid for gid in edits.additional_gids if gid)):
        yield Problem("groups", (*place, "additionalGids"), groups(gids), warning=True)


_Absent = tuple[str, int, str]


def _absent_of_edits(
    edits: Edits,
    devices: Mapping[str, HostNode] | None,
    files: Mapping[str, HostPath],
    program_warning: Callable[[str], str | None],
) -> Iterator[_Absent]:
    if devices is not None:
        for number, node in enumerate(edits.device_nodes):
            if why := _absent_node(node, devices):
                yield "deviceNodes", number, why
    for number, mount in enumerate(edits.mounts):
        if is_bind(mount) and (why := absent_file(mount.host_path, files)):
            yield "mounts", number, why
    for number, hook in enumerate(edits.hooks):
        if hook.hook_name == "startContainer":  # it runs in the container's own file tree
            continue
        if why := absent_file(hook.path, files):
            yield "hooks", number, f"program {why}"
        elif cannot := program_warning(hook.path):
            yield "hooks", number, cannot


def _absent_node(node: SpecNode, devices: Mapping[str, HostNode]) -> str:
    source = node.host_path or node.path
    if (node.type and node.major) or hint(source):
        return ""  # the host is not asked, or it is warned of already
    try:
        devices[source]
    except NotADevice as error:
        return "" if _UNSEEN in error.why else f"{quoted(source)} {plain(error.why)}"
    except KeyError:
        return f"this host has no {quoted(source)}"
    return ""


def is_bind(mount: Mount) -> bool:
    """Tell whether a mount shows a path of the host."""
    return mount.type in ("", "bind", "none") or not {"bind", "rbind"}.isdisjoint(mount.options)


def absent_file(path: str, files: Mapping[str, HostPath]) -> str:
    """Say that the host has no file of a path; empty text if it has, or if nobody can tell."""
    try:
        files[path]
    except ProcLinkError:
        return ""  # it leads to another file in each process
    except KeyError as error:
        why = str(error.args[0])
        return why if _ABSENT in why else ""
    return ""
