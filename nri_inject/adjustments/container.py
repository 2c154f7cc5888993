"""The container around the process: mounts, hooks, annotations, kernel parameters, namespaces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, get_args

from nri_inject import api
from nri_inject.adjustments.checks import (
    add,
    check,
    check_range,
    check_zero,
    key_fault,
    path_fault,
    variable_fault,
    words,
)
from nri_inject.api import Adjustment
from nri_inject.errors import RequestError
from nri_inject.host.hook_environment import environment
from nri_inject.text.names import NAMESPACES, mount_option_fault, sysctl_fault
from nri_inject.text.paths import RELATIVE
from nri_inject.text.words import quoted, suggestion


def add_mount(
    adjustment: Adjustment,
    source: str,
    destination: str,
    *,
    kind: str = "bind",
    options: Sequence[str] = ("rbind", "ro"),
) -> None:
    """Mount a path of the host at a path of the container; read-only without other options.

    `options=["rbind", "rw"]` lets the container write. `kind` and `options` are those of mount(8):
    `kind="tmpfs", options=["size=1m"]` is a file system of its own, and its source any text.
    """
    check("mount", destination, path_fault(destination))
    given = words("options", options)
    for option in given:
        check(f"mount {quoted(destination)}: option", option, mount_option_fault(option))
    is_bind = not {"bind", "rbind"}.isdisjoint(given)
    if kind == "bind" and not is_bind:
        raise RequestError([f"mount {quoted(destination)}: options must have bind or rbind"])
    if not is_bind and not kind:
        raise RequestError([f"mount {quoted(destination)}: the kind of the file system is missing"])
    if is_bind:
        check(f"mount {quoted(destination)}: source", source, _source_fault(source))
    check_zero(f"mount {quoted(destination)}: source", source, source)
    mount = api.Mount(destination=destination, source=source, type=kind, options=given)
    add(adjustment.mounts, "destination", mount, "mount")


def remove_mount(adjustment: Adjustment, destination: str) -> None:
    """Remove the mount of this destination, letter for letter, also if it is of the pod.

    It needs NRI 0.7.0 (containerd 1.7.26, CRI-O 1.32); older ones drop it.
    """
    check("mount", destination, path_fault(destination))
    add(adjustment.mounts, "destination", api.Mount(destination=f"-{destination}"), "mount")


Stage: TypeAlias = Literal[
    "createRuntime", "createContainer", "startContainer", "poststart", "poststop"
]
"""The stages of a container's life at which the OCI runtime runs hooks."""


def add_hook(
    adjustment: Adjustment,
    stage: Stage,
    path: str,
    arguments: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
    timeout: int | None = None,
) -> None:
    """Have the OCI runtime run a program at a stage, after the hooks that are there.

    `arguments` follow the program's name. Without `env` the program has root's PATH alone, never
    the container's variables. `timeout` is in seconds.
    """
    if stage not in get_args(Stage):
        known = ", ".join(get_args(Stage))
        raise RequestError([f"hook {quoted(path)}: stage {quoted(stage)} is not one of {known}"])
    check("hook", path, "" if path.startswith("/") else RELATIVE)
    check_zero("hook", path, path)
    for name in env or {}:
        check("variable", name, variable_fault(name))
    entries = [f"{name}={value}" for name, value in (env or {}).items()]
    hook = api.Hook(
        path=path,
        args=[path, *words("arguments", arguments)],
        env=environment(words("env", entries)),
    )
    if timeout is not None:
        check_range(f"hook {quoted(path)}: timeout", timeout, 1, 2**31 - 1)
        hook.timeout.CopyFrom(api.OptionalInt(value=timeout))
    (list_name,) = (each.name for each in api.Hooks.DESCRIPTOR.fields if each.json_name == stage)
    getattr(adjustment.hooks, list_name).append(hook)


def set_annotation(adjustment: Adjustment, key: str, value: str) -> None:
    """Set an annotation of the container, for the OCI runtime and its hooks; not one of the pod."""
    check("annotation", key, key_fault(key))
    adjustment.annotations[key] = value


def remove_annotation(adjustment: Adjustment, key: str) -> None:
    """Remove an annotation of the container."""
    check("annotation", key, key_fault(key))
    adjustment.annotations[f"-{key}"] = ""


def set_sysctl(adjustment: Adjustment, name: str, value: str) -> None:
    """Set a kernel parameter of the container's namespaces, such as net.core.somaxconn.

    The OCI runtime refuses a parameter of the whole node. It needs NRI
    0.12.0 (containerd 2.3.0, CRI-O 1.37).
    """
    check("sysctl", name, sysctl_fault(name))
    if not value.replace("\t", " ").isprintable():
        raise RequestError(
            [f"sysctl {quoted(name)}: one line of text expected, not {quoted(value)}"]
        )
    adjustment.linux.sysctl[name] = value


def remove_sysctl(adjustment: Adjustment, name: str) -> None:
    """Remove a kernel parameter that was set.

    It needs NRI 0.12.0 (containerd 2.3.0, CRI-O 1.37). Releases to 0.12.2 remove an
    annotation of that name instead.
    """
    check("sysctl", name, sysctl_fault(name))
    adjustment.linux.sysctl[f"-{name}"] = ""


def set_namespace(adjustment: Adjustment, kind: str, path: str = "") -> None:
    """Give the container a new namespace, or that of a path such as /proc/1/ns/net.

    NRI has no way to replace what another plugin has set. It needs NRI
    0.10.0 (containerd 2.2.0, CRI-O 1.34).
    """
    if path and not path.startswith("/"):
        check(f"namespace {quoted(kind)}: path", path, RELATIVE)
    _set_namespace(adjustment, kind, api.LinuxNamespace(type=kind, path=path))


def remove_namespace(adjustment: Adjustment, kind: str) -> None:
    """Let the container use the node's namespace of this kind.

    It needs NRI 0.10.0 (containerd 2.2.0, CRI-O 1.34).
    """
    _set_namespace(adjustment, kind, api.LinuxNamespace(type=f"-{kind}"))


def _set_namespace(adjustment: Adjustment, kind: str, namespace: api.LinuxNamespace) -> None:
    if kind not in NAMESPACES:
        check("namespace", kind, f"is not known; {suggestion(kind, NAMESPACES)}")
    for each in adjustment.linux.namespaces:
        if each.type.removeprefix("-") == kind:
            each.CopyFrom(namespace)
            return
    adjustment.linux.namespaces.append(namespace)


def _source_fault(path: str) -> str:
    if not path.startswith("/"):
        return RELATIVE
    return "contains '..'" if ".." in path.split("/") else ""
