"""Kubernetes manifests as the pods and containers that a runtime would tell its plugins of.

What only a node knows (image configuration, addresses, process ids) has a placeholder here,
and each placeholder is the same in every run.
"""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import yaml

from nri_inject import api
from nri_inject.errors import ConfigError
from nri_inject.runtime.apply import Spec, in_oci


@dataclass(frozen=True, slots=True)
class Planned:
    """A container that the manifests ask for, and the pod that it belongs to."""

    pod: api.Pod
    container: api.Container


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where a kind keeps its pod, which API groups have that kind, how it names the pod."""

    groups: frozenset[str]
    template: tuple[str, ...]
    suffix: str


_APPS = frozenset({"apps", "extensions"})
_BATCH = frozenset({"batch"})
_RANDOM = "00000"  # stands for the five characters that Kubernetes draws
_KINDS = {
    "Pod": _Kind(frozenset({""}), (), ""),
    "Deployment": _Kind(_APPS, ("spec", "template"), f"-{_RANDOM}"),
    "DaemonSet": _Kind(_APPS, ("spec", "template"), f"-{_RANDOM}"),
    "ReplicaSet": _Kind(_APPS, ("spec", "template"), f"-{_RANDOM}"),
    "StatefulSet": _Kind(_APPS, ("spec", "template"), "-0"),
    "Job": _Kind(_BATCH, ("spec", "template"), f"-{_RANDOM}"),
    "CronJob": _Kind(_BATCH, ("spec", "jobTemplate", "spec", "template"), f"-{_RANDOM}"),
}
# An item of a `List` says its kind, one of a `PodList` need not.
_LISTS = {"List": "", **{f"{kind}List": kind for kind in _KINDS}}

# The image's own configuration is out of reach: its user is taken for root, its path for the
# usual one, and its entry point for a shell.
_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IMAGE_ENTRYPOINT = ("sh",)

# A pod's process exists when its containers are created. This number is one that the kernel
# never gives out (its largest is 2**22), so nobody mistakes a process of this host for it.
_SANDBOX_PID = 2**22 + 1

_CONTAINERD = "/containerd/io.containerd.grpc.v1.cri/sandboxes"
_KUBELET = "/var/lib/kubelet/pods"

_CPU_PERIOD = 100_000
_LEAST_QUOTA = 1_000
_LEAST_SHARES, _MOST_SHARES = 2, 262_144
_LARGEST = 2**63 - 1
_DEEPEST = 100  # manifests have some twenty levels

_QUANTITY = re.compile(r"(\d+\.?\d*|\.\d+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?")
_SCALES = {
    **{suffix: Fraction(1, 1000**power) for power, suffix in enumerate(("", "m", "u", "n"))},
    **{suffix: Fraction(1000**power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Fraction(1024**power) for power, suffix in enumerate("KMGTPE", 1)},
}

_PROPAGATION = {
    "": "rprivate",
    "None": "rprivate",
    "HostToContainer": "rslave",
    "Bidirectional": "rshared",
}
_SECCOMP = {
    "": api.SecurityProfile.UNCONFINED,  # what the kubelet asks for when nobody says
    "Unconfined": api.SecurityProfile.UNCONFINED,
    "RuntimeDefault": api.SecurityProfile.RUNTIME_DEFAULT,
    "Localhost": api.SecurityProfile.LOCALHOST,
}


class _Loader(yaml.CSafeLoader):
    """Read scalars as Kubernetes does, for which a date is a text and `=` is one as well."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # the name and the type are PyYAML's
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}
        ]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def read(text: str, file_name: str) -> list[Planned]:
    """Read every container of the manifests, in the order in which a kubelet creates them.

    A workload counts once, however many replicas it wants. Kinds that hold no pod and empty
    documents are passed over. ConfigError says what is wrong by file, document and place.
    """
    try:
        _check_depth(text)
        documents = list(yaml.load_all(text, Loader=_Loader))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file_name}: {_one_line(error)}") from error
    return [
        planned
        for number, document in enumerate(documents, 1)
        if document is not None
        for planned in _object(_Place(document, "", f"{file_name}: document {number}"), "")
    ]


