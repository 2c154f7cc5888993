"""The mounts that a rule names, and when a mount lies in them or touches them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nri_inject.host.views import TooMany
from nri_inject.policy import mount_options
from nri_inject.policy.entries import entries, read_path_pattern, read_pattern
from nri_inject.policy.rules import Entry, Item
from nri_inject.text.fields import (
    Fault,
    Field,
    choice,
    list_of,
    read_line,
)
from nri_inject.text.glob import Pattern, pattern
from nri_inject.text.paths import clean, is_below
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

# Nothing that these do reaches beyond the mount or gives more than it has.
HARMLESS: Final = frozenset(
    {
        *("bind", "rbind", "ro", "rro", "rw", "nosuid", "nodev", "noexec", "sync", "dirsync"),
        *("private", "rprivate", "noatime", "nodiratime", "relatime", "strictatime", "nosymfollow"),
    }
)
"""Mount options that a rule need not name."""

PROTECTED: Final = ("/proc", "/sys", "/dev", "/etc/passwd", "/etc/group", "/etc/shadow")
"""Places of a container that a rule for mounts reaches only by naming them."""


def _option(value: Value) -> Pattern:
    found = read_pattern(value)
    if "," in found.text:
        raise Fault(f"{quoted(found.text)} contains a comma; list each option as a separate item")
    return found


class MountFacts(NamedTuple):
    """A mount as the kernel makes it; `why_writable` says why in spite of an option `ro`.

    `elsewhere` looks for other paths of the host at which something of the source is shown.
    """

    type: str
    writable: bool
    why_writable: str
    destination: str
    options: frozenset[str]
    elsewhere: Callable[[], Sequence[str]] = tuple


@dataclass(frozen=True, slots=True)
class MountEntry(Entry[MountFacts]):
    """Mounts by their source and all below it, or by their type."""

    writable: bool = False
    destination: Pattern | None = None
    type: str | None = None
    options: Sequence[Pattern] | None = None

    def within(self, item: Item[MountFacts]) -> str | None:
        """Hold a mount against a rule that allows."""
        facts, destination = item.facts, self.destination
        if not self._has_source(item.names):
            return ""
        kind = self.type or "bind"
        if kind != facts.type:
            return f"it is for type {kind}, and the type is {quoted(facts.type)}"
        if facts.writable and not self.writable:
            return facts.why_writable or "it allows only reading (access: ro)"
        if destination is not None and not destination.matches(facts.destination):
            return f"its destination is {destination.text}"
        if protected := _protected(facts.destination, destination):
            return f"it does not allow a destination at {protected}"
        if unknown := sorted(_unnamed(facts.options - HARMLESS, self.options or ())):
            shown = ", ".join(map(quoted, unknown[:_ENOUGH]))
            more = f" and {len(unknown) - _ENOUGH} more" if len(unknown) > _ENOUGH else ""
            return f"it does not allow the options {shown}{more}"
        return None

    def touches(self, item: Item[MountFacts]) -> bool:
        """Hold a mount against a rule that denies."""
        facts, wanted, options = item.facts, self.pattern, self.options
        if self.type not in (None, facts.type):
            return False
        if self.writable and not facts.writable:
            return False  # what is denied is writing
        if self.destination is not None and not _meets(self.destination, facts.destination):
            return False
        if options is not None and not any(p.matches(o) for o in facts.options for p in options):
            return False
        if wanted is None or any(_meets(wanted, name) for name in item.names):
            return True
        try:
            return any(_meets(wanted, name) for name in facts.elsewhere())
        except TooMany:
            return True

    def lends(self) -> Iterator[Pattern]:
        """Yield its source, and the directories that an overlay writes, if containers may write."""
        if not self.writable:
            return
        for option in self.options or ():
            key, _, path = option.text.partition("=")
            if key in ("upperdir", "workdir") and path.startswith("/"):
                yield pattern(clean(path))
        if self.pattern is not None:
            yield self.pattern

    def _has_source(self, names: Iterable[str]) -> bool:
        """Tell whether the source is the rule's; without one it is for what has no path.

        Of a path that no rule names it is not known where it leads.
        """
        if self.pattern is None:
            return not any(name.startswith("/") for name in names)
        return any(map(self.pattern.covers, names))


_ENOUGH: Final = 3


def _unnamed(options: Iterable[str], patterns: Sequence[Pattern]) -> Iterator[str]:
    return (option for option in options if not mount_options.is_named(option, patterns))


def _protected(destination: str, named: Pattern | None) -> str:
    """Return the protected place that a mount would cover, unless the rule means it."""
    for place in PROTECTED:
        covers = is_below(destination, place) or is_below(place, destination)
        if covers and not (named and is_below(named.stem, place)):
            return place
    return ""


def _meets(pattern: Pattern, path: str) -> bool:
    """Tell whether a path lies in what a pattern stands for, or has some of that inside."""
    return pattern.covers(path) or pattern.reaches_into(path)


_mount: Final = entries(
    MountEntry,
    "source",
    Field("access", choice({"ro": False, "rw": True}), to="writable"),
    Field("destination", read_path_pattern),
    Field("type", read_line),
    Field("options", list_of(_option)),
    read=read_path_pattern,
)


def read_mount(value: Value) -> MountEntry:
    """Read what mounts a rule names: by source and all below it, or by type."""
    entry = _mount(value)
    if entry.pattern is None and entry.type in (None, "bind"):
        raise Fault("source is missing; only a mount with a type that needs no source may omit it")
    return entry
