"""Where else the host shows the same files: a bind mount gives a directory a second path. Pure.

A mount shows a directory of a file system at a path. So a file is known by its file system and its
path in there, and each mount that has this path in its directory shows the file, too. What another
file system makes of the same files (an overlay, a loop device, a hard link) is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

from nri_inject.host import sight
from nri_inject.host.sight import Mounted
from nri_inject.text.paths import is_below

MAX_VIEWS: Final = 128
"""How many other paths a tree may be shown at; each is compared with each rule that denies."""

_Subtree: TypeAlias = tuple[str, str]  # a file system by its device number, and a path in it


class TooMany(Exception):
    """Report that a tree is shown at more paths than anybody should compare."""


class Views:
    """The mounts of a host as they were at one moment; `root` is where its file tree is seen."""

    def __init__(self, mounts: Iterable[Mounted] = (), root: str = "/") -> None:
        given = [*mounts]
        prefix = root.rstrip("/")
        base = _subtree({one.point: one for one in given}, prefix or "/")
        here = [] if base is None else [Mounted("/", base[1], device=base[0])]
        below = (one for one in given if is_below(one.point, root) and one.point != (prefix or "/"))
        self._mounts = [*here, *(o._replace(point=o.point.removeprefix(prefix)) for o in below)]
        self._at = {one.point: one for one in self._mounts}
        self._by_device: dict[str, list[Mounted]] = {}
        for one in self._mounts:
            self._by_device.setdefault(one.device, []).append(one)

    def __len__(self) -> int:
        return len(self._mounts)

    def of_file(self, path: str) -> Sequence[str]:
        """Return other paths at which the thing at a path is shown; no link is in `path`."""
        subtree = _subtree(self._at, path)
        shown = () if subtree is None else self._whole(subtree)
        return [other for other in dict.fromkeys(shown) if other != path]

    def of_tree(self, path: str, *, recursive: bool) -> Sequence[str]:
        """Return paths outside of a tree at which something of it is shown, too.

        `recursive` adds what is mounted in it. Raises TooMany beyond MAX_VIEWS.
        """
        own = _subtree(self._at, path)
        if own is None:
            return ()
        below = [one for one in self._mounts if recursive and is_below(one.point, path)]
        subtrees = [own, *((one.device, one.root) for one in below if one.point != path)]
        found: dict[str, None] = {}
        for subtree in _outermost(subtrees):
            for other in (*self._whole(subtree), *self._parts(subtree)):
                if not is_below(other, path):
                    found[other] = None
            if len(found) > MAX_VIEWS:
                raise TooMany
        return [*found]

    def _whole(self, subtree: _Subtree) -> Iterator[str]:
        """Yield where all of a subtree is shown."""
        device, top = subtree
        for one in self._by_device[device]:
            if is_below(top, one.root):
                yield _joined(one.point, top[len(one.root.rstrip("/")) :])

    def _parts(self, subtree: _Subtree) -> Iterator[str]:
        """Yield where a part of a subtree is shown by itself."""
        device, top = subtree
        return (one.point for one in self._by_device[device] if is_below(one.root, top))


def _subtree(at: Mapping[str, Mounted], path: str) -> _Subtree | None:
    """Return what a path stands for: of the mounts that it is in the deepest, the last one."""
    point = path
    while point not in at:
        if point in ("", "/"):
            return None
        point = point.rpartition("/")[0] or "/"
    return at[point].device, _joined(at[point].root, path[len(point.rstrip("/")) :])


def _joined(directory: str, below: str) -> str:
    return f"{directory.rstrip('/')}{below.rstrip('/')}" or "/"


def _outermost(subtrees: Iterable[_Subtree]) -> Iterator[_Subtree]:
    """Yield the subtrees that do not lie in another one."""
    last = ("", "")
    # In this order a directory comes before what is in it, with nothing between but that.
    for subtree in sorted(set(subtrees), key=lambda one: (one[0], one[1].rstrip("/") + "/")):
        if subtree[0] != last[0] or not is_below(subtree[1], last[1]):
            last = subtree
            yield subtree


Look: TypeAlias = Callable[[], Views]
"""Looks at the mounts, when a rule asks what else a path is."""

NO_VIEWS: Final = Views()


def nothing_elsewhere() -> Views:
    """Be the look at a host where nothing is mounted twice."""
    return NO_VIEWS


def look(root: str = "/") -> Views:
    """Look at the mounts of this process's namespace; at none if they cannot be read."""
    try:
        table = Path(sight.TABLE).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return NO_VIEWS
    return _views(table, root)


@lru_cache(maxsize=1)
def _views(table: str, root: str) -> Views:
    """Return what a table of mounts says; between two requests it is mostly the same."""
    return Views(sight.read(table), root)
