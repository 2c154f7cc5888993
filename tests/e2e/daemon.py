"""Run a container runtime of its own, with NRI and CDI enabled, in a directory below /tmp."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nri_inject import capabilities
from nri_inject.capabilities import Runtime

from . import image, leftovers, poll
from .archive import Archive
from .cri import Cri, CriError
from .oci_runtimes import Cgroups

START_SECONDS = 30.0
STOP_SECONDS = 10.0
LOG_LINES = 10
PREFIX = "nri-e2e-"
"""Begins the name of every daemon's directory, so that a later run finds what is left."""

SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class StartFailed(Exception):
    """Tell that the daemon ended by itself while it started, with the end of its log."""

    def __init__(self, name: str, log: str) -> None:
        last = "\n".join(log.splitlines()[-LOG_LINES:])
        super().__init__(f"{name} ended while it started; its last words:\n{last}")


@dataclass(frozen=True)
class Options:
    """What a test may choose; durations are Go's ("2s"), the defaults are the runtimes'.

    `cdi_dirs` of None means one directory, `Daemon.cdi_dir`. With `own_root` the daemon has a
    root file system of its own (see `hostroot`), and NRI's directories are the usual ones in it;
    only containerd can have that here. `default_validator` has settings of NRI's own validator,
    by NRI's names for them. `handlers` are further runtime handlers by name, and `cgroups` is the
    version that the daemon and its containers find (see `oci_runtimes`); with `own_network` a pod
    may have a network namespace, with nothing in it. These, too, only containerd has here.
    """

    plugin_request_timeout: str = "2s"
    plugin_registration_timeout: str = "5s"
    cdi_dirs: Sequence[Path] | None = None
    own_root: bool = False
    default_validator: Mapping[str, Any] = field(default_factory=dict)
    handlers: Mapping[str, Path] = field(default_factory=dict)
    cgroups: Cgroups | None = None
    own_network: bool = False


def toml(settings: Mapping[str, Any]) -> str:
    """Write a table's settings: truth values, texts and lists are the same as in JSON."""
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())


class Daemon(ABC):
    """One daemon and all its files.

    It is made stopped, with its directories there: pre-installed plugins go into `plugin_dir`
    before `start`. Its containers outlive `stop` and `kill`, until `close` removes everything.
    """

    bundles: str
    """Where below the directory a container's bundle is; `{}` stands for its id."""

    refusal: str
    """What stands before a plugin's own sentence when CreateContainer fails over it."""

    def __init__(self, name: str, archive: Archive, api: Any, options: Options) -> None:
        self.name = name
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self.directory.chmod(0o711)  # root of a user namespace is somebody else
        self._claim = leftovers.claim(self.directory)
        self._archive = archive
        self._process: subprocess.Popen[bytes] | None = None
        for directory in (self.plugin_dir, self.plugin_conf_dir, self.cdi_dir):
            directory.mkdir()
        self._configure(options)
        self.cri = Cri(self.socket, api, cgroup_parent=f"/{self.directory.name}")

    @abstractmethod
    def _configure(self, options: Options) -> None:
        """Write the configuration, and what else there has to be before the start."""

    @property
    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """What starts the daemon."""

    @property
    @abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """All of the daemon's environment."""

    @abstractmethod
    def _import(self, archive: Path, name: str) -> None:
        """Make what is in an image archive known to the runtime, under this name."""

    def load_image(
        self, name: str = image.NAME, files: Mapping[str, Path] = MappingProxyType({})
    ) -> None:
        """Make an image of busybox and further files (see `image`) known to the runtime."""
        archive = self.directory / "image.tar"
        image.write_image(self._archive.busybox, archive, name=name, files=files)
        self.load_archive(archive, name)
        archive.unlink()

    def load_archive(self, archive: Path, name: str) -> None:
        """Make the image in an archive known to the runtime, under its name there."""
        self._import(archive, name)

    @property
    def socket(self) -> Path:
        return self.directory / "cri.sock"

    @property
    def nri_socket(self) -> Path:
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
        return self.directory / "daemon.log"

    @property
    def log(self) -> str:
        """What the daemon and its pre-installed plugins have written so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def kind(self) -> Runtime:
        """Which runtime this is, with its NRI: what it can do follows from that."""
        told = self.cri.call("Version")
        return capabilities.identify(told.runtime_name, told.runtime_version)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _cdi_dirs(self, options: Options) -> str:
        """Return the directories of CDI specs as both configurations have them."""
        dirs = [self.cdi_dir] if options.cdi_dirs is None else options.cdi_dirs
        return json.dumps([str(path) for path in dirs])

    def start(self) -> None:
        """Start the daemon, and return when CRI answers and NRI listens.

        Raises StartFailed; containerd 1.7 ends when a pre-installed plugin does not register.
        """
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        # A killed daemon leaves its sockets behind: they would look like the new one's.
        for socket in (self.socket, self.nri_socket):
            socket.unlink(missing_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for pytest, which then stops the daemon.
                start_new_session=True,
            )
        poll.until(self._is_ready, f"{self.name} to answer", START_SECONDS)
        if not self.cri.has_image(image.NAME):
            self.load_image()

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
        bundle = self.directory / self.bundles.format(container)
        spec: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        return spec

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

    def _is_ready(self) -> bool:
        if not self.running:
            raise StartFailed(self.name, self.log)
        try:
            # Unlike Version, this is refused until CRI has found its old pods again.
            self.cri.call("ListPodSandbox", seconds=1)
        except CriError:
            return False
        return self.nri_socket.is_socket()

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
