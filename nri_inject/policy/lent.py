"""The places where a policy lets containers write, and the host files that are untrusted there.

Root in such a container is root to the host's files as well. It can rewrite a file, replace it by
another one or by a link, and make device nodes. So the owner of a file does not prove who wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from types import MappingProxyType
from typing import Final

from nri_inject.host.model import DeviceNode, HostPath, NotADevice, Number
from nri_inject.host.views import Look, nothing_elsewhere
from nri_inject.text.budget import Lookup
from nri_inject.text.glob import Pattern, Stems
from nri_inject.text.paths import above, clean

MAY: Final = "where containers may write and replace it with a link"


class Lent:
    """The sources of mounts that some rule gives to some container for writing.

    `wildcards` says how many of them are patterns.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        given = [*patterns]
        self.wildcards: Final = sum(one.literal is None for one in given)
        self._literal = frozenset(one.literal for one in given if one.literal is not None)
        self._others = Stems((one, one) for one in given if one.literal is None)
        self._is_empty = not given
        self._views: Look = nothing_elsewhere

    def __bool__(self) -> bool:
        return not self._is_empty

    def on(self, views: Look) -> Lent:
        """Return the same places of a host whose mounts may show them at other paths, too."""
        other = copy(self)
        other._views = views
        return other

    def above(self, path: str) -> str | None:
        """Return a directory that a clean path lies in and containers may write; None for none."""
        if self._is_empty or not path.startswith("/") or path == "/":
            return None
        return self.at(path.rpartition("/")[0] or "/")

    def at(self, path: str) -> str | None:
        """Return the same of a path that may be such a directory, or such a file, itself."""
        if self._is_empty:
            return None
        where = self._named(path)
        others = () if where is not None else self._views().of_file(path)
        return where or next(filter(None, map(self._named, others)), None)

    def _named(self, path: str) -> str | None:
        if any(one.covers(path) for one in self._others.near([path])):
            return path
        return next((place for place in above(path) if place in self._literal), None)

    def replaceable(self, place: HostPath) -> str | None:
        """Say that a container could lead a path of the host elsewhere; None if none could."""
        return self._why(place.real, "it") or next(
            (why for link in place.links if (why := self._why(link, f"the link {link!r}"))), None
        )

    def rewritable(self, place: HostPath) -> str | None:
        """Say that a container could change the file at the end of a path; None if none could."""
        why = self.replaceable(place)
        where = self.at(place.real) if why is None else None
        return why if where is None else f"containers may write {where!r}"

    def _why(self, path: str, what: str) -> str | None:
        where = self.above(path)
        return None if where is None else f"{what} lies in {where!r}, {MAY}"


class GuardedFiles(Lookup[str, HostPath]):
    """The host's files, with a doubt about each that a container could replace or rewrite.

    There is none about `devices` that have none.
    """

    def __init__(
        self,
        files: Mapping[str, HostPath],
        lent: Lent,
        devices: Mapping[str, DeviceNode] = MappingProxyType({}),
    ) -> None:
        self._files = files
        self._lent = lent
        self._devices = devices

    def __getitem__(self, path: str) -> HostPath:
        place = self._files[path]
        node = self._devices.get(path)
        if node is not None and node.doubt is None:
            return place
        replaceable, rewritable = self._lent.replaceable(place), self._lent.rewritable(place)
        return place._replace(
            doubt=replaceable or place.doubt, writable_by=rewritable or place.writable_by
        )


class GuardedDevices(Lookup[str, DeviceNode]):
    """The host's nodes, with a doubt about each that a container could have made.

    Where containers may write, a path is a device's only if kernel or udev say so (`numbers`).
    With `mounts` a runtime is going to mount what it finds at the path, so that is not enough.
    """

    def __init__(
        self,
        devices: Mapping[str, DeviceNode],
        numbers: Mapping[Number, tuple[str, ...]],
        lent: Lent,
        *,
        mounts: bool,
    ) -> None:
        self._devices = devices
        self._numbers = numbers
        self._lent = lent
        self._mounts = mounts

    def __getitem__(self, path: str) -> DeviceNode:
        try:
            node = self._devices[path]
        except NotADevice:
            raise
        except KeyError:
            where = self._lent.above(clean(path)) if self._mounts else None
            if where is None:
                raise
            why = f"does not exist, and containers may put files in {where!r}"
            raise NotADevice(path, why) from None
        known = () if self._mounts else self._numbers.get(node.number, ())
        for one in (clean(path), node.real, *node.links):
            where = self._lent.above(one)
            if where is not None and one not in known:
                return node._replace(doubt=f"{one!r} lies in {where!r}, {MAY}")
        return node
