"""OCI runtimes by themselves: a container from an OCI specification, without a daemon above it.

That is quick, and either version of cgroups can be had on one machine, in a mount namespace with
the mounts of that version.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from . import newer_libc
from .archive import open_closure, open_packages

Cgroups: TypeAlias = Literal["v1", "v2"]
Spec: TypeAlias = dict[str, Any]

NAMES: Final = ("old-runc", "new-runc", "new-crun")
"""The runc of the machine's own suite, and runc and crun of a newer one."""

NEW_RUNC_SUITE: Final = "sid"
RUN_SECONDS: Final = 30
FIRST_ID: Final = 100_000
"""The host's id of a container's root in a user namespace."""

# crun refuses the hybrid hierarchy that systemd makes beside v1. In v2 there are no controllers
# but that for devices, which is none: the others belong to v1, where the machine has that.
_MOUNTS: Final[Mapping[Cgroups, str]] = {
    "v1": "! mountpoint -q /sys/fs/cgroup/unified || umount --lazy /sys/fs/cgroup/unified",
    "v2": "umount --recursive --lazy /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup",
}
_CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_MKNOD")


def with_cgroups(cgroups: Cgroups, command: Sequence[str | Path]) -> list[str | Path]:
    """Return what runs a command where /sys/fs/cgroup is of one version."""
    script = f'{_MOUNTS[cgroups]}; exec "$@"'
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "-", *command]


def has_cgroups(cgroups: Cgroups) -> bool:
    """Tell whether the machine has the version; every kernel has v2."""
    return cgroups == "v2" or Path("/sys/fs/cgroup/devices").is_dir()


def write_program(target: Path, program: Path, cgroups: Cgroups | None) -> None:
    """Write what a runtime handler starts: the program, without the resources that v2 lacks."""
    target.write_text(_STARTER.format(python=sys.executable, program=program, cgroups=cgroups))
    target.chmod(0o755)


# A daemon always asks for memory and the like.
_STARTER: Final = """\
#!{python}
import json, os, sys
if "{cgroups}" == "v2" and "--bundle" in sys.argv:
    path = os.path.join(sys.argv[sys.argv.index("--bundle") + 1], "config.json")
    with open(path) as file:
        spec = json.load(file)
    resources = spec["linux"].get("resources", {{}})
    spec["linux"]["resources"] = {{"devices": resources.get("devices", [])}}
    with open(path, "w") as file:
        json.dump(spec, file)
os.execv("{program}", ["{program}", *sys.argv[1:]])
"""


def new_runc(target: Path) -> Path:
    """Fetch a runc that knows user namespaces, make it run here as `target`, and return that.

    Raises ArchiveUnavailable.
    """
    root = open_closure("runc", NEW_RUNC_SUITE)
    patchelf = open_packages("patchelf", "patchelf") / "usr/bin/patchelf"
    newer_libc.relocate(root / "usr/sbin/runc", root, target, patchelf)
    return target


@dataclass(frozen=True)
class OciRuntime:
    """One program, on one version of cgroups."""

    program: Path
    busybox: Path
    cgroups: Cgroups

    def spec(self, *, user_namespace: bool = False, user: int = 0) -> Spec:
        """Return the specification of a container with busybox in it and no device allowed."""
        namespaces = ["pid", "ipc", "uts", "mount", *(["cgroup"] * (self.cgroups == "v2"))]
        linux: Spec = {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
        if user_namespace:
            namespaces.append("user")
            ids = [{"containerID": 0, "hostID": FIRST_ID, "size": 65536}]
            linux |= {"uidMappings": ids, "gidMappings": ids}
        linux["namespaces"] = [{"type": kind} for kind in namespaces]
        sets = ("bounding", "effective", "permitted")
        return {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {
                "user": {"uid": user, "gid": user},
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": dict.fromkeys(sets, _CAPABILITIES if user == 0 else ()),
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "dev", "options": ["mode=755"]},
            ],
            "linux": linux,
        }

    def run(self, spec: Spec, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script in a container, and return what became of it."""
        with tempfile.TemporaryDirectory(prefix="nri-oci-", dir="/tmp") as temporary:
            bundle = Path(temporary)
            bundle.chmod(0o755)  # the container's root is somebody else
            self._fill(bundle / "rootfs")
            spec = copy.deepcopy(spec)
            spec["process"]["args"] = ["/bin/sh", "-c", script]
            spec["linux"]["cgroupsPath"] = f"/{bundle.name}"
            (bundle / "config.json").write_text(json.dumps(spec))
            state = ("--root", bundle / "state")
            command = (self.program, *state, "run", "--bundle", bundle, bundle.name)
            return subprocess.run(
                with_cgroups(self.cgroups, command),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=RUN_SECONDS,
            )

    def _fill(self, root: Path) -> None:
        for name in ("bin", "dev", "proc", "sys", "tmp"):
            (root / name).mkdir(parents=True)
        shutil.copy2(self.busybox, root / "bin/busybox")
        (root / "bin/sh").symlink_to("busybox")
        (root / "tmp").chmod(0o1777)
