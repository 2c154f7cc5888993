"""Plugins of ours as processes: started by hand, or put where a runtime launches them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .daemon import Daemon
from .poll import until

BIN = Path(sys.executable).parent
SYNCHRONIZED = "synchronized with the runtime"


class External:
    """A plugin command that connects to a runtime's socket by itself."""

    def __init__(self, command: str, daemon: Daemon, log_path: Path, *options: str) -> None:
        self._log_path = log_path
        program, *words = command.split()
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [BIN / program, *words, "--socket-path", str(daemon.nri_socket), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_synchronized(1)

    @property
    def log(self) -> str:
        """What the plugin has logged so far."""
        return self._log_path.read_text()

    def wait_synchronized(self, times: int) -> None:
        """Wait until the plugin has been synchronized so many times since its start."""
        until(lambda: self.log.count(SYNCHRONIZED) >= times, f"{times} synchronizations")

    def kill(self) -> None:
        """Kill the process, which gets no chance to say good-bye."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """End the process with SIGTERM and check that it ends well."""
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=10) == 0


def install(command: str, daemon: Daemon, file_name: str, config: str = "") -> None:
    """Put a plugin command into a stopped runtime's plugin directory, as `NN-name`."""
    (daemon.plugin_dir / file_name).symlink_to(BIN / command)
    if config:
        (daemon.plugin_conf_dir / f"{file_name}.conf").write_text(config)
