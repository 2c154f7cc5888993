"""A containerd to run the tests on: of Debian, or one that somebody gives."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import crun, image, poll
from .archive import Archive
from .daemon import START_SECONDS, SYSTEM_PATH, Daemon, Options, toml
from .hostroot import HostRoot
from .oci_runtimes import with_cgroups, write_program

COMMON = """\
version = {version}
root = "{directory}/root"
state = "{directory}/state"

[grpc]
address = "{socket}"

[ttrpc]
address = "{socket}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"

[plugins."io.containerd.nri.v1.nri"]
disable = false
disable_connections = false
socket_path = "{nri_socket}"
plugin_path = "{plugin_path}"
plugin_config_path = "{plugin_config_path}"
plugin_registration_timeout = "{plugin_registration_timeout}"
plugin_request_timeout = "{plugin_request_timeout}"

[plugins."io.containerd.nri.v1.nri".default_validator]
{default_validator}
"""

# The native snapshotter copies 2 MB for a container, and works where the overlay file system
# does not: on top of another overlay, as in a CI job that is itself a container.
# Without restrict_oom_score_adj every pod fails where root lacks CAP_SYS_RESOURCE.
CRI_1 = """
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
disable_apparmor = true
restrict_oom_score_adj = true
enable_cdi = true
cdi_spec_dirs = {cdi_dirs}

[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{directory}/cni"
bin_dir = "{directory}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{directory}/runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
BinaryName = "{crun}"
Root = "{directory}/crun-state"
"""

CRI_2 = """
[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{image}"

[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
restrict_oom_score_adj = true
enable_cdi = true
cdi_spec_dirs = {cdi_dirs}

[plugins."io.containerd.cri.v1.runtime".cni]
conf_dir = "{directory}/cni"
bin_dirs = ["{directory}/cni"]

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{directory}/runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.crun.options]
BinaryName = "{crun}"
Root = "{directory}/crun-state"
"""

HANDLER = """
[plugins."{plugin}".containerd.runtimes.{name}]
runtime_type = "io.containerd.runc.v2"

[plugins."{plugin}".containerd.runtimes.{name}.options]
BinaryName = "{program}"
Root = "{directory}/{name}-state"
"""
HANDLER_PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}

# A network plugin that says it has done what it was asked.
NETWORK = """\
#!/bin/sh
cat >/dev/null
interface='"interfaces": [{"name": "eth0", "sandbox": "'$CNI_NETNS'"}]'
address='"ips": [{"interface": 0, "address": "192.0.2.2/24"}]'
echo '{"cniVersion": "1.0.0", '$interface', '$address'}'
"""
NETWORK_LIST = """\
{"cniVersion": "1.0.0", "name": "empty", "plugins": [{"type": "none"}]}
"""


class Containerd(Daemon):
    """A containerd whose program, shim and ctr are in the directory `tools`."""

    bundles = "state/io.containerd.runtime.v2.task/k8s.io/{}"
    refusal = (
        "failed to create containerd container: failed to get NRI adjustment for container: "
        "rpc error: code = Unknown desc = "
    )

    def __init__(
        self, name: str, tools: Path, archive: Archive, api: Any, options: Options
    ) -> None:
        self._tools = tools
        self._root: HostRoot | None = None
        self._cgroups = options.cgroups
        super().__init__(name, archive, api, options)

    @property
    def root(self) -> Path:
        """Where the daemon's own root file system is seen from here."""
        assert self._root is not None
        return self._root.path

    @property
    def nri_socket(self) -> Path:
        if self._root:
            return self._root.path / "run/nri/nri.sock"
        return super().nri_socket

    def ctr(self, *arguments: str) -> str:
        """Run this version's ctr in the namespace of Kubernetes, and return what it prints."""
        result = subprocess.run(
            [self._tools / "ctr", "--address", self.socket, "--namespace", "k8s.io", *arguments],
            env={"PATH": str(self._tools)},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=START_SECONDS,
        )
        return result.stdout

    def _import(self, archive: Path, name: str) -> None:
        # ctr would unpack it for the overlay snapshotter; CRI does it when it makes the pod.
        self.ctr("images", "import", "--no-unpack", str(archive))
        # CRI hears of it by an event, after ctr has ended.
        poll.until(lambda: self.cri.has_image(name), f"{self.name} to notice its image")

    def _configure(self, options: Options) -> None:
        self.config_path.write_text(self._configuration(options))
        if options.own_root:
            self._root = HostRoot(self.directory, self._archive, self._tools)
            self._root.write("etc/containerd/config.toml", self.config_path.read_text())
        if options.own_network:
            self._write_network()

    def _write_network(self) -> None:
        directory = self.directory / "cni"
        directory.mkdir()
        (directory / "none.conflist").write_text(NETWORK_LIST)
        for name in ("none", "loopback"):
            (directory / name).write_text(NETWORK)
            (directory / name).chmod(0o755)

    @property
    def _command(self) -> Sequence[str | Path]:
        command = ["containerd", "--config", str(self.config_path)]
        if self._cgroups:
            return with_cgroups(self._cgroups, command)
        return self._root.command(command) if self._root else command

    @property
    def _environment(self) -> dict[str, str]:
        """Give the daemon a PATH with the shim of its own version first, and nothing else."""
        if self._root:
            return {"PATH": SYSTEM_PATH}
        return {"PATH": f"{self._tools}:{self._archive.runc.parent}:{SYSTEM_PATH}"}

    def _configuration(self, options: Options) -> str:
        version, cri = (2, CRI_1) if self.name.startswith("containerd-1.") else (3, CRI_2)
        return (COMMON + cri + self._handlers(version, options)).format(
            version=version,
            directory=self.directory,
            crun=crun.write_handler(self.directory),
            socket=self.socket,
            image=image.NAME,
            default_validator=toml(options.default_validator),
            cdi_dirs=self._cdi_dirs(options),
            nri_socket="/run/nri/nri.sock" if options.own_root else self.nri_socket,
            plugin_path="/opt/nri/plugins" if options.own_root else self.plugin_dir,
            plugin_config_path="/etc/nri/conf.d" if options.own_root else self.plugin_conf_dir,
            plugin_registration_timeout=options.plugin_registration_timeout,
            plugin_request_timeout=options.plugin_request_timeout,
        )

    def _handlers(self, version: int, options: Options) -> str:
        """Write the tables of further handlers, each with its program in the daemon's directory."""
        tables = ""
        for name, program in options.handlers.items():
            path = self.directory / f"{name}-program"
            write_program(path, program, options.cgroups)
            plugin, state = HANDLER_PLUGINS[version], self.directory
            tables += HANDLER.format(plugin=plugin, name=name, program=path, directory=state)
        return tables
