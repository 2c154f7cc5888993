"""The policies among the examples: each is sound, and allows what its text says and no more."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from nri_inject.api import Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.injectors.device import inject
from nri_inject.injectors.giving import read_gifts
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.naming import named
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Policy

POLICIES = Path(__file__).parents[2] / "examples" / "policies"
FILES = sorted(POLICIES.glob("*.yaml"))


class Everything(dict[str, DeviceNode]):
    """A host that has a device at every path, each with a number of its own."""

    def __missing__(self, path: str) -> DeviceNode:
        self[path] = DeviceNode(path, "c", 240, len(self), 0o600, 0, 0, path)
        return self[path]


class Places(dict[str, HostPath]):
    """A host without links."""

    def __missing__(self, path: str) -> HostPath:
        return HostPath(path)


def read(name: str) -> Policy:
    return document.read((POLICIES / name).read_bytes(), name, read_gifts)


def verdicts(name: str, pod: Pod, kind: str, texts: list[str]) -> list[str]:
    """Return what becomes of each text, an item of the annotation of this kind."""
    found: list[str] = []
    for text in texts:
        permit = Permit(read(name), pod, Container(name="main"), "10-device-injector")
        asking = Pod(annotations={f"{kind}.noderesource.dev": f"[{text}]"})
        asking.MergeFrom(pod)
        with suppress(RequestError):
            inject(
                asking, Container(name="main"), Host(Everything(), files=Places(), permit=permit)
            )
        found += [decision.verdict for decision in permit.decisions]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_a_sound_policy_and_in_the_list(file: Path) -> None:
    assert read(file.name).rules
    assert f"[{file.name}]({file.name})" in (POLICIES / "README.md").read_text()


def paths(*names: str) -> list[str]:
    return [f"{{path: {name}}}" for name in names]


CI = Pod(namespace="ci", labels={"app": "builder"})
CASES = {
    "fuse": ("fuse-for-builders", CI, "devices", paths("/dev/fuse"), "allow"),
    "not fuse": ("fuse-for-builders", CI, "devices", paths("/dev/kvm"), "deny"),
    "no builder": (
        "fuse-for-builders",
        Pod(namespace="ci"),
        "devices",
        paths("/dev/fuse"),
        "deny",
    ),
    "serial ports": (
        "serial-ports",
        Pod(namespace="lab"),
        "devices",
        paths("/dev/ttyUSB0", "/dev/ttyACM12", "/dev/ttyS1"),
        "allow",
    ),
    "console": (
        "serial-ports",
        Pod(namespace="lab"),
        "devices",
        paths("/dev/ttyS0", "/dev/tty1"),
        "deny",
    ),
    "kvm": (
        "kvm-for-a-runtime-class",
        Pod(namespace="virtual-machines", runtime_handler="kata-qemu"),
        "devices",
        paths("/dev/kvm", "/dev/vhost-net", "/dev/net/tun"),
        "allow",
    ),
    "kvm elsewhere": (
        "kvm-for-a-runtime-class",
        Pod(namespace="default", runtime_handler="kata-qemu"),
        "devices",
        paths("/dev/kvm"),
        "deny",
    ),
    "kvm in runc": (
        "kvm-for-a-runtime-class",
        Pod(namespace="virtual-machines"),
        "devices",
        paths("/dev/kvm"),
        "deny",
    ),
    "models": (
        "models-read-only",
        Pod(namespace="team-a"),
        "mounts",
        [
            "{source: /srv/models/team-a, destination: /models/all, type: bind, options: [ro]}",
            "{source: /srv/models/team-a/x, destination: /models/x, type: bind, options: [ro]}",
        ],
        "allow",
    ),
    "models of others": (
        "models-read-only",
        Pod(namespace="team-a"),
        "mounts",
        [
            "{source: /srv/models/team-b, destination: /models/b, type: bind, options: [ro]}",
            "{source: /srv/models, destination: /models/b, type: bind, options: [ro]}",
            "{source: /srv/models/team-a, destination: /models/b, type: bind, options: [rw]}",
            "{source: /srv/models/team-a, destination: /etc, type: bind, options: [ro]}",
        ],
        "deny",
    ),
    "rdma": (
        "rdma",
        Pod(namespace="hpc"),
        "devices",
        paths("/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm"),
        "allow",
    ),
    "memory": (
        "rdma",
        Pod(namespace="hpc"),
        "ulimits",
        ["{type: MEMLOCK, hard: 68719476736}"],
        "allow",
    ),
    "too much memory": (
        "rdma",
        Pod(namespace="hpc"),
        "ulimits",
        ["{type: MEMLOCK, hard: 68719476737}"],
        "deny",
    ),
    "warned": ("start-with-warnings", CI, "devices", paths("/dev/kvm"), "warn"),
}


@pytest.mark.parametrize(
    ("name", "pod", "kind", "texts", "verdict"), CASES.values(), ids=CASES.keys()
)
def test_an_example_allows_what_its_text_says(
    name: str, pod: Pod, kind: str, texts: list[str], verdict: str
) -> None:
    assert verdicts(f"{name}.yaml", pod, kind, texts) == [verdict] * len(texts)


@pytest.mark.parametrize(
    ("namespace", "device", "verdict"),
    [
        ("training", "0", "allow"),
        ("training", "all", "deny"),
        ("gpu-operator", "all", "allow"),
        ("default", "0", "deny"),
    ],
)
def test_gpus_are_allowed_one_at_a_time(namespace: str, device: str, verdict: str) -> None:
    permit = Permit(read("gpus-by-name.yaml"), Pod(namespace=namespace), Container(), "10-x")
    item = named("cdi_devices", f"nvidia.com/gpu={device}", "CDI device")
    assert permit.decide(item).verdict == verdict
