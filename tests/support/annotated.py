"""Read a pod's annotations as the plugins do, on a host that has every device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi import names
from nri_inject.host.devices import inventory
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.injectors.device import inject
from nri_inject.injectors.device.injector import KINDS
from nri_inject.injectors.giving import refused, requested_profiles
from nri_inject.injectors.host import Host
from nri_inject.plugins.resource_assigner import pools
from nri_inject.service.config import AssignerConfig
from nri_inject.text import yamltext
from nri_inject.text.fields import list_of, read_line
from support.machine import machine, write

DOMAIN = ".noderesource.dev"
INJECTED = {kind.prefix.removesuffix(DOMAIN) for kind in KINDS}


class Everything(dict[str, DeviceNode]):
    """The machine of the tests, and a character device at every other path."""

    def __missing__(self, path: str) -> DeviceNode:
        return DeviceNode(path, "c", 240, len(path), 0o600, 0, 0, path)


class Places(dict[str, HostPath]):
    """A host without links."""

    def __missing__(self, path: str) -> HostPath:
        return HostPath(path)


def host_with_everything(root: Path) -> Host:
    """Return a host with the machine of the tests, written below `root`."""
    found = inventory.read(str(write(root, machine())))
    nodes = Everything()
    for device in found:
        for path in device.paths:
            nodes[path] = DeviceNode(path, *device.number, 0o660, 0, 20, real=device.path)
    return Host(nodes, files=Places(), inventory=lambda: found)


def read_request(key: str, value: str, host: Host) -> None:
    """Read one annotation by the reader of its kind; it must request something."""
    kind = key.partition(DOMAIN)[0]
    name = key.partition("/container.")[2] or "main"
    container = Container(name=name, user={"uid": 1000, "gid": 1000})
    pod = Pod(annotations={key: value})
    if kind in INJECTED:
        assert inject(pod, container, host) != Adjustment(), key
    elif kind == "cdi-devices":
        requested = list_of(read_line, most=100)(yamltext.load(value, yamltext.ANNOTATION))
        assert [names.parse(each) for each in requested], key
    elif kind == "exclusive-cpus":
        rules = AssignerConfig(beyond_requests=("*",))
        assert pools.exclusive_count(pools.subject_of(pod, container), rules), key
    elif kind in ("profiles", "refuse"):
        read = {"profiles": requested_profiles, "refuse": refused}[kind]
        assert read(pod, container, host), key
    else:
        assert kind.endswith("hooks"), f"no plugin reads {key}"


def read_requests(annotations: Mapping[str, str], host: Host) -> None:
    """Read those annotations that are of our domain."""
    for key, value in annotations.items():
        if DOMAIN in key:
            read_request(key, value, host)
