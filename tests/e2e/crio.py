"""Run a CRI-O of its own, with NRI and CDI enabled, in a directory below /tmp.

Debian has no CRI-O of a release that speaks today's NRI, so the program is given: NRI_INJECT_CRIO
is the path of a built `crio`, with `pinns` and `conmon` beside it or on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import image
from .archive import Archive, open_packages
from .containerd import Containerd, Options

VARIABLE = "NRI_INJECT_CRIO"
NAME = "cri-o"
LOAD_SECONDS = 60.0

# Nothing of the machine's own: no drop-in directory, no hook directory, no CNI, no registry.
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
namespaces_dir = "{directory}/ns"
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

[crio.image]
pause_image = "{image}"
pause_command = "{pause_command}"
signature_policy = "{directory}/policy.json"
signature_policy_dir = "{directory}/empty"

[crio.network]
network_dir = "{directory}/empty"
plugin_dirs = ["{directory}/empty"]

[crio.nri]
enable_nri = true
nri_listen = "{nri_socket}"
nri_plugin_dir = "{plugin_dir}"
nri_plugin_config_dir = "{plugin_conf_dir}"
nri_plugin_registration_timeout = "{plugin_registration_timeout}"
nri_plugin_request_timeout = "{plugin_request_timeout}"
"""

DIRECTORIES = ("nri", "hooks", "log", "exits", "attach", "ns", "empty", "tmp")
ACCEPT_ANYTHING = {"default": [{"type": "insecureAcceptAnything"}]}
# skopeo, and the libraries of its own that a machine may lack.
SKOPEO = ("skopeo", "libgpgme11", "libassuan0", "libdevmapper1.02.1")


class NotUsable(Exception):
    """Say in one sentence why the given CRI-O cannot be run."""


def given() -> Path | None:
    """Return the program that the environment names, if it names one."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None


class Crio(Containerd):
    """One CRI-O and all its files, with the face of a `Containerd`.

    Raises NotUsable where a program is missing, or for `own_root`.
    """

    refusal = ""

    def __init__(
        self, program: Path, archive: Archive, api: Any, options: Options | None = None
    ) -> None:
        if options and options.own_root:
            raise NotUsable("a root file system of its own is made for containerd only")
        if not program.is_file():
            raise NotUsable(f"{VARIABLE}: there is no program {program}")
        self._program = program
        self._pinns, self._conmon = (self._find(name) for name in ("pinns", "conmon"))
        super().__init__(NAME, archive, api, options)
        for name in DIRECTORIES:
            (self.directory / name).mkdir()
        (self.directory / "policy.json").write_text(json.dumps(ACCEPT_ANYTHING))
        (self.directory / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{self.directory}/root"\n'
            f'runroot = "{self.directory}/run"\n'
        )

    @property
    def socket(self) -> Path:
        return self.directory / "crio.sock"

    @property
    def nri_socket(self) -> Path:
        # A mount that has CRI-O's storage in it has to be a slave, which is not for every root.
        return self.directory / "nri" / "nri.sock"

    def bundle_spec(self, container: str) -> dict[str, Any]:
        """Read the OCI specification that runc got for a container."""
        bundle = self.directory / "run/vfs-containers" / container / "userdata"
        spec: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        return spec

    def import_image(self, archive: Path, name: str = image.NAME) -> None:
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
            env=self._environment | {"LD_LIBRARY_PATH": libraries},
            check=True,
            timeout=LOAD_SECONDS,
        )

    @property
    def _command(self) -> list[str]:
        config = ("--config", str(self.config_path), "--config-dir", str(self.directory / "empty"))
        return [str(self._program), *config]

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "CONTAINERS_STORAGE_CONF": str(self.directory / "storage.conf"),
            "TMPDIR": str(self.directory / "tmp"),
        }

    def _configuration(self, options: Options) -> str:
        cdi_dirs = [self.cdi_dir] if options.cdi_dirs is None else options.cdi_dirs
        return CONFIGURATION.format(
            directory=self.directory,
            socket=self.socket,
            pinns=self._pinns,
            conmon=self._conmon,
            runc=self._archive.runc,
            image=image.NAME,
            pause_command=" ".join(image.ENTRY_COMMAND),
            cdi_dirs=json.dumps([str(path) for path in cdi_dirs]),
            nri_socket=self.nri_socket,
            plugin_dir=self.plugin_dir,
            plugin_conf_dir=self.plugin_conf_dir,
            plugin_registration_timeout=options.plugin_registration_timeout,
            plugin_request_timeout=options.plugin_request_timeout,
        )

    def _find(self, name: str) -> str:
        beside = f"{self._program.parent}:{os.environ.get('PATH', os.defpath)}"
        found = shutil.which(name, path=beside)
        if found is None:
            raise NotUsable(f"{name} is neither beside {self._program} nor on PATH")
        return found
