"""What a kubelet and containerd make of a pod's spec, as far as that is known without a node.

A value that only a running node knows has a placeholder, the same in every run.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Iterator
from fractions import Fraction

from nri_inject import api
from nri_inject.text.fields import Fault, Problem, Values

RANDOM = "00000"
"""Stands for the five characters that Kubernetes draws for the name of a workload's pod."""

# The image's own configuration is out of reach: its user is taken for root, its path for the
# usual one, and its entry point for a shell.
_IMAGE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IMAGE_ENTRYPOINT = ("sh",)

# A pod's process exists when its containers are created. This number is one that the kernel
# never gives out (its largest is 2**22), so it is no process of this host.
_SANDBOX_PID = 2**22 + 1

_CONTAINERD = "/containerd/io.containerd.grpc.v1.cri/sandboxes"
_KUBELET = "/var/lib/kubelet/pods"

_CPU_PERIOD = 100_000
_LEAST_QUOTA = 1_000
_LEAST_SHARES, _MAX_SHARES = 2, 262_144
_MAX_INT64 = 2**63 - 1


def pod_of(metadata: Values, template: Values, suffix: str) -> api.Pod:
    """Return the pod of a template; `metadata` is of the object that has the template.

    `suffix` is what the object's kind adds to the pod's name. Fault if there is no name.
    """
    name = _pod_name(metadata, suffix)
    namespace = metadata.get("namespace") or "default"
    pod_id = _id(namespace, name)
    # Only a pod's own manifest can hold the pod's uid: a workload's uid is the workload's.
    uid = ("" if suffix else metadata.get("uid", "")) or str(uuid.UUID(pod_id[:32]))
    own = template.get("metadata", {})
    return api.Pod(
        id=pod_id,
        name=name,
        uid=uid,
        namespace=namespace,
        labels={
            **own.get("labels", {}),
            "io.cri-containerd.kind": "sandbox",
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        },
        annotations={
            **own.get("annotations", {}),
            "io.kubernetes.cri.container-type": "sandbox",
            **_sandbox_annotations(pod_id, name, namespace, uid),
        },
        runtime_handler=template["spec"].get("runtimeClassName", ""),
        linux=api.LinuxPodSandbox(
            cgroup_parent=_cgroup_parent(uid),
            cgroups_path=f"{_cgroup_parent(uid)}/{pod_id}",
            namespaces=[
                api.LinuxNamespace(type=kind) for kind in _pod_namespaces(template["spec"])
            ],
        ),
        pid=_SANDBOX_PID,
    )


def _pod_namespaces(spec: Values) -> list[str]:
    """Return the namespaces that a pod has for itself."""
    shared = {
        "pid": spec.get("hostPID"),
        "ipc": spec.get("hostIPC"),
        "uts": False,
        "mount": False,
        "network": spec.get("hostNetwork"),
    }
    return [kind for kind, is_shared in shared.items() if not is_shared]


def _pod_name(metadata: Values, suffix: str) -> str:
    name, prefix = metadata.get("name"), metadata.get("generateName")
    if not name and not prefix:
        raise Fault(Problem("missing", ("metadata",), "name is missing"))
    return (name or f"{prefix}{RANDOM}") + suffix


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


def container_of(pod: api.Pod, spec: Values, container: Values) -> api.Container:
    """Return one container of a pod, whose `spec` may have values for all its containers."""
    name, image = container["name"], container.get("image", "")
    container_id = _id(pod.namespace, pod.name, name)
    security, own_security = (one.get("securityContext", {}) for one in (spec, container))
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
        args=[*(container.get("command") or _IMAGE_ENTRYPOINT), *container.get("args", ())],
        env=_env(pod, spec, container),
        mounts=_mounts(pod, spec, container),
        hooks=api.Hooks(),
        linux=api.LinuxContainer(
            namespaces=_namespaces(spec),
            resources=_resources(container.get("resources", {})),
            cgroups_path=f"{_cgroup_parent(pod.uid)}/{container_id}",
            seccomp_profile=_seccomp(security, own_security),
        ),
        user=_user(security, own_security),
        image=api.Image(name=image),
    )


