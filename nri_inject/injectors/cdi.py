"""Give a container the CDI devices that its pod's annotations name.

The names are resolved here, with the node's own spec files, so it works on runtimes that drop
names in silence; or they are handed to the runtime where the configuration says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Literal, TypeAlias

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.capabilities import Runtime
from nri_inject.cdi import names, registry
from nri_inject.cdi.lookup import anything
from nri_inject.cdi.resolve import resolve
from nri_inject.errors import RequestError
from nri_inject.injectors import keys
from nri_inject.injectors.compose import Injector
from nri_inject.injectors.elsewhere import at_key, elsewhere
from nri_inject.injectors.giving import Give
from nri_inject.injectors.host import Host
from nri_inject.injectors.keys import Adopted
from nri_inject.injectors.texts import read_text
from nri_inject.policy.gifts import Gift
from nri_inject.policy.permit import Permit
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.budget import OverBudget, Spend, unlimited
from nri_inject.text.fields import Fault, described, list_of, read_line, wrong_type
from nri_inject.text.flow import advice
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamltext import Value

Mode: TypeAlias = Literal["resolve", "native"]
"""Who resolves names: we, or the runtime."""

PREFIX: Final = "cdi-devices.noderesource.dev"
OLD_PREFIX: Final = "cdi-devices.nri.io"
_PREFIXES: Final = frozenset({PREFIX, OLD_PREFIX})
_BEGINNINGS: Final = ("cdi-devices.", names.ANNOTATION_PREFIX)

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
    adopted: Adopted = frozenset({keys.CDI}),
    runtime: Runtime | None = None,
) -> Injector:
    """Return the injector for a configuration.

    `lenient` means that edits which cannot be carried are left out, and the host is told; otherwise
    they fail the container. `unsafe` means that a spec may name paths that other users than root
    could redirect, `trusting` that the kubelet wrote the container's own annotations. `adopted`
    are the others whose annotations of a pod count. `runtime` is who gets the adjustment, the
    host's if None.
    """
    resolved = _resolver(mode, lenient=lenient, unsafe=unsafe, runtime=runtime)

    def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
        origins = _wanted(pod, container, host, trusting=trusting, adopted=adopted)
        return resolved(origins, pod, container, host)

    return inject


def make_giver(
    mode: Mode = "resolve",
    *,
    lenient: bool = False,
    unsafe: bool = False,
    runtime: Runtime | None = None,
) -> Give:
    """Return how CDI devices are given that rules of the policy name; as for `make_injector`."""
    resolved = _resolver(mode, lenient=lenient, unsafe=unsafe, runtime=runtime)

    def give(gift: Gift, pod: Pod, container: Container, host: Host) -> Adjustment:
        names = [str(gift.value)]
        if host.permit is not None:
            names = host.permit.filter_names("cdi_devices", names, "CDI device")
        return resolved(dict.fromkeys(names, ""), pod, container, host)

    return give


def _resolver(
    mode: Mode, *, lenient: bool, unsafe: bool, runtime: Runtime | None
) -> Callable[[Mapping[str, str], Pod, Container, Host], Adjustment]:
    """Return how names that are granted become an adjustment; each comes with its annotation."""

    def resolved(
        origins: Mapping[str, str], pod: Pod, container: Container, host: Host
    ) -> Adjustment:
        wanted = [*origins]
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
                files=seen.files,
                node_files=nodes,
                unsafe=unsafe,
                container=container,
                runtime=target,
                is_shown=_shown(host.permit),
            )
        except OverBudget:
            raise
        except RequestError as error:
            named = [_with_key(fault, origins) for fault in error.faults]
            raise RequestError(named, where=where(pod, container)) from error
        if resolution.unsupported and not lenient:
            raise RequestError(resolution.unsupported, where=where(pod, container))
        for sentence in (*resolution.unsupported, *resolution.warnings):
            host.warn(sentence)
        return resolution.adjust

    return resolved


def _shown(permit: Permit | None) -> Callable[[str], bool]:
    """Return which devices of the node an error may name: those that the container may have."""
    return anything if permit is None else partial(_may_name, permit)


def _may_name(permit: Permit, name: str) -> bool:
    try:
        return permit.could_have("cdi_devices", name)
    except OverBudget:  # the container fails anyway, and the error has one hint less
        return False


def _with_key(fault: str, origins: Mapping[str, str]) -> str:
    """Put the annotation in front of what is wrong with a name that it has."""
    found = {key for name, key in origins.items() if key and quoted(name) in fault}
    if len(found) != 1:
        return fault
    key = found.pop()
    return f"annotation {plain(key)}: {fault}{_switch(key)}"


def _switch(key: str) -> str:
    """Say how a key that may be meant for the sandbox, as that of Kata, is left alone."""
    if not key.startswith(names.ANNOTATION_PREFIX):
        return ""
    return "; `annotations: {cdi: false}` in the plugin's configuration leaves such keys to others"


def _wanted(
    pod: Pod, container: Container, host: Host, *, trusting: bool, adopted: Adopted
) -> dict[str, str]:
    """Return the names that a container asks for and the policy grants, each with its annotation.

    RequestError if the policy grants them not.
    """
    spend = partial(host.budget.spend, "reading the requested CDI devices")
    spend((len(pod.annotations) + len(container.annotations)) // _KEYS_PER_STEP)
    try:
        asked, handed = requested(pod, container, spend, adopted)
    except Fault as fault:
        raise RequestError(fault.sentences, where=where(pod, container)) from fault
    own = [name for name in dict.fromkeys(handed) if name not in asked]
    wanted = {**asked, **dict.fromkeys(own, "")}
    spend(_STEPS_PER_NAME * len(wanted))
    if host.permit is None:
        return wanted
    granted = _granted(asked, own, host.permit, trusting=trusting)
    return {name: key for name, key in wanted.items() if name in granted}


def _granted(
    asked: Mapping[str, str], own: Sequence[str], permit: Permit, *, trusting: bool
) -> set[str]:
    """Return the names that the policy grants; RequestError has all that it denies.

    `own` are those that only the container's annotations have. They need no rule if they are
    trusted; a `deny` counts in any case.
    """
    granted: set[str] = set()
    denied: list[RequestError] = []
    by_key: dict[str, list[str]] = {}
    for name, key in asked.items():
        by_key.setdefault(key, []).append(name)
    for key, names_of_key in by_key.items():
        try:
            origins = {"cdi_devices": key}
            granted |= {*permit.filter_names("cdi_devices", names_of_key, "CDI device", origins)}
        except OverBudget:
            raise
        except RequestError as error:
            sentences = [f"{fault}{_switch(key)}" for fault in error.faults]
            denied.append(RequestError(sentences, where=error.where, denied=True))
    if own:
        grant = permit.filter_admin_names if trusting else permit.filter_names
        try:
            what = "CDI device of the container's annotations"
            granted |= {*grant("cdi_devices", sorted(own), what)}
        except OverBudget:
            raise
        except RequestError as error:
            denied.append(error)
    if denied:
        faults = [fault for error in denied for fault in error.faults]
        raise RequestError(faults, where=denied[0].where, denied=True)
    return granted


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
    pod: Pod,
    container: Container,
    spend: Spend = unlimited,
    adopted: Adopted = frozenset({keys.CDI}),
) -> tuple[dict[str, str], list[str]]:
    """Return the names that a pod's author requests, and those that the kubelet adds.

    The author's have the key that they are from: that of the annotation that counts, and of those
    of others that are adopted. A key `cdi.k8s.io/...` that only the container has is the kubelet's.
    CRI-O repeats the pod's annotations in the container's; each text is read once. Fault has what
    is wrong in any of them.
    """
    name = container_name(container)
    of_nvidia = keys.NVIDIA.find(pod.annotations, name) if "nvidia" in adopted else None
    of_container = _of_cdi(container.annotations)
    is_asking = [key for key in pod.annotations if key.startswith(_BEGINNINGS)]
    if not is_asking and not of_container and of_nvidia is None:  # as most containers
        return {}, []
    found, of_pod = find(pod.annotations, PREFIX, OLD_PREFIX, name), _of_cdi(pod.annotations)
    asked: dict[str, str] = {}
    faults = keys.faults(pod.annotations, _PREFIXES)
    if found is not None:
        key, text = found
        listed = read_text(_read_names, text, spend)
        if isinstance(listed, Fault):
            faults += (at_key(key, problem) for problem in listed.problems)
        else:
            asked |= dict.fromkeys(listed or (), key)
    repeated = {key: text for key, text in of_container.items() if key in of_pod}
    changed = {key: text for key, text in repeated.items() if text != of_pod[key]}
    own = {key: text for key, text in of_container.items() if key not in of_pod}
    if keys.CDI not in adopted:
        of_pod = changed = {}
    texts = [*sorted(of_pod.items()), *sorted(changed.items())]
    if of_nvidia is not None:
        texts.append((of_nvidia[0], ",".join(map(str, keys.names_of(of_nvidia[1])))))
    count = len(asked)
    of_others = _listed(texts, faults)
    count += len(of_others)
    for name, key in of_others:
        asked.setdefault(name, key)
    handed = [name for name, _ in _listed(sorted(own.items()), faults)]
    if count + len(handed) > names.MAX_NAMES:
        faults.append(f"more than {names.MAX_NAMES} CDI devices are requested")
    if faults:
        raise Fault(*faults)
    return asked, handed


def _listed(texts: Iterable[tuple[str, str]], faults: list[str]) -> list[tuple[str, str]]:
    """Return the names of lists with commas, each with its key; add what is wrong to `faults`."""
    try:
        return names.listed(texts)
    except Fault as fault:
        faults += fault.sentences
        return []


def _of_cdi(annotations: Mapping[str, str]) -> dict[str, str]:
    keys = [key for key in annotations if key.startswith(names.ANNOTATION_PREFIX)]
    return {key: annotations[key] for key in keys}


def read_name(value: Value) -> str:
    """Read the qualified name of a CDI device; Fault for another text."""
    if isinstance(value, dict) and len(value) == 1:
        (text,) = value.values()
        if isinstance(text, str) and _spelled(text):
            raise Fault(f"a map is not a name; write {advice(_spelled(text)[0])}")
    name = read_line(value)
    names.check_length(name)
    if name.startswith("/") and "=" not in name:
        raise Fault(elsewhere(name, "a path", "devices.noderesource.dev", [name]))
    if meant := _spelled(name):
        if meant == [name]:
            return name
        what = "is one text; write a list:" if len(meant) > 1 else "has more than the name; write"
        raise Fault(f"{quoted(name)} {what} {advice(meant if len(meant) > 1 else meant[0])}")
    if "," in name:
        raise Fault(f"{quoted(name)} contains a comma; list each name as a separate item")
    if colon := _KIND_AND_DEVICE.fullmatch(name):
        raise Fault(f"{quoted(name)} is not a device name; write {colon[1]}={colon[2]}")
    if _KIND.fullmatch(name):
        raise Fault(
            f"{quoted(name)} is a kind, and a request names a device of it:"
            f" write {name}=NAME; `nri-inject cdi list` on the node has the names"
        )
    names.parse(name)
    return name


# What docker's option has in front, and what Compose calls the driver.
_OPTION: Final = re.compile(r"^(?:--(?:device|gpus)(?:=|\s+)|cdi:|cdi\.k8s\.io/\S+:\s*|-\s+)")
_BETWEEN: Final = re.compile(r"\s*[,;\s]\s*")
_KIND_AND_DEVICE: Final = re.compile(r"([\w-]+(?:\.[\w-]+)+/[\w.-]+)[: ] *([\w.-]+)")
_KIND: Final = re.compile(r"[\w-]+(\.[\w-]+)+/[\w.-]+")


def _spelled(text: str) -> list[str]:
    """Return the names that a text has, of one option or of several; none of another text."""
    if len(text) > names.MAX_LENGTH:
        return []
    found = _BETWEEN.split(_OPTION.sub("", text.strip()))
    try:
        for name in found:
            names.parse(name)
    except Fault:
        return []
    return found


_LIST: Final = list_of(read_name)


def _no_list(value: Value) -> Fault:
    if isinstance(value, str) and value.startswith("/") and "=" not in value:
        paths = _BETWEEN.split(value)
        return Fault(elsewhere(value, "a path", "devices.noderesource.dev", paths))
    if isinstance(value, str) and (found := _spelled(value)):
        return Fault(f"{described(value)} is not a list; write {advice(found)}")
    return wrong_type(value, "a list of names such as ['vendor.com/class=name']")


def _read_names(value: Value) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _no_list(value)
    return tuple(_LIST(value))
