"""The records of the annotation `devices`: an item, and a device for the container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

from nri_inject.api import Container
from nri_inject.capabilities import Runtime
from nri_inject.host.model import DeviceNode
from nri_inject.text.fields import Fault

if TYPE_CHECKING:  # loaded when a pod requests a device by a selector
    from nri_inject.host.devices.selectors import Selector

Owner: TypeAlias = Literal["container", "host"]
OnChange: TypeAlias = Literal["report", "restart"]


class DeviceRequest(NamedTuple):
    """An item: a device at a path, or the devices of a selector; None where the item says nothing.

    `alias` is the path of a selected device in the container. `how_many` is the expected number of
    selected devices, or `all`. `on_change` is what is requested for when the device changes.
    """

    path: str = ""
    selector: Selector | None = None
    alias: str | None = None
    links: bool = False
    how_many: int | str = 1
    optional: bool = False
    owner: Owner | None = None
    on_change: OnChange = "report"
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    access: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether the item has type and major, so that it needs no lookup on the host."""
        return self.type is not None and self.major is not None


class RequestedDevice(NamedTuple):
    """A device for a container; `type` is empty if the policy allows no lookup of the device."""

    path: str
    type: str
    major: int
    minor: int
    file_mode: int | None
    uid: int | None
    gid: int | None
    access: str

    def owned_by_user_of(self, container: Container, runtime: Runtime) -> RequestedDevice:
        """Return the device, owned by the user of the container's process.

        Runtimes report the user from NRI 0.11.0 on: containerd 2.3.0 and CRI-O 1.36.0. Without it,
        Fault says what to do.
        """
        if not container.HasField("user"):
            name = f"{runtime.name} {runtime.version}".strip() or "the runtime"
            raise Fault(
                f"owner: {name} does not report the container's user (containerd 2.3.0"
                " and CRI-O 1.36.0 do); set uid and gid instead"
            )
        return self._replace(uid=container.user.uid, gid=container.user.gid)


def device_of(request: DeviceRequest, path: str, node: DeviceNode | None) -> RequestedDevice:
    """Return a device with the values of the item, and the rest from the host's node."""
    mode, uid, gid, access = request.file_mode, request.uid, request.gid, request.access
    if node is None:
        kind, major, minor = request.type or "", request.major or 0, request.minor or 0
        return RequestedDevice(path, kind, major, minor, mode, uid, gid, access)
    return RequestedDevice(
        path,
        node.type,
        node.major,
        node.minor,
        node.mode if mode is None else mode,
        node.uid if uid is None else uid,
        node.gid if gid is None else gid,
        access,
    )


R = TypeVar("R", DeviceRequest, RequestedDevice)


def at(record: R, path: str) -> R:
    """Return a record with this path; most records have it already."""
    return record if record.path == path else record._replace(path=path)