def _check_depth(text: str) -> None:
    """Refuse nesting that libyaml's events survive, but not the building of values from them."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels of lists and mappings")


def oci_spec(container: api.Container) -> Spec:
    """Make a plausible OCI runtime spec for a container as it is before any plugin adjusts it."""
    linux = in_oci(container.linux)
    process = {
        "user": in_oci(container.user),
        "args": list(container.args),
        "env": list(container.env),
        "cwd": "/",
        "rlimits": [in_oci(limit) for limit in container.rlimits],
        **_taken(linux, "oomScoreAdj", "ioPriority", "scheduler"),
    }
    return {
        "ociVersion": "1.2.0",
        "process": {name: value for name, value in process.items() if value != []},
        "root": {"path": "rootfs"},
        "mounts": [in_oci(mount) for mount in container.mounts],
        "annotations": {key: container.annotations[key] for key in sorted(container.annotations)},
        **({"hooks": hooks} if (hooks := in_oci(container.hooks)) else {}),
        "linux": _oci_linux(linux),
    }


def _oci_linux(linux: Spec) -> Spec:
    _taken(linux, "seccompProfile")  # a name for a policy, which the OCI spec holds in full
    renamed = {"intelRdt": linux.pop("rdt", None), "seccomp": linux.pop("seccompPolicy", None)}
    if resources := linux.get("resources"):
        _taken(resources, "blockioClass", "rdtClass")  # likewise names
    return linux | {name: value for name, value in renamed.items() if value is not None}


def _taken(spec: Spec, *names: str) -> Spec:
    return {name: spec.pop(name) for name in names if name in spec}


@dataclass(frozen=True, slots=True)
class _Place:
    """A value of a manifest and the way to it, so that a fault can say where it is."""

    value: Any
    path: str
    document: str

    def get(self, key: str) -> _Place:
        """Step to a key; the value is None where the manifest has no such key."""
        return _Place(self.mapping().get(key), f"{self.path}.{key}".lstrip("."), self.document)

    def mapping(self) -> dict[Any, Any]:
        if self.value is not None and not isinstance(self.value, dict):
            raise self.fault("a mapping")
        return self.value or {}

    def each(self, key: str) -> list[_Place]:
        listed = self.get(key)
        if listed.value is not None and not isinstance(listed.value, list):
            raise listed.fault("a list")
        return [
            _Place(value, f"{listed.path}[{number}]", self.document)
            for number, value in enumerate(listed.value or ())
        ]

    def text(self, key: str) -> str:
        """Give a text, which is empty when the key is missing."""
        found = self.get(key)
        return "" if found.value is None else found.as_text()

    def as_text(self) -> str:
        if not isinstance(self.value, str):
            raise self.fault("a text (quote it)")
        return self.value

    def needed(self, key: str) -> str:
        text = self.text(key)
        if not text:
            raise self.get(key).fault("a text")
        return text

    def texts(self, key: str) -> list[str]:
        return [place.as_text() for place in self.each(key)]

    def pairs(self, key: str) -> dict[str, str]:
        """Give a mapping of texts to texts."""
        pairs = self.get(key)
        for name in pairs.mapping():
            if not isinstance(name, str):
                raise pairs.fault("texts as keys", name)
            pairs.get(name).as_text()
        return pairs.mapping()

    def word(self, key: str, known: dict[str, Any]) -> Any:
        """Give what a word stands for."""
        word = self.text(key)
        if word not in known:
            raise self.get(key).fault(f"one of {', '.join(name for name in known if name)}")
        return known[word]

    def number(self, key: str) -> int | None:
        found = self.get(key)
        return None if found.value is None else found.as_number()

    def as_number(self) -> int:
        """Give a user's or group's number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.fault("a number")
        if not 0 <= self.value < 2**32:
            raise self.fault("a number from 0 to 4294967295")
        return self.value

    def quantity(self, key: str) -> Fraction | None:
        """Give an amount in its base unit: cores of a processor, or bytes."""
        found = self.get(key)
        if found.value is None:
            return None
        if isinstance(found.value, bool) or not isinstance(found.value, str | int | float):
            raise found.fault("a quantity")
        match = _QUANTITY.fullmatch(str(found.value))
        if match is None:
            raise found.fault("a quantity such as 500m or 2Gi")
        number, suffix = match[1], match[2] or ""
        scale = _SCALES.get(suffix)
        return Fraction(number) * scale if scale else Fraction(f"{number}{suffix}")

    def fault(self, expected: str, got: object = None) -> ConfigError:
        value = self.value if got is None else got
        what = "missing" if value is None else f"got {_shortened(repr(value))}"
        place = ": ".join(filter(None, (self.document, self.path)))
        return ConfigError(f"{place}: {what}, expected {expected}")


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _object(place: _Place, usual_kind: str) -> Iterator[Planned]:
    """Read one API object; `usual_kind` is that of the list that it stands in."""
    kind = place.text("kind") or usual_kind or place.needed("kind")
    if kind in _LISTS:
        for item in place.each("items"):
            if item.text("kind") in _LISTS:  # with an alias it might hold itself
                raise item.get("kind").fault("no list inside a list")
            yield from _object(item, _LISTS[kind])
    elif kind in _KINDS and _is_of_group(place, _KINDS[kind]):
        yield from _workload(place, _KINDS[kind])


