"""The devices of a container: nodes, rules of the cgroup, CDI devices, network interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nri_inject import api
from nri_inject.adjustments.checks import TWICE, add, check, check_range, key_fault, path_fault
from nri_inject.api import Adjustment
from nri_inject.cdi import names as cdi_names
from nri_inject.errors import RequestError
from nri_inject.host.model import MAX_MAJOR, MAX_MINOR, DeviceNode, NotADevice
from nri_inject.host.nodes import HostDevices
from nri_inject.text.fields import Fault
from nri_inject.text.names import interface_fault
from nri_inject.text.words import plain, quoted

_FIFO: Final = "is a fifo; mount it instead"


def add_host_device(
    adjustment: Adjustment,
    host_path: str,
    path: str = "",
    *,
    devices: Mapping[str, DeviceNode] | None = None,
) -> None:
    """Give the container a device of the host, at the same path or at `path`.

    Kind, numbers, mode and owner are those of the host's node; links are followed. `devices` are
    nodes by path, as `Host.devices` of an injector or a dict in a test; None looks at the host.
    A path that others than root can redirect is refused.
    """
    try:
        node = (HostDevices() if devices is None else devices)[host_path]
    except NotADevice as error:
        raise RequestError([f"device {quoted(host_path)} {plain(error.why)}"]) from error
    except KeyError as error:
        raise RequestError([f"device {quoted(host_path)} does not exist on the host"]) from error
    if node.doubt is not None:
        raise RequestError([f"others can redirect {quoted(host_path)}: {plain(node.doubt)}"])
    if node.type == "p":
        check("device", host_path, _FIFO)
    owner = {"file_mode": node.mode, "uid": node.uid, "gid": node.gid}
    add_device(adjustment, path or host_path, node.type, node.major, node.minor, **owner)


def add_device(
    adjustment: Adjustment,
    path: str,
    kind: str,
    major: int,
    minor: int,
    *,
    file_mode: int | None = None,
    uid: int | None = None,
    gid: int | None = None,
) -> None:
    """Give the container a device by its numbers; `kind` is c or b, the host is not looked at.

    The container may read and write it. Without `file_mode`, `uid` and `gid` the OCI runtime
    chooses: 0666 and root.
    """
    check("device", path, path_fault(path))
    if kind not in ("c", "b"):
        check("device", path, _FIFO if kind == "p" else f"is of kind {quoted(kind)}, not c or b")
    check_range(f"device {quoted(path)}: major", major, 0, MAX_MAJOR)
    check_range(f"device {quoted(path)}: minor", minor, 0, MAX_MINOR)
    device = api.LinuxDevice(path=path, type=kind, major=major, minor=minor)
    if file_mode is not None:
        check_range(f"device {quoted(path)}: file_mode", file_mode, 0, 0o7777)
        device.file_mode.CopyFrom(api.OptionalFileMode(value=file_mode))
    for name, number in (("uid", uid), ("gid", gid)):
        if number is not None:
            check_range(f"device {quoted(path)}: {name}", number, 0, 2**32 - 1)
            getattr(device, name).CopyFrom(api.OptionalUInt32(value=number))
    add(adjustment.linux.devices, "path", device, "device")


def remove_device(adjustment: Adjustment, path: str) -> None:
    """Take back a device of an earlier plugin; one of the pod stays."""
    check("device", path, path_fault(path))
    add(adjustment.linux.devices, "path", api.LinuxDevice(path=f"-{path}"), "device")


def add_device_rule(
    adjustment: Adjustment,
    kind: str,
    major: int | None,
    minor: int | None,
    access: str = "rwm",
    *,
    allow: bool = True,
) -> None:
    """Allow or deny what the cgroup lets the container do with devices, also with later ones.

    `kind` is c, b, or a for both; None is every number; `access` has some of the letters r, w and
    m. The last rule that matches counts. It needs NRI 0.10.0 (containerd 2.2.0, CRI-O 1.34).
    """
    if kind not in ("a", "b", "c"):
        raise RequestError([f"device rule: kind {quoted(kind)} is not a, b or c"])
    if not access or not {*access} <= {*"rwm"}:
        raise RequestError([f"device rule: access {quoted(access)} is not some of r, w and m"])
    rule = api.LinuxDeviceCgroup(allow=allow, type=kind, access=access)
    for name, number, most in (("major", major, MAX_MAJOR), ("minor", minor, MAX_MINOR)):
        if number is not None:
            check_range(f"device rule: {name}", number, 0, most)
            getattr(rule, name).CopyFrom(api.OptionalInt64(value=number))
    adjustment.linux.resources.devices.append(rule)


def add_cdi_device(adjustment: Adjustment, name: str) -> None:
    """Request a CDI device such as vendor.com/class=name, which the runtime resolves.

    It needs NRI 0.7.0 (containerd 1.7.30, containerd 2.1.0, CRI-O 1.34); containerd 2.0 has none.
    """
    try:
        cdi_names.parse(name)
    except Fault as fault:
        raise RequestError(fault.sentences) from fault
    add(adjustment.CDI_devices, "name", api.CDIDevice(name=name), "CDI device")


def add_net_device(adjustment: Adjustment, host_name: str, name: str = "") -> None:
    """Move a network interface of the host into the container, under its name or `name`.

    It needs NRI 0.11.0 (containerd 2.2.1, CRI-O 1.35).
    """
    devices = adjustment.linux.net_devices
    for text in (host_name, name or host_name):
        check("network device", text, key_fault(text) or interface_fault(text))
    if host_name in devices and devices[host_name].name != name:
        check("network device", host_name, TWICE)
    inside = {each.name or host for host, each in devices.items() if host != host_name}
    if (name or host_name) in inside:
        check("network device", name or host_name, "would be in the container twice")
    devices[host_name].CopyFrom(api.LinuxNetDevice(name=name))


def remove_net_device(adjustment: Adjustment, host_name: str) -> None:
    """Take back a network interface of an earlier plugin.

    It needs NRI 0.11.0 (containerd 2.2.1, CRI-O 1.35).
    """
    check("network device", host_name, key_fault(host_name) or interface_fault(host_name))
    adjustment.linux.net_devices[f"-{host_name}"].SetInParent()
