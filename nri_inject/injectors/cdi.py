"""Give a container the CDI devices that its pod's annotations name.

The names are resolved here, with the node's own spec files, so it works on runtimes that drop
names in silence; or they are handed to the runtime where the configuration says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from typing import Final, Literal, TypeAlias

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.capabilities import Runtime
from nri_inject.cdi import names, registry
from nri_inject.cdi.lookup import anything
from nri_inject.cdi.resolve import resolve
from nri_inject.errors import RequestError
from nri_inject.injectors.compose import Injector
from nri_inject.injectors.host import Host
from nri_inject.policy.permit import Permit
from nri_inject.text import yamltext
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.budget import OverBudget, Spend, unlimited
from nri_inject.text.fields import Fault, list_of, read_line, wrong_type
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamltext import Value

log = logging.getLogger(__name__)

Mode: TypeAlias = Literal["resolve", "native"]
"""Who resolves names: we, or the runtime."""

PREFIX: Final = "cdi-devices.noderesource.dev"
OLD_PREFIX: Final = "cdi-devices.nri.io"

# A name is checked, compared with those of the specs, and its edits are put together.
_STEPS_PER_NAME: Final = 40
# Of an annotation, to see from its key whether it requests devices.
_KEYS_PER_STEP: Final = 8


def make_injector(
    mode: Mode = "resolve",
    *,
    lenient: bool = False,
    unsafe: bool = False,
    trusting: bool = False,
    runtime: Runtime | None = None,
) -> Injector:
    """Return the injector for a configuration.

    With `lenient`, edits which cannot be carried are left out with a warning; otherwise they fail
    the container. With `unsafe`, a spec may name paths that other users than root could redirect;
    with `trusting`, the container's own annotations count as the kubelet's. `runtime` applies the
    adjustment; None means the host's.
    """

    def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
        wanted = _wanted(pod, container, host, trusting=trusting)
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
        except OverBudget:
            raise
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
    return anything if permit is None else partial(_may_name, permit)


def _may_name(permit: Permit, name: str) -> bool:
    try:
        return permit.could_have("cdi_devices", name)
    except OverBudget:  # the container fails anyway, and the error has one hint less
        return False


def _wanted(pod: Pod, container: Container, host: Host, *, trusting: bool) -> list[str]:
    """Return the names that a container requests and the policy grants; RequestError if not."""
    spend = partial(host.budget.spend, "reading the requested CDI devices")
    spend((len(pod.annotations) + len(container.annotations)) // _KEYS_PER_STEP)
    try:
        asked, handed = requested(pod, container, spend)
    except Fault as fault:
        raise RequestError(fault.sentences, where=where(pod, container)) from fault
    wanted = [*dict.fromkeys((*asked, *handed))]
    spend(_STEPS_PER_NAME * len(wanted))
    if host.permit is None:
        return wanted
    return _granted(wanted, {*handed} - {*asked}, host.permit, trusting=trusting)


def _granted(
    wanted: list[str], own: AbstractSet[str], permit: Permit, *, trusting: bool
) -> list[str]:
    """Return the names that the policy grants.

    `own` are those that only the container's annotations have. They need no rule if they are
    trusted; a `deny` counts in any case.
    """
    asked = [name for name in wanted if name not in own]
    granted = {*permit.filter_names("cdi_devices", asked, "CDI device")}
    if own:
        grant = permit.filter_admin_names if trusting else permit.filter_names
        granted |= {*grant("cdi_devices", sorted(own), "CDI device of the container's annotations")}
    return [name for name in wanted if name in granted]


inject: Final = make_injector()
"""Return what the devices that are requested become; RequestError if any of it cannot be had."""


def refusal(mode: Mode, runtime: Runtime) -> str | None:
    """Say why a mode cannot be used with a runtime, at the start; None if it can.

    A runtime that drops names in silence would start containers without their devices.
    """
    loss = capabilities.unsupported("CDI_devices", runtime) if mode == "native" else None
    if loss is None:
        return None
    return f"CDI mode native: {capabilities.sentence(loss, runtime)}; use mode resolve"


# --- what is requested --------------------------------------------------------------------------


def requested(
    pod: Pod, container: Container, spend: Spend = unlimited
) -> tuple[list[str], list[str]]:
    """Return the names that a pod's author requests, and those that the kubelet adds.

    The author's are those of the annotation that counts, and of the pod's keys `cdi.k8s.io/...`.
    A key of this form that only the container has is the kubelet's. CRI-O repeats the pod's
    annotations in the container's; each text is read once. Fault has what is wrong in any of them.
    """
    found = find(pod.annotations, PREFIX, OLD_PREFIX, container_name(container))
    of_pod, of_container = _of_cdi(pod.annotations), _of_cdi(container.annotations)
    if found is None and not of_pod and not of_container:
        return [], []
    asked: list[str] = []
    handed: list[str] = []
    faults: list[str] = []
    if found is not None:
        key, text = found
        listed = _names(text, spend)
        if isinstance(listed, Fault):
            faults += listed.at(f"annotation {plain(key)}")
        else:
            asked += listed
    repeated = {key: text for key, text in of_container.items() if key in of_pod}
    changed = {key: text for key, text in repeated.items() if text != of_pod[key]}
    own = {key: text for key, text in of_container.items() if key not in of_pod}
    for texts, names_of in ((of_pod, asked), (changed, asked), (own, handed)):
        try:
            names_of += names.requested(texts)[1]
        except Fault as fault:
            faults += fault.sentences
    if len(asked) + len(handed) > names.MAX_NAMES:
        faults.append(f"more than {names.MAX_NAMES} CDI devices are requested")
    if faults:
        raise Fault(*faults)
    return asked, handed


def _of_cdi(annotations: Mapping[str, str]) -> dict[str, str]:
    keys = [key for key in annotations if key.startswith(names.ANNOTATION_PREFIX)]
    return {key: annotations[key] for key in keys}


def _name(value: Value) -> str:
    name = read_line(value)
    if "," in name:
        raise Fault(f"{quoted(name)} contains a comma; list each name as a separate item")
    names.check_length(name)
    names.parse(name)
    return name


_LIST: Final = list_of(_name)


def _read(text: str, spend: Spend) -> tuple[str, ...] | Fault:
    try:
        value = yamltext.load(text, spend=spend)
        if value is not None and not isinstance(value, list):
            raise wrong_type(value, "a list of names such as ['vendor.com/class=name']")
        return tuple(_LIST(value))
    except yamltext.YamlError as error:
        return Fault(str(error))
    except Fault as fault:
        return Fault(*fault.sentences)  # without the traceback and all that hangs on it


# Pods come in replicas, with the same few short texts.
_LONGEST_REMEMBERED: Final = 4096


@lru_cache(maxsize=32)
def _remembered(text: str) -> tuple[tuple[str, ...] | Fault, int]:
    """Return what a text requests, and the steps that reading it costs, cached or not."""
    steps: list[int] = []
    return _read(text, steps.append), sum(steps)


def _names(text: str, spend: Spend) -> tuple[str, ...] | Fault:
    if len(text) > _LONGEST_REMEMBERED or "*" in text:
        return _read(text, spend)
    listed, steps = _remembered(text)
    spend(steps)
    return listed
