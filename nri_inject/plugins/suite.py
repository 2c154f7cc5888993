"""All injectors in one process, with one registration: the same functions, composed.

Also the program behind `nri-inject`: without arguments and with a runtime's socket it is this
plugin, and a link to it that is named after a single plugin is that plugin.
"""

from __future__ import annotations

from typing import Final

from nri_inject.plugins import cdi_injector, device_injector, hook_injector
from nri_inject.service.command import Command
from nri_inject.service.injector import service_of

PARTS: Final = (device_injector.PART, cdi_injector.PART, hook_injector.PART)
"""All injectors of the suite, in the order of their plugins' indexes."""

main: Final = Command(
    name="nri-inject",
    idx="20",
    service=service_of(*PARTS),
    help="Inject devices, CDI devices and OCI hooks, all from one plugin.",
    example="nri-inject run --idx 20 --config /etc/nri-inject/config.yaml",
)
