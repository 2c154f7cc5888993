"""The plugin `nri-cdi-injector`: CDI devices by annotation, on any runtime."""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from nri_inject.capabilities import Runtime
from nri_inject.cdi import registry
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.errors import ConfigError
from nri_inject.injectors.cdi import make_giver, make_injector, refusal
from nri_inject.injectors.compose import Injector
from nri_inject.injectors.giving import Give
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.environment import InjectorSpec
from nri_inject.service.injector import service_of

log = logging.getLogger(__name__)


def _configured(config: Config, runtime: Runtime) -> Injector:
    """Return the injector; ConfigError if the runtime would lose what it is handed."""
    why = refusal(config.cdi.mode, runtime)
    if why is not None:
        raise ConfigError(why)
    trusting = config.cdi.container_annotations == "trust"
    if trusting:
        log.warning(
            "cdi: container_annotations: trust: CDI names in a container's annotations need no"
            " rule,"
            " regardless of their author"
        )
    return make_injector(
        config.cdi.mode,
        lenient=config.on_unsupported == "warn",
        unsafe=config.unsafe_files,
        trusting=trusting,
        adopted=config.annotations.adopted,
        runtime=runtime,
    )


def _givers(config: Config, runtime: Runtime) -> dict[str, Give]:
    give = make_giver(
        config.cdi.mode,
        lenient=config.on_unsupported == "warn",
        unsafe=config.unsafe_files,
        runtime=runtime,
    )
    return {"cdi_devices": give}


def _source(options: Options, config: Config) -> CdiRegistry:
    return CdiRegistry(
        options.cdi_dir or config.cdi.dirs or registry.DEFAULT_DIRECTORIES,
        unsafe=config.unsafe_files,
        report=partial(log.warning, "CDI: %s"),
    )


PART: Final = InjectorSpec(build=_configured, sources={"cdi": _source}, givers=_givers)

main: Final = Command(
    name="cdi-injector",
    idx="20",
    service=service_of(PART),
    help="Inject the CDI devices that pod annotations name, on any runtime.",
    example="nri-cdi-injector --idx 20 --cdi-dir /etc/cdi --policy unrestricted",
)
