"""Run a containerd of its own, with NRI and CDI enabled, in a directory below /tmp."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nri_inject import runtimes
from nri_inject.runtimes import Runtime

from . import image, leftovers, poll
from .archive import Archive
from .cri import Cri, CriError
from .hostroot import HostRoot

START_SECONDS = 30.0
STOP_SECONDS = 10.0
LOG_LINES = 10
PREFIX = "nri-e2e-"
"""Begins the name of every daemon's directory, so that a later run finds what is left."""

COMMON = """\
version = {version}
root = "{directory}/root"
state = "{directory}/state"

[grpc]
address = "{directory}/containerd.sock"

[ttrpc]
address = "{directory}/containerd.sock.ttrpc"

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

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{directory}/runc"
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

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
Root = "{directory}/runc"
"""

# The version of the configuration's format, and the part that differs with it.
CONFIGURATIONS = {"containerd-1.7": (2, CRI_1), "containerd-2": (3, CRI_2)}


class StartFailed(Exception):
    """Tell that the daemon ended by itself while it started, with the end of its log."""

    def __init__(self, name: str, log: str) -> None:
        last = "\n".join(log.splitlines()[-LOG_LINES:])
        super().__init__(f"{name} ended while it started; its last words:\n{last}")


@dataclass(frozen=True)
class Options:
    """What a test may choose; durations are Go's ("2s"), the defaults are containerd's.

    `cdi_dirs` of None means one directory, `Containerd.cdi_dir`. With `own_root` the daemon has a
    root file system of its own (see `hostroot`), and NRI's directories are the usual ones in it.
    """

    plugin_request_timeout: str = "2s"
    plugin_registration_timeout: str = "5s"
    cdi_dirs: Sequence[Path] | None = None
    own_root: bool = False


