"""The parts of the host that the plugin cannot see, by the mounts of its own namespace.

systemd gives a service a mount namespace in which some directories differ from the host's
(systemd.exec(5): ProtectHome=, PrivateTmp=, InaccessiblePaths=, TemporaryFileSystem=); a container
sees only the directories of the host that are mounted into it. A path that is missing there may
exist on the host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Final, NamedTuple

from nri_inject.text.paths import is_below
from nri_inject.text.words import plain

TABLE: Final = "/proc/self/mountinfo"

_MAX_LISTED: Final = 12  # directories in one sentence
# These differ in every service, and pods request nothing in them.
_USUAL: Final = ("/proc", "/sys", "/run/credentials", "/run/systemd")


class Mounted(NamedTuple):
    """A mount: where it is, and which directory of its file system is there.

    `follows` is whether it follows a mount of another namespace (`master:`), as the host's own
    mounts do in the namespace of a service. `device` is the number of the file system.
    """

    point: str
    root: str
    follows: bool = False
    device: str = ""


class Sight(NamedTuple):
    """The mounts that the plugin sees, and whether its namespace is another one than init's."""

    mounts: Sequence[Mounted] = ()
    is_own: bool = False

    def hidden(self, place: str, root: str = "/") -> str:
        """Say why what is missing at `place` may be on the host; empty if it is missing there, too.

        `root` is where the plugin sees the host's file tree, and `place` a path of the host.
        """
        root = root.rstrip("/")
        cover = self._cover(root + place)
        if cover is None:
            return ""
        if not root:
            how = self._how(cover)
            return f"is not visible to the plugin: {how}" if how else ""
        if is_below(cover.point, root) or not self._shown(root):
            return ""
        return f"is not visible to the plugin, which {self._sees(root)}"

    def note(self, root: str = "/") -> str:
        """Say which directories of the host the plugin does not see; empty if it sees all."""
        root = root.rstrip("/")
        others = [one.point for one in self._topmost() if not root and self._how(one)]
        others = [point for point in others if not any(is_below(point, one) for one in _USUAL)]
        if others:
            what = f"does not see the host's {_listed(others)}"
        elif root and (shown := self._shown(root)) and "/" not in shown:
            what = self._sees(root)
        else:
            return ""
        return (
            f"the plugin {what}; a container that requests another path of the host fails, even if"
            " `policy check` and `try` allow it"
        )

    def _cover(self, path: str) -> Mounted | None:
        """Return the mount that a path is in: the deepest, and of several the last."""
        covers = [one for one in self.mounts if is_below(path, one.point)]
        return max(reversed(covers), key=lambda one: len(one.point), default=None)

    def _topmost(self) -> Sequence[Mounted]:
        return [*{one.point: one for one in self.mounts}.values()]

    def _how(self, mount: Mounted) -> str:
        if "/systemd/inaccessible/" in mount.root:
            return f"its service hides {mount.point} (ProtectHome= or InaccessiblePaths=)"
        if "/systemd-private-" in mount.root:
            return f"its service uses a private {mount.point} (PrivateTmp=)"
        if self.is_own and not mount.follows:
            return (
                f"it runs in its own mount namespace, whose {mount.point} differs from the host's"
            )
        return ""

    def _shown(self, root: str) -> list[str]:
        """Return what is mounted below `root`, as paths of the host."""
        points = [one.point for one in self.mounts if is_below(one.point, root)]
        return sorted({point.removeprefix(root) or "/" for point in points})

    def _sees(self, root: str) -> str:
        return f"sees only {_listed(self._shown(root))} of the host, mounted below {root}"


@lru_cache(maxsize=1)
def current() -> Sight:
    """Return the mounts as they were when this was first called; none if they cannot be read."""
    try:
        mounts = read(Path(TABLE).read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return Sight()
    return Sight(mounts, _is_own(mounts))


def hidden(place: str, root: str = "/") -> str:
    """Do as `Sight.hidden` for the mounts of this process."""
    return current().hidden(place, root)


def read(text: str) -> list[Mounted]:
    """Read a table of mounts, in the order in which they were made (proc_pid_mountinfo(5))."""
    mounts = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 6:
            optional = takewhile(lambda field: field != "-", fields[6:])
            follows = any(field.startswith("master:") for field in optional)
            point, root = _unescaped(fields[4]), _unescaped(fields[3])
            mounts.append(Mounted(point, root, follows, fields[2]))
    return mounts


def _is_own(mounts: Sequence[Mounted]) -> bool:
    """Tell whether the namespace differs from init's.

    A process without the right to inspect init (ptrace(2)) decides by the root mount: a service's
    follows the host's.
    """
    try:
        init, own = os.stat("/proc/1/ns/mnt"), os.stat("/proc/self/ns/mnt")
    except OSError:
        return any(one.follows for one in mounts if one.point == "/")
    return init.st_ino != own.st_ino


def _unescaped(field: str) -> str:
    """Return a path whose spaces, tabs, line feeds and backslashes are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _MAX_LISTED} more" if len(paths) > _MAX_LISTED else ""
    return ", ".join(map(plain, paths[:_MAX_LISTED])) + more