def _is_of_group(place: _Place, kind: _Kind) -> bool:
    version = place.text("apiVersion")
    return not version or version.rpartition("/")[0] in kind.groups


def _workload(place: _Place, kind: _Kind) -> Iterator[Planned]:
    template = place
    for key in kind.template:
        template = template.get(key)
    spec = template.get("spec")
    if not spec.each("containers"):
        raise spec.get("containers").fault("at least one container")
    pod = _pod(place.get("metadata"), template, kind.suffix)
    for container in (*spec.each("initContainers"), *spec.each("containers")):
        yield Planned(pod, _container(pod, spec, container))


def _pod(metadata: _Place, template: _Place, suffix: str) -> api.Pod:
    name = _pod_name(metadata, suffix)
    namespace = metadata.text("namespace") or "default"
    pod_id = _id(namespace, name)
    # Only a pod's own manifest can hold the pod's uid: a workload's uid is the workload's.
    uid = ("" if suffix else metadata.text("uid")) or str(uuid.UUID(pod_id[:32]))
    own = template.get("metadata")
    return api.Pod(
        id=pod_id,
        name=name,
        uid=uid,
        namespace=namespace,
        labels={
            **own.pairs("labels"),
            "io.cri-containerd.kind": "sandbox",
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        },
        annotations={
            **own.pairs("annotations"),
            "io.kubernetes.cri.container-type": "sandbox",
            **_sandbox_annotations(pod_id, name, namespace, uid),
        },
        runtime_handler=template.get("spec").text("runtimeClassName"),
        linux=api.LinuxPodSandbox(
            cgroup_parent=_cgroup_parent(uid),
            cgroups_path=f"{_cgroup_parent(uid)}/{pod_id}",
            namespaces=[api.LinuxNamespace(type=kind) for kind in ("pid", "ipc", "uts", "mount")],
        ),
        pid=_SANDBOX_PID,
    )


def _pod_name(metadata: _Place, suffix: str) -> str:
    if (prefix := metadata.text("generateName")) and not metadata.text("name"):
        return prefix + _RANDOM + suffix
    return metadata.needed("name") + suffix


def _id(*names: str) -> str:
    """Make an identifier as containerd's look, of names that hold no slash."""
    return hashlib.sha256("/".join(names).encode()).hexdigest()


def _cgroup_parent(uid: str) -> str:
    # A kubelet adds its class of service, which depends on what else the pod has.
    return f"/kubepods/pod{uid}"


