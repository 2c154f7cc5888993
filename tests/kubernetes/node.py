"""A machine for a cluster: namespaces, directories and a bridge of its own.

Its /etc, /opt, /usr and /var/lib show the machine's own, and changes there go to a directory of the
node. All processes and mounts end with its first process, and that process ends with ours.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2e import leftovers, poll

NAME = "node1"
ADDRESS = "10.99.0.1"
RUN_SECONDS = 200.0

# The first process of a PID namespace inherits orphans. It ignores SIGCHLD: the kernel reaps them.
BOOT = f"""\
set -e
hostname {NAME}
for name in etc opt usr var/lib; do
    mkdir -p $0/upper/$name $0/work/$name
    mount -t overlay overlay -o lowerdir=/$name,upperdir=$0/upper/$name,workdir=$0/work/$name /$name
done
mount -t tmpfs tmpfs /run
for name in containerd kubelet etcd; do
    mkdir -p /var/lib/$name $0/data/$name
    mount --bind $0/data/$name /var/lib/$name
done
mkdir -p $0/log
mount --bind $0/log /var/log
mount --make-rshared /
ip link set lo up
ip link add cni0 type bridge
ip address add {ADDRESS}/24 dev cni0
ip link set cni0 up
ip route add default dev cni0
echo 1 >/proc/sys/net/ipv4/ip_forward
touch $0/is-up
exec python3 -c '
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    signal.pause()'
"""
NAMESPACES = ("--mount", "--pid", "--net", "--uts")


class Node:
    """The machine, with its disk in a directory whose name no other has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._unshare: subprocess.Popen[bytes] | None = None
        self._daemons: list[subprocess.Popen[bytes]] = []

    @property
    def cgroup(self) -> str:
        """Return the parent of all pods' cgroups; `leftovers` finds it by this name."""
        return f"/{self.directory.name}"

    def boot(self) -> None:
        """Make the namespaces, and return when programs can run in them."""
        is_up = self.directory / "is-up"
        is_up.unlink(missing_ok=True)
        self._make_cgroups()
        with (self.directory / "boot.log").open("wb") as log:
            self._unshare = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork"),
                    *("--kill-child", "--mount-proc", "--propagation", "private"),
                    *("sh", "-c", BOOT, self.directory),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        poll.until(is_up.exists, f"the node to boot; see {self.directory}/boot.log")

    def cut_power(self) -> None:
        """End all processes at once; what they wrote stays."""
        if self._unshare is None:
            return
        self._unshare.kill()  # its child, the first process of the namespaces, ends with it
        self._unshare.wait()
        self._unshare = None
        for daemon in self._daemons:
            daemon.wait()
        self._daemons.clear()
        leftovers.end(self.directory)

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine, and return what it printed."""
        return subprocess.run(
            self._enter(command),
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
            **options,
        )

    def start(self, name: str, command: Sequence[str | Path], path: str) -> None:
        """Start a daemon, whose log is NAME.log in the directory."""
        with (self.directory / f"{name}.log").open("ab") as log:
            daemon = subprocess.Popen(
                self._enter(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": path},
                start_new_session=True,
            )
        self._daemons.append(daemon)

    def _enter(self, command: Sequence[str | Path]) -> list[str | Path]:
        assert self._unshare is not None
        unshare = self._unshare.pid
        (first,) = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        return ["nsenter", "--target", first, *NAMESPACES, "--", *command]

    def _make_cgroups(self) -> None:
        """Make the parent of the pods' cgroups, in each hierarchy where there are several."""
        one = leftovers.CGROUPS / "cgroup.controllers"
        roots = [leftovers.CGROUPS] if one.exists() else leftovers.CGROUPS.iterdir()
        for root in roots:
            (root / self.directory.name).mkdir(exist_ok=True)