def _env(pod: api.Pod, spec: Values, container: Values) -> list[str]:
    """List the variables; one whose value comes from elsewhere (valueFrom) is empty."""
    variables = {"PATH": _IMAGE_PATH, "HOSTNAME": spec.get("hostname") or pod.name}
    for variable in container.get("env", ()):
        variables[variable["name"]] = variable.get("value", "")
    return [f"{name}={value}" for name, value in variables.items()]


def _mounts(pod: api.Pod, spec: Values, container: Values) -> list[api.Mount]:
    """List the mounts that every container has, then bind mounts, those of few parts first.

    A mount of the manifest takes the place of another one at the same destination.
    """
    binds = {mount.destination: mount for mount in _pod_mounts(pod)}
    binds |= {mount.destination: mount for mount in _volume_mounts(pod, spec, container)}
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


def _volume_mounts(pod: api.Pod, spec: Values, container: Values) -> Iterator[api.Mount]:
    sources = {volume["name"]: _volume_source(pod, volume) for volume in spec.get("volumes", ())}
    for mount in container.get("volumeMounts", ()):
        if source := sources[mount["name"]]:
            yield _bind(
                mount["mountPath"],
                f"{source}/{mount.get('subPath', '')}".rstrip("/") or "/",
                mount.get("mountPropagation", "rprivate"),
                "ro" if mount.get("readOnly") else "rw",
            )


def _volume_source(pod: api.Pod, volume: Values) -> str:
    """Return the host's path of a volume, or "" where only a running node has one."""
    if "hostPath" in volume:
        return str(volume["hostPath"]["path"])
    if "emptyDir" in volume:
        return f"{_KUBELET}/{pod.uid}/volumes/kubernetes.io~empty-dir/{volume['name']}"
    return ""


def _namespaces(spec: Values) -> list[api.LinuxNamespace]:
    """List the namespaces: a container has its own, or shares those of the pod's process."""
    shares = spec.get("shareProcessNamespace") or spec.get("hostPID")
    shared = {"ipc": "ipc", "uts": "uts", "network": "net", **({"pid": "pid"} if shares else {})}
    return [
        api.LinuxNamespace(
            type=kind,
            path=f"/proc/{_SANDBOX_PID}/ns/{shared[kind]}" if kind in shared else "",
        )
        for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")
    ]


def _resources(wanted: Values) -> api.LinuxResources:
    requests, limits = wanted.get("requests", {}), wanted.get("limits", {})
    cpu_limit, memory_limit = limits.get("cpu"), limits.get("memory")
    cpu_request = requests.get("cpu", cpu_limit or Fraction(0))
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
        resources.memory.limit.value = min(math.ceil(memory_limit), _MAX_INT64)
    return resources


def _shares(cores: Fraction) -> int:
    return min(max(_milli(cores) * 1024 // 1000, _LEAST_SHARES), _MAX_SHARES)


def _quota(cores: Fraction) -> int:
    return min(max(_milli(cores) * _CPU_PERIOD // 1000, _LEAST_QUOTA), _MAX_INT64)


def _milli(cores: Fraction) -> int:
    return math.ceil(cores * 1000)  # Kubernetes keeps thousandths, and rounds up


def _seccomp(pod: Values, container: Values) -> api.SecurityProfile:
    profile = {**pod, **container}.get("seccompProfile", {})
    return api.SecurityProfile(
        # The kubelet's default.
        profile_type=profile.get("type", api.SecurityProfile.UNCONFINED),
        localhost_ref=profile.get("localhostProfile", ""),
    )


def _user(pod: Values, container: Values) -> api.User:
    """Return the process's user; each field of the container's context overrides the pod's."""
    both = {**pod, **container}
    volumes = [pod["fsGroup"]] if "fsGroup" in pod else []
    return api.User(
        uid=both.get("runAsUser", 0),
        gid=both.get("runAsGroup", 0),
        additional_gids=[*pod.get("supplementalGroups", ()), *volumes],
    )