def _sandbox_annotations(pod_id: str, name: str, namespace: str, uid: str) -> dict[str, str]:
    return {
        "io.kubernetes.cri.sandbox-id": pod_id,
        "io.kubernetes.cri.sandbox-name": name,
        "io.kubernetes.cri.sandbox-namespace": namespace,
        "io.kubernetes.cri.sandbox-uid": uid,
    }


def _container(pod: api.Pod, spec: _Place, place: _Place) -> api.Container:
    name = place.needed("name")
    container_id = _id(pod.namespace, pod.name, name)
    image = place.text("image")
    return api.Container(
        id=container_id,
        pod_sandbox_id=pod.id,
        name=name,
        labels={
            "io.cri-containerd.kind": "container",
            "io.kubernetes.container.name": name,
            "io.kubernetes.pod.name": pod.name,
            "io.kubernetes.pod.namespace": pod.namespace,
            "io.kubernetes.pod.uid": pod.uid,
        },
        annotations={
            "io.kubernetes.cri.container-name": name,
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.image-name": image,
            **_sandbox_annotations(pod.id, pod.name, pod.namespace, pod.uid),
        },
        args=[*(place.texts("command") or _IMAGE_ENTRYPOINT), *place.texts("args")],
        env=_env(pod, spec, place),
        mounts=_mounts(pod, spec, place),
        hooks=api.Hooks(),
        linux=api.LinuxContainer(
            namespaces=_namespaces(spec),
            resources=_resources(place.get("resources")),
            cgroups_path=f"{_cgroup_parent(pod.uid)}/{container_id}",
            seccomp_profile=_seccomp(spec, place),
        ),
        user=_user(spec.get("securityContext"), place.get("securityContext")),
        image=api.Image(name=image),
    )


def _env(pod: api.Pod, spec: _Place, place: _Place) -> list[str]:
    """List the variables; one whose value comes from elsewhere (valueFrom) is empty."""
    variables = {"PATH": _IMAGE_PATH, "HOSTNAME": spec.text("hostname") or pod.name}
    for variable in place.each("env"):
        variables[variable.needed("name")] = variable.text("value")
    return [f"{name}={value}" for name, value in variables.items()]


def _mounts(pod: api.Pod, spec: _Place, place: _Place) -> list[api.Mount]:
    """List the mounts that every container has, then bind mounts, those of few parts first.

    A mount of the manifest takes the place of another one at the same destination.
    """
    binds = {mount.destination: mount for mount in _pod_mounts(pod)}
    binds |= {mount.destination: mount for mount in _volume_mounts(pod, spec, place)}
    own = [mount for mount in _kernel_mounts() if mount.destination not in binds]
    return [*own, *sorted(binds.values(), key=lambda mount: mount.destination.count("/"))]


