"""Kubernetes manifests as the pods and containers that a runtime would report to its plugins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from nri_inject import api
from nri_inject.errors import ConfigError
from nri_inject.runtime.kubelet import RANDOM, container_of, pod_of
from nri_inject.text import yamltext
from nri_inject.text.fields import (
    Fault,
    Field,
    Findings,
    Problem,
    Reader,
    Values,
    integer,
    list_of,
    map_of,
    not_one_of,
    read_flag,
    read_string,
    wrong_type,
)
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value


@dataclass(frozen=True, slots=True)
class Planned:
    """A container of the manifests, and the pod that it belongs to."""

    pod: api.Pod
    container: api.Container


@dataclass(frozen=True, slots=True)
class _WorkloadKind:
    """Where a kind keeps its pod, which API groups have that kind, how it names the pod."""

    groups: frozenset[str]
    template: tuple[str, ...]
    suffix: str


_APPS = frozenset({"apps", "extensions"})
_BATCH = frozenset({"batch"})
_KINDS = {
    "Pod": _WorkloadKind(frozenset({""}), (), ""),
    "Deployment": _WorkloadKind(_APPS, ("spec", "template"), f"-{RANDOM}"),
    "DaemonSet": _WorkloadKind(_APPS, ("spec", "template"), f"-{RANDOM}"),
    "ReplicaSet": _WorkloadKind(_APPS, ("spec", "template"), f"-{RANDOM}"),
    "StatefulSet": _WorkloadKind(_APPS, ("spec", "template"), "-0"),
    "Job": _WorkloadKind(_BATCH, ("spec", "template"), f"-{RANDOM}"),
    "CronJob": _WorkloadKind(_BATCH, ("spec", "jobTemplate", "spec", "template"), f"-{RANDOM}"),
}
# An item of a `List` says its kind, one of a `PodList` need not.
_LISTS = {"List": "", **{f"{kind}List": kind for kind in _KINDS}}

_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?")
_SCALES = {
    **{suffix: Fraction(1, 1000**power) for power, suffix in enumerate(("", "m", "u", "n"))},
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}

_PROPAGATION = {
    "None": "rprivate",
    "HostToContainer": "rslave",
    "Bidirectional": "rshared",
}
_SECCOMP = {
    "Unconfined": api.SecurityProfile.UNCONFINED,
    "RuntimeDefault": api.SecurityProfile.RUNTIME_DEFAULT,
    "Localhost": api.SecurityProfile.LOCALHOST,
}

# A file may have custom resource definitions, which are deep.
_LIMITS: Final = replace(yamltext.SPEC_FILE, depth=100)


def read(text: str, file_name: str) -> list[Planned]:
    """Read every container of the manifests, in the order in which a kubelet creates them.

    A workload counts once, however many replicas it wants. Kinds that hold no pod and empty
    documents are passed over. ConfigError says what is wrong by file, document and place.
    """
    try:
        documents = yamltext.load_all(text, _LIMITS)
    except yamltext.YamlError as error:
        raise ConfigError(f"{file_name}: {error}") from error
    planned: list[Planned] = []
    for number, document in enumerate(documents, 1):
        try:
            planned += () if document is None else _read_object(document)
        except Fault as fault:
            sentences = "; ".join(map(str, fault.problems))
            raise ConfigError(f"{file_name}: document {number}: {sentences}") from fault
    return planned


# --- values -------------------------------------------------------------------------------------


def _keys(*fields: Field) -> Reader[Values]:
    return map_of(fields, ignored=True)


def _list_of(read: Reader[Any]) -> Reader[list[Any]]:
    return list_of(read, most=_MAX_ITEMS)


_MAX_ITEMS: Final = 100_000


def _read_texts(value: Value) -> dict[str, str]:
    """Read a map of text to text."""
    if not isinstance(value, dict):
        raise wrong_type(value, "a map of text to text")
    found = Findings()
    texts = {key: found.read(key, read_string, item) for key, item in value.items()}
    found.check()
    return texts  # type: ignore[return-value]  # None stands where there was a fault


def _word(known: dict[str, Any]) -> Reader[Any]:
    """Return a reader of words that returns their values."""

    def read_word(value: Value) -> Any:
        if not isinstance(value, str) or value not in known:
            raise Fault(not_one_of(value, [*known]))
        return known[value]

    return read_word


def _read_quantity(value: Value) -> Fraction:
    """Read an amount in its base unit: cores of a processor, or bytes."""
    is_number = isinstance(value, str | int | float) and not isinstance(value, bool)
    match = _QUANTITY.fullmatch(str(value)) if is_number else None
    if match is None:
        raise wrong_type(value, "a quantity such as 500m or 2Gi")
    number, suffix = match[1], match[2] or ""
    scale = _SCALES.get(suffix)
    return Fraction(number) * scale if scale else Fraction(f"{number}{suffix}")


_ID: Final = integer(0, 2**32 - 1)

_METADATA: Final = _keys(
    *(Field(name, read_string) for name in ("name", "generateName", "namespace", "uid")),
    Field("labels", _read_texts),
    Field("annotations", _read_texts),
)
_SECURITY: Final = _keys(
    Field("runAsUser", _ID),
    Field("runAsGroup", _ID),
    Field("supplementalGroups", _list_of(_ID)),
    Field("fsGroup", _ID),
    Field(
        "seccompProfile",
        _keys(Field("type", _word(_SECCOMP)), Field("localhostProfile", read_string)),
    ),
)
_AMOUNTS: Final = _keys(Field("cpu", _read_quantity), Field("memory", _read_quantity))
_CONTAINER: Final = _keys(
    Field("name", read_string, required=True),
    Field("image", read_string),
    Field("command", _list_of(read_string)),
    Field("args", _list_of(read_string)),
    Field(
        "env",
        _list_of(_keys(Field("name", read_string, required=True), Field("value", read_string))),
    ),
    Field("resources", _keys(Field("requests", _AMOUNTS), Field("limits", _AMOUNTS))),
    Field("securityContext", _SECURITY),
    Field(
        "volumeMounts",
        _list_of(
            _keys(
                Field("name", read_string, required=True),
                Field("mountPath", read_string, required=True),
                Field("subPath", read_string),
                Field("mountPropagation", _word(_PROPAGATION)),
                Field("readOnly", read_flag),
            )
        ),
    ),
)
_VOLUME: Final = _keys(
    Field("name", read_string, required=True),
    Field("hostPath", _keys(Field("path", read_string, required=True))),
    Field("emptyDir", _keys()),
)
_POD_SPEC: Final = _keys(
    Field("initContainers", _list_of(_CONTAINER)),
    Field("containers", _list_of(_CONTAINER), required=True),
    Field("volumes", _list_of(_VOLUME)),
    Field("hostname", read_string),
    Field("runtimeClassName", read_string),
    Field("shareProcessNamespace", read_flag),
    Field("hostPID", read_flag),
    Field("securityContext", _SECURITY),
)


def _read_pod_spec(value: Value) -> Values:
    spec = _POD_SPEC(value)
    if not spec["containers"]:
        raise Fault(Problem("", ("containers",), "no containers; a pod must have at least one"))
    volumes = [volume["name"] for volume in spec.get("volumes", ())]
    problems = []
    for key in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(key, ())):
            for index, mount in enumerate(container.get("volumeMounts", ())):
                if mount["name"] not in volumes:
                    path = (key, number, "volumeMounts", index, "name")
                    sentence = f"the pod has no volume {quoted(mount['name'])}"
                    problems.append(Problem("", path, sentence))
    if problems:
        raise Fault(*problems)
    return spec


# --- from objects to pods -----------------------------------------------------------------------

_OBJECT: Final = _keys(Field("kind", read_string), Field("apiVersion", read_string))


def _read_object(value: Value, usual_kind: str = "") -> list[Planned]:
    """Read one API object; `usual_kind` is that of the list that contains it."""
    given = _OBJECT(value)
    kind = given.get("kind") or usual_kind
    if not kind:
        raise Fault("kind is missing")
    if kind in _LISTS:
        read_items = _list_of(lambda item: _read_object(item, _LISTS[kind]))
        items = _keys(Field("items", read_items))(value).get("items", ())
        return [planned for item in items for planned in item]
    version = given.get("apiVersion", "")
    if kind in _KINDS and (not version or version.rpartition("/")[0] in _KINDS[kind].groups):
        return [*_workload(value, _KINDS[kind])]
    return []


_TEMPLATE: Final = _keys(Field("metadata", _METADATA), Field("spec", _read_pod_spec, required=True))
_NAMED: Final = _keys(Field("metadata", _METADATA))


def _workload(value: Value, kind: _WorkloadKind) -> Iterator[Planned]:
    read_template = _TEMPLATE
    for key in reversed(kind.template):
        read_template = _keys(Field(key, read_template, required=True))
    template = read_template(value)
    for key in kind.template:
        template = template[key]
    pod = pod_of(_NAMED(value).get("metadata", {}), template, kind.suffix)
    spec = template["spec"]
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        yield Planned(pod, container_of(pod, spec, container))
