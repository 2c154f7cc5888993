"""Give a container the CDI devices that its pod's annotations name.

The names are resolved here, with the node's own spec files, so it works on runtimes that drop
names in silence; or they are handed to the runtime where the configuration says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Final, Literal, TypeAlias

from nri_inject import api, runtimes, yamltext
from nri_inject.adjust import Injector
from nri_inject.annotations import (
    Fault,
    container_name,
    described,
    find,
    list_of,
    plain,
    quoted,
    read_line,
    where,
)
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi import names, registry
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cdi.resolve import anything, resolve
from nri_inject.command import Command
from nri_inject.config import Config
from nri_inject.errors import ConfigError, RequestError
from nri_inject.host import Host
from nri_inject.injecting import service_of
from nri_inject.policy.permit import Permit
from nri_inject.runtimes import Runtime
from nri_inject.service import Options
from nri_inject.surroundings import Part
from nri_inject.yamltext import Value

log = logging.getLogger(__name__)

Mode: TypeAlias = Literal["resolve", "native"]
"""Who resolves names: we, or the runtime."""

PREFIX: Final = "cdi-devices.noderesource.dev"
OLD_PREFIX: Final = "cdi-devices.nri.io"

# What one container can reasonably have; a text of 256 KiB can name many thousands.
_MOST_NAMES: Final = 1000


def injecting(
    mode: Mode = "resolve",
    *,
    lenient: bool = False,
    unsafe: bool = False,
    trusting: bool = False,
    runtime: Runtime | None = None,
) -> Injector:
    """Return the injector for a configuration.

    `lenient` means that edits which cannot be carried are left out, and the host is told; otherwise
    they fail the container. `unsafe` means that a spec may name paths that other users than root
    could redirect, `trusting` that the kubelet wrote the container's own annotations. `runtime` is
    who gets the adjustment, the host's if None.
    """

    def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
        wanted, faults = requested(pod, container)
        if faults:
            raise RequestError(faults, where=where(pod, container))
        if host.permit is not None:
            own = _of_container_alone(pod, container)
            wanted = _granted(wanted, own, host.permit, trusting=trusting)
        if not wanted:
            return Adjustment()
        if mode == "native":
            return Adjustment(CDI_devices=[api.CDIDevice(name=name) for name in wanted])
        target = host.runtime if runtime is None else runtime
        seen = host if host.permit is None else host.permit.guarded(host)
        nodes = host.files if host.permit is None else host.permit.guarded_nodes(host)
        try:
            resolution = resolve(
                wanted,
                registry.EMPTY if host.cdi is None else host.cdi,
                seen.devices,
                files={} if unsafe else seen.files,
                node_files={} if unsafe else nodes,
                container=container,
                runtime=target,
                is_shown=_shown(host.permit),
            )
        except RequestError as error:
            raise RequestError(error.faults, where=where(pod, container)) from error
        if resolution.unsupported and not lenient:
            raise RequestError(resolution.unsupported, where=where(pod, container))
        for sentence in (*resolution.unsupported, *resolution.warnings):
            host.warn(sentence)
        return resolution.adjust

    return inject


def _shown(permit: Permit | None) -> Callable[[str], bool]:
    """Return which devices of the node an error may name: those that the container may have."""
    return anything if permit is None else partial(permit.could_have, "cdi_devices")


def _granted(
    wanted: list[str], own: Mapping[str, None], permit: Permit, *, trusting: bool
) -> list[str]:
    """Return the names that the policy grants.

    `own` are those that only the container's annotations have. They need no rule if they are
    trusted; a `deny` counts in any case.
    """
    asked = [name for name in wanted if name not in own]
    granted = {*permit.granted_names("cdi_devices", asked, "CDI device")}
    if own:
        grant = permit.tolerated_names if trusting else permit.granted_names
        granted |= {*grant("cdi_devices", own, "CDI device of the container's annotations")}
    return [name for name in wanted if name in granted]


def _of_container_alone(pod: Pod, container: Container) -> dict[str, None]:
    """Return the names that a container's annotations have, under keys that the pod's do not have.

    The kubelet writes there what a device plugin tells it. Nothing says that it was the kubelet:
    earlier NRI plugins can write there, too, and a runtime that restores a container from a
    checkpoint image takes annotations from the image.
    """
    own = {key: text for key, text in container.annotations.items() if key not in pod.annotations}
    return dict.fromkeys(_of_kubelet(own))


inject: Final = injecting()
"""Return what the devices that are asked for become; RequestError if any of it cannot be had."""


def refusal(mode: Mode, runtime: Runtime) -> str | None:
    """Say why a mode cannot be used with a runtime, at the start; None if it can.

    A runtime that drops names in silence would start containers without their devices.
    """
    loss = runtimes.lack("CDI_devices", runtime) if mode == "native" else None
    if loss is None:
        return None
    return f"CDI mode native: {runtimes.sentence(loss, runtime)}; use mode resolve"


# --- what is asked for --------------------------------------------------------------------------


def requested(pod: Pod, container: Container) -> tuple[list[str], list[str]]:
    """Return the names that a container asks for, each once, and what is wrong with the asking.

    First those of the annotation that counts, then those of keys `cdi.k8s.io/...`, which a
    runtime may pass on with the pod or with the container.
    """
    wanted: list[str] = []
    faults: list[str] = []
    found = find(pod.annotations, PREFIX, OLD_PREFIX, container_name(container))
    if found is not None:
        key, text = found
        listed = _names(text)
        if isinstance(listed, Fault):
            faults += listed.at(f"annotation {plain(key)}")
        else:
            wanted += listed
    for passed_on in (pod.annotations, container.annotations):
        try:
            wanted += _of_kubelet(passed_on)
        except Fault as fault:
            faults += fault.sentences
    wanted = [*dict.fromkeys(wanted)]
    if len(wanted) > _MOST_NAMES:
        faults.append(f"{len(wanted)} CDI devices are asked for, at most {_MOST_NAMES} allowed")
    return wanted, faults


def _of_kubelet(annotations: Mapping[str, str]) -> list[str]:
    for key in annotations:
        if key.startswith(names.ANNOTATION_PREFIX):
            return names.requested(annotations)[1]
    return []


def _name(value: Value) -> str:
    name = read_line(value)
    if "," in name:
        raise Fault(f"{quoted(name)} has a comma; make each name an item of its own")
    names.parse(name)
    return name


_LIST: Final = list_of(_name)


def _read(text: str) -> tuple[str, ...] | Fault:
    try:
        value = yamltext.load(text)
        if value is not None and not isinstance(value, list):
            example = "['vendor.com/class=name']"
            raise Fault(f"{described(value)} instead of a list of names such as {example}")
        return tuple(_LIST(value))
    except yamltext.YamlError as error:
        return Fault(str(error))
    except Fault as fault:
        return Fault(*fault.sentences)  # without the traceback and all that hangs on it


# Pods come in replicas, with the same few short texts.
_remembered: Final = lru_cache(maxsize=32)(_read)
_LONGEST_REMEMBERED: Final = 4096


def _names(text: str) -> tuple[str, ...] | Fault:
    return (_remembered if len(text) <= _LONGEST_REMEMBERED else _read)(text)


# --- the command --------------------------------------------------------------------------------


def _configured(config: Config, runtime: Runtime) -> Injector:
    """Return the injector; ConfigError if the runtime would lose what it is handed."""
    why = refusal(config.cdi.mode, runtime)
    if why is not None:
        raise ConfigError(why)
    trusting = config.cdi.container_annotations == "trust"
    if trusting:
        log.warning(
            "cdi: container_annotations: trust: CDI names in a container's annotations need no"
            " rule, whoever wrote them"
        )
    return injecting(
        config.cdi.mode,
        lenient=config.on_unsupported == "warn",
        unsafe=config.unsafe_files,
        trusting=trusting,
        runtime=runtime,
    )


def _source(options: Options, config: Config) -> CdiRegistry:
    return CdiRegistry(
        options.cdi_dir or config.cdi.dirs or registry.DEFAULT_DIRECTORIES,
        unsafe=config.unsafe_files,
        report=partial(log.warning, "CDI: %s"),
    )


PART: Final = Part(build=_configured, sources={"cdi": _source})

main: Final = Command(
    name="cdi-injector",
    idx="20",
    service=service_of(PART),
    help="Give containers the CDI devices that their pods' annotations name, on any runtime.",
    example="nri-cdi-injector --idx 20 --cdi-dir /etc/cdi --policy unrestricted",
)