def _kernel_mounts() -> list[api.Mount]:
    safe = ("nosuid", "noexec", "nodev")
    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    table = {
        "/proc": ("proc", safe),
        "/dev": ("tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        "/dev/pts": ("devpts", pts),
        "/dev/mqueue": ("mqueue", safe),
        "/sys": ("sysfs", (*safe, "ro")),
        "/sys/fs/cgroup": ("cgroup", (*safe, "relatime", "ro")),
    }
    return [
        api.Mount(destination=destination, type=kind, source=kind, options=options)
        for destination, (kind, options) in table.items()
    ]


def _pod_mounts(pod: api.Pod) -> list[api.Mount]:
    table = {
        "/etc/hostname": f"/var/lib{_CONTAINERD}/{pod.id}/hostname",
        "/etc/hosts": f"{_KUBELET}/{pod.uid}/etc-hosts",
        "/etc/resolv.conf": f"/var/lib{_CONTAINERD}/{pod.id}/resolv.conf",
        "/dev/shm": f"/run{_CONTAINERD}/{pod.id}/shm",  # noqa: S108  # the container's, not ours
    }
    return [_bind(destination, source, "rprivate", "rw") for destination, source in table.items()]


def _bind(destination: str, source: str, propagation: str, access: str) -> api.Mount:
    options = ("rbind", propagation, access)
    return api.Mount(destination=destination, type="bind", source=source, options=options)


def _volume_mounts(pod: api.Pod, spec: _Place, place: _Place) -> Iterator[api.Mount]:
    sources = {
        volume.needed("name"): _volume_source(pod, volume) for volume in spec.each("volumes")
    }
    for mount in place.each("volumeMounts"):
        name = mount.needed("name")
        if name not in sources:
            raise mount.get("name").fault(f"one of the pod's volumes: {', '.join(sources)}")
        if source := sources[name]:
            yield _bind(
                mount.needed("mountPath"),
                f"{source}/{mount.text('subPath')}".rstrip("/") or "/",
                mount.word("mountPropagation", _PROPAGATION),
                "ro" if mount.get("readOnly").value else "rw",
            )


def _volume_source(pod: api.Pod, volume: _Place) -> str:
    """Give the host's path of a volume, or nothing where only a running node has one."""
    if volume.get("hostPath").value is not None:
        return volume.get("hostPath").needed("path")
    if "emptyDir" in volume.mapping():
        name = volume.needed("name")
        return f"{_KUBELET}/{pod.uid}/volumes/kubernetes.io~empty-dir/{name}"
    return ""


def _namespaces(spec: _Place) -> list[api.LinuxNamespace]:
    """List the namespaces: a container has its own, or shares those of the pod's process."""
    shares = spec.get("shareProcessNamespace").value or spec.get("hostPID").value
    shared = {"ipc": "ipc", "uts": "uts", "network": "net", **({"pid": "pid"} if shares else {})}
    return [
        api.LinuxNamespace(
            type=kind,
            path=f"/proc/{_SANDBOX_PID}/ns/{shared[kind]}" if kind in shared else "",
        )
        for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")
    ]


def _resources(place: _Place) -> api.LinuxResources:
    requests, limits = place.get("requests"), place.get("limits")
    cpu_limit, memory_limit = limits.quantity("cpu"), limits.quantity("memory")
    cpu_request = requests.quantity("cpu")
    if cpu_request is None:
        cpu_request = cpu_limit or Fraction(0)
    resources = api.LinuxResources(
        memory=api.LinuxMemory(),
        cpu=api.LinuxCPU(
            shares=api.OptionalUInt64(value=_shares(cpu_request)),
            period=api.OptionalUInt64(value=_CPU_PERIOD),
        ),
        devices=[api.LinuxDeviceCgroup(allow=False, access="rwm")],
    )
    if cpu_limit:
        resources.cpu.quota.value = _quota(cpu_limit)
    if memory_limit:
        resources.memory.limit.value = min(math.ceil(memory_limit), _LARGEST)
    return resources


def _shares(cores: Fraction) -> int:
    return min(max(_milli(cores) * 1024 // 1000, _LEAST_SHARES), _MOST_SHARES)


def _quota(cores: Fraction) -> int:
    return min(max(_milli(cores) * _CPU_PERIOD // 1000, _LEAST_QUOTA), _LARGEST)


def _milli(cores: Fraction) -> int:
    return math.ceil(cores * 1000)  # Kubernetes keeps thousandths, and rounds up


def _seccomp(spec: _Place, place: _Place) -> api.SecurityProfile:
    profile = place.get("securityContext").get("seccompProfile")
    if profile.value is None:
        profile = spec.get("securityContext").get("seccompProfile")
    return api.SecurityProfile(
        profile_type=profile.word("type", _SECCOMP),
        localhost_ref=profile.text("localhostProfile"),
    )


def _user(pod: _Place, container: _Place) -> api.User:
    """Give the process's user: the container's word goes before the pod's, field by field."""
    uid, gid = (
        number if (number := container.number(key)) is not None else pod.number(key)
        for key in ("runAsUser", "runAsGroup")
    )
    groups = [group.as_number() for group in pod.each("supplementalGroups")]
    volumes = pod.number("fsGroup")
    return api.User(
        uid=uid or 0,
        gid=gid or 0,
        additional_gids=[*groups, *(() if volumes is None else (volumes,))],
    )
