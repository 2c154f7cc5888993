"""The plugin `nri-device-injector`: devices, mounts and limits by annotation."""

from __future__ import annotations

from typing import Final

from nri_inject.injectors.device import injecting
from nri_inject.injectors.device.giving import GIVERS
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.environment import InjectorSpec, Source
from nri_inject.service.injector import service_of


def _inventory(_options: Options, configured: Config) -> Source:
    from nri_inject.host.devices.source import HostInventory

    return HostInventory(configured.host_root)


PART: Final = InjectorSpec(
    build=lambda config, _runtime: injecting(config.annotations.adopted),
    sources={"inventory": _inventory},
    givers=lambda _config, _runtime: GIVERS,
)

main: Final = Command(
    name="device-injector",
    idx="10",
    service=service_of(PART),
    help="Inject the devices, mounts and limits that pod annotations request.",
    example="nri-device-injector --idx 10 --policy unrestricted",
)
