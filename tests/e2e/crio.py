"""A CRI-O to run the tests on, which somebody gives: Debian has none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import crun, image
from .archive import Archive, open_packages
from .daemon import START_SECONDS, SYSTEM_PATH, Daemon, Options, toml
from .given import CRIO_VARIABLE, NotUsable

NAME = "cri-o"

# Nothing of the machine's own: no drop-in directory, no hook directory, no CNI, no registry. The
# driver vfs copies, as containerd's native snapshotter does, and works where overlay does not.
CONFIGURATION = """\
[crio]
root = "{directory}/root"
runroot = "{directory}/run"
storage_driver = "vfs"
log_dir = "{directory}/log"
version_file = "{directory}/version"
version_file_persist = "{directory}/version-persist"
clean_shutdown_file = "{directory}/clean"
internal_wipe = false

[crio.api]
listen = "{socket}"
stream_address = "127.0.0.1"
stream_port = "0"

[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
default_runtime = "runc"
hooks_dir = ["{directory}/hooks"]
namespaces_dir = "{directory}/namespaces"
container_exits_dir = "{directory}/exits"
container_attach_socket_dir = "{directory}/attach"
pinns_path = "{pinns}"
cdi_spec_dirs = {cdi_dirs}
apparmor_profile = "unconfined"

[crio.runtime.runtimes.runc]
runtime_path = "{runc}"
runtime_root = "{directory}/runc"
runtime_type = "oci"
monitor_path = "{conmon}"

[crio.runtime.runtimes.crun]
runtime_path = "{crun}"
runtime_root = "{directory}/crun-state"
runtime_type = "oci"
monitor_path = "{conmon}"

[crio.image]
pause_image = "{image}"
pause_command = "{pause_command}"
signature_policy = "{directory}/policy.json"
signature_policy_dir = "{directory}/none"

[crio.network]
network_dir = "{directory}/none"
plugin_dirs = ["{directory}/none"]

[crio.nri]
enable_nri = true
nri_listen = "{nri_socket}"
nri_plugin_dir = "{plugin_dir}"
nri_plugin_config_dir = "{plugin_conf_dir}"
nri_plugin_registration_timeout = "{plugin_registration_timeout}"
nri_plugin_request_timeout = "{plugin_request_timeout}"

[crio.nri.default_validator]
{default_validator}
"""

DIRECTORIES = ("nri", "hooks", "log", "exits", "attach", "namespaces", "none", "tmp")
ACCEPT_ANYTHING = {"default": [{"type": "insecureAcceptAnything"}]}
# skopeo, and the libraries of its own that a machine may lack.
SKOPEO = ("skopeo", "libgpgme11", "libassuan0", "libdevmapper1.02.1")


class CriO(Daemon):
    """A CRI-O. Raises NotUsable where a program that it needs is missing, or for `own_root`."""

    bundles = "run/vfs-containers/{}/userdata"
    refusal = ""

    def __init__(self, program: Path, archive: Archive, api: Any, options: Options) -> None:
        self._program = program
        super().__init__(NAME, archive, api, options)

    @property
    def nri_socket(self) -> Path:
        # A mount that has CRI-O's storage in it has to be a slave, which is not for every root.
        return self.directory / "nri" / "nri.sock"

    def _import(self, archive: Path, name: str) -> None:
        """Put an image into the storage, which CRI-O reads for each request."""
        packages = open_packages("skopeo", *SKOPEO)
        libraries = ":".join(str(path) for path in packages.glob("**/*-linux-*") if path.is_dir())
        storage = f"[vfs@{self.directory}/root+{self.directory}/run]"
        subprocess.run(
            [
                *(packages / "usr/bin/skopeo", "--policy", self.directory / "policy.json"),
                *("copy", "--quiet", f"oci-archive:{archive}"),
                f"containers-storage:{storage}{name}",
            ],
            env={**self._environment, "LD_LIBRARY_PATH": libraries},
            check=True,
            timeout=START_SECONDS,
        )

    def _configure(self, options: Options) -> None:
        if options.own_root:
            raise NotUsable("a root file system of its own is made for containerd only")
        for name in DIRECTORIES:
            (self.directory / name).mkdir()
        (self.directory / "policy.json").write_text(json.dumps(ACCEPT_ANYTHING))
        (self.directory / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.directory}/root"\n'
            f'runroot = "{self.directory}/run"\n'
        )
        self.config_path.write_text(
            CONFIGURATION.format(
                directory=self.directory,
                socket=self.socket,
                pinns=self._find("pinns"),
                conmon=self._find("conmon"),
                runc=self._archive.runc,
                crun=crun.write_handler(self.directory),
                image=image.NAME,
                pause_command=" ".join(image.ENTRY_COMMAND),
                cdi_dirs=self._cdi_dirs(options),
                nri_socket=self.nri_socket,
                plugin_dir=self.plugin_dir,
                plugin_conf_dir=self.plugin_conf_dir,
                plugin_registration_timeout=options.plugin_registration_timeout,
                plugin_request_timeout=options.plugin_request_timeout,
                default_validator=toml(_as_crio_says(options.default_validator)),
            )
        )

    @property
    def _command(self) -> Sequence[str | Path]:
        none = self.directory / "none"
        return [self._program, "--config", self.config_path, "--config-dir", none]

    @property
    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": SYSTEM_PATH,
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
            "TMPDIR": str(self.directory / "tmp"),
        }

    def _find(self, name: str) -> str:
        beside = f"{self._program.parent}:{os.environ.get('PATH', os.defpath)}"
        found = shutil.which(name, path=beside)
        if found is None:
            raise NotUsable(
                f"{CRIO_VARIABLE}: {name} is neither beside {self._program} nor on PATH"
            )
        return found


def _as_crio_says(validator: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of NRI's own validator under CRI-O's names (CRI-O 1.34)."""
    named = {f"nri_validator_{key}": value for key, value in validator.items() if key != "enable"}
    return {"nri_enable_default_validator": validator.get("enable", False), **named}