class Containerd:
    """One daemon and all its files.

    It is made stopped, with its directories there: pre-installed plugins go into `plugin_dir`
    before `start`. Its containers outlive `stop` and `kill`, until `close` removes everything.
    """

    refusal = (
        "failed to create containerd container: failed to get NRI adjustment for container: "
        "rpc error: code = Unknown desc = "
    )
    """What stands before a plugin's own sentence when CreateContainer fails over it."""

    def __init__(
        self, name: str, archive: Archive, api: Any, options: Options | None = None
    ) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self._claim = leftovers.claim(self.directory)
        self._archive = archive
        self._process: subprocess.Popen[bytes] | None = None
        for directory in (self.plugin_dir, self.plugin_conf_dir, self.cdi_dir):
            directory.mkdir()
        self._root: HostRoot | None = None
        options = options or Options()
        self.config_path.write_text(self._configuration(options))
        if options.own_root:
            self._root = HostRoot(self.directory, archive, archive.containerd_root(name))
            self._root.write("etc/containerd/config.toml", self.config_path.read_text())
        self.cri = Cri(self.socket, api, cgroup_parent=f"/{self.directory.name}")

    @property
    def root(self) -> Path:
        """Where the daemon's own root file system is seen from here."""
        assert self._root is not None
        return self._root.path

    @property
    def socket(self) -> Path:
        return self.directory / "containerd.sock"

    @property
    def nri_socket(self) -> Path:
        if self._root:
            return self._root.path / "run/nri/nri.sock"
        return self.directory / "nri.sock"

    @property
    def plugin_dir(self) -> Path:
        """The directory of pre-installed plugins, launched when the daemon starts."""
        return self.directory / "plugins"

    @property
    def plugin_conf_dir(self) -> Path:
        """The directory of the plugins' configuration files."""
        return self.directory / "conf.d"

    @property
    def cdi_dir(self) -> Path:
        return self.directory / "cdi"

    @property
    def config_path(self) -> Path:
        return self.directory / "config.toml"

    @property
    def log_path(self) -> Path:
        return self.directory / "containerd.log"

    @property
    def log(self) -> str:
        """What the daemon and its pre-installed plugins have written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def kind(self) -> Runtime:
        """Which runtime this is, with its NRI: what it can do follows from that."""
        told = self.cri.call("Version")
        return runtimes.identify(told.runtime_name, told.runtime_version)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the daemon, and return when CRI answers and NRI listens.

        Raises StartFailed; 1.7 ends when one of its pre-installed plugins does not register.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        # A killed daemon leaves its sockets behind: they would look like the new one's.
        for socket in (self.socket, self.nri_socket):
            socket.unlink(missing_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._root.command(self._command) if self._root else self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for pytest, which then stops the daemon.
                start_new_session=True,
            )
        poll.until(self._is_ready, f"{self.name} to answer", START_SECONDS)
        if not self.cri.has_image(image.NAME):
            self._load_image()

    def stop(self) -> None:
        """End the daemon as an administrator would; do nothing when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the daemon as a crash would; do nothing when it does not run."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start the daemon, while its containers go on."""
        self.stop()
        self.start()

    def bundle_spec(self, container: str) -> dict[str, Any]:
        """Read the OCI specification that runc got for a container."""
        bundle = self.directory / "state/io.containerd.runtime.v2.task/k8s.io" / container
        spec: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        return spec

    def ctr(self, *arguments: str) -> str:
        """Run this version's ctr in the namespace of Kubernetes, and return what it prints."""
        result = subprocess.run(
            ["ctr", "--address", self.socket, "--namespace", "k8s.io", *arguments],
            env=self._environment | {"PATH": self._tools},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=START_SECONDS,
        )
        return result.stdout

    def import_image(self, archive: Path, name: str = image.NAME) -> None:
        """Load an image from a tar file that gives it this name, and wait until CRI has it."""
        # ctr would unpack it for the overlay snapshotter; CRI does it when it makes the pod.
        self.ctr("images", "import", "--no-unpack", str(archive))
        # CRI hears of it by an event, after ctr has ended.
        poll.until(lambda: self.cri.has_image(name), f"{self.name} to notice its image")

    def close(self) -> None:
        """Remove the pods, end the daemon, and leave no process, mount or file behind.

        Closing it again does nothing.
        """
        if self._claim.closed:
            return
        try:
            if self.running:
                self.cri.remove_all()
        except CriError:
            pass  # A broken plugin may be what the test was about; clear() needs no help.
        finally:
            self.cri.close()
            self.stop()
            leftovers.clear(self.directory)
            self._claim.close()

    @property
    def _command(self) -> list[str]:
        return ["containerd", "--config", str(self.config_path)]

    @property
    def _tools(self) -> str:
        return str(self._archive.containerd_root(self.name) / "usr/bin")

    @property
    def _environment(self) -> dict[str, str]:
        """Give the daemon a PATH with the shim of its own version first, and nothing else."""
        if self._root:
            return {"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"}
        own = self._archive.containerd_root(self.name) / "usr/bin"
        system = "/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": f"{own}:{self._archive.runc.parent}:{system}"}

    def _configuration(self, options: Options) -> str:
        cdi_dirs = [self.cdi_dir] if options.cdi_dirs is None else options.cdi_dirs
        version, cri = CONFIGURATIONS[self.name]
        return (COMMON + cri).format(
            version=version,
            directory=self.directory,
            image=image.NAME,
            cdi_dirs=json.dumps([str(path) for path in cdi_dirs]),
            nri_socket="/run/nri/nri.sock" if options.own_root else self.nri_socket,
            plugin_path="/opt/nri/plugins" if options.own_root else self.plugin_dir,
            plugin_config_path="/etc/nri/conf.d" if options.own_root else self.plugin_conf_dir,
            plugin_registration_timeout=options.plugin_registration_timeout,
            plugin_request_timeout=options.plugin_request_timeout,
        )

    def _is_ready(self) -> bool:
        if not self.running:
            raise StartFailed(self.name, self.log)
        try:
            # Unlike Version, this is refused until CRI has found its old pods again.
            self.cri.call("ListPodSandbox", seconds=1)
        except CriError:
            return False
        return self.nri_socket.is_socket()

    def _load_image(self) -> None:
        archive = self.directory / "image.tar"
        image.write_image(self._archive.busybox, archive)
        self.import_image(archive)
        archive.unlink()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
