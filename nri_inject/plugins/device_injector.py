"""The plugin `nri-device-injector`: devices, mounts and limits by annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.environment import InjectorSpec, Source
from nri_inject.service.injector import service_of

if TYPE_CHECKING:  # loaded when a pod requests a device by a selector
    pass

from nri_inject.injectors.device import inject


def _inventory(_options: Options, _config: Config) -> Source:
    from nri_inject.host.devices.source import HostInventory

    return HostInventory()


PART: Final = InjectorSpec(
    build=lambda _config, _runtime: inject,
    sources={"inventory": _inventory},
)

main: Final = Command(
    name="device-injector",
    idx="10",
    service=service_of(PART),
    help="Inject the devices, mounts and limits that pod annotations request.",
    example="nri-device-injector --idx 10 --policy unrestricted",
)
