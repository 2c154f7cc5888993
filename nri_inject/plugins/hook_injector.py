"""The plugin `nri-hook-injector`: OCI hooks of the admin's hook files."""

from __future__ import annotations

from typing import Final

from nri_inject.capabilities import Runtime
from nri_inject.hooks.match import Choices
from nri_inject.hooks.registry import DIRECTORIES, HookRegistry
from nri_inject.injectors.compose import Injector
from nri_inject.injectors.giving import Give
from nri_inject.injectors.hooks import giver, injector
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.environment import InjectorSpec
from nri_inject.service.injector import service_of


def _choices(config: Config) -> Choices:
    return Choices(
        bind_mounts=config.hooks.bind_mounts,
        empty_command=config.hooks.empty_command,
        unusable_program=config.hooks.unusable_program,
        present=config.hooks.present,
    )


def _configured(config: Config, _: Runtime) -> Injector:
    return injector(_choices(config), unsafe=config.unsafe_files)


def _givers(config: Config, _: Runtime) -> dict[str, Give]:
    return {"hooks": giver(_choices(config), unsafe=config.unsafe_files)}


def _source(options: Options, config: Config) -> HookRegistry:
    return HookRegistry(
        options.hooks_dir or config.hooks.dirs or DIRECTORIES,
        unsafe=config.unsafe_files,
        host_root=config.host_root if config.hooks.host_root == "/" else config.hooks.host_root,
    )


PART: Final = InjectorSpec(build=_configured, sources={"hooks": _source}, givers=_givers)

main: Final = Command(
    name="hook-injector",
    idx="30",
    service=service_of(PART),
    help="Inject the OCI hooks that hook files define.",
    example="nri-hook-injector --idx 30 --hooks-dir /etc/containers/oci/hooks.d",
)
