"""The mounts that an adjustment gives, each by its source with all links followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.host.views import NO_VIEWS
from nri_inject.policy import mount_options
from nri_inject.policy.evaluation import Evaluation
from nri_inject.policy.mount_entries import HARMLESS, PROTECTED, MountFacts
from nri_inject.policy.naming import as_yaml, scalar
from nri_inject.policy.rules import Item
from nri_inject.text.glob import MAX_PARTS
from nri_inject.text.paths import clean, is_below
from nri_inject.text.words import plain, quoted

_MAX_MOUNTS: Final = 1024
_LENGTH_OF_OPTION: Final = 16


def mounts_of(adjustment: Adjustment, evaluation: Evaluation) -> Iterator[Item[MountFacts]]:
    """Yield the mounts; what is only removed is not among them."""
    given = [mount for mount in adjustment.mounts if not mount.destination.startswith("-")]
    for mount in given:
        if len(given) > _MAX_MOUNTS:
            sentence = f"more than {_MAX_MOUNTS} mounts are requested"
            yield Item("mounts", mount.destination, "mount", (), _NO_MOUNT, trouble=sentence)
        else:
            yield _mount(mount, evaluation)


_NO_MOUNT: Final = MountFacts("", False, "", "", frozenset())


def _mount(mount: api.Mount, evaluation: Evaluation) -> Item[MountFacts]:
    kind = mount_options.mount_type(mount)
    names, real, trouble = _source(mount.source, kind, evaluation)
    trouble = mount_options.fault(mount.options) or _nul_in(mount) or trouble
    writable, why = mount_options.writable(mount)
    destination = clean(mount.destination)
    options = frozenset(mount_options.words(mount.options))
    elsewhere = Elsewhere(real, evaluation, recursive=mount_options.recursive(mount))
    facts = MountFacts(kind, writable, why, destination, options, elsewhere)
    source = names[0] if names else mount.source
    aside = f" ({plain(source)})" if source != mount.source else ""
    return Item(
        "mounts",
        mount.destination,
        f"mount of {quoted(mount.source or kind)}{aside} at {quoted(mount.destination)}",
        names,
        facts,
        f"{source} {kind} {'rw' if writable else 'ro'}".strip(),
        trouble,
        "" if trouble else _suggested_mount(source, facts),
        real,
        len(destination) + _LENGTH_OF_OPTION * len(options),
    )


class Elsewhere:
    """Tell where else something of a source is, when a rule that denies asks.

    Equal ones find the same: they are of one request.
    """

    def __init__(self, real: str, evaluation: Evaluation, *, recursive: bool) -> None:
        self._about = (real, recursive)
        self._world = evaluation
        self._known: Sequence[str] | None = None

    def __call__(self) -> Sequence[str]:
        """Return the other paths; raises TooMany."""
        real, recursive = self._about
        host = self._world.host
        if self._known is None:
            views = host.views() if real else NO_VIEWS
            self._known = views.of_tree(real, recursive=recursive)
        # The rule is going to be compared with each.
        host.budget.spend("finding out where else it is mounted", len(self._known))
        return self._known

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Elsewhere) and other._about == self._about

    def __hash__(self) -> int:
        return hash(self._about)


def _nul_in(mount: api.Mount) -> str:
    """Say that a runtime written in C would stop reading a text early."""
    for name, text in (
        ("source", mount.source),
        ("destination", mount.destination),
        ("type", mount.type),
    ):
        if "\0" in text:
            return f"its {name} {quoted(text)} contains a NUL"
    return ""


class _MountSource(NamedTuple):
    """The names of a mount's source, its real path if it was looked at, and what is wrong."""

    names: tuple[str, ...]
    real: str = ""
    trouble: str = ""


def _source(source: str, kind: str, evaluation: Evaluation) -> _MountSource:
    """Return the source without links as its only name, or what is wrong with it.

    The runtime resolves the path once more when it mounts. So only root may be able to change
    where it leads, and it must lead to the same place for every process.
    """
    if not source.startswith("/"):
        bad = "its source is not an absolute path" if kind == "bind" else ""
        return _MountSource(() if bad else (source,), trouble=bad)
    if source.count("/") > MAX_PARTS:
        return _MountSource((), trouble=f"its source has more than {MAX_PARTS} parts")
    if not evaluation.reaches_source(clean(source)):
        return _MountSource((clean(source),))
    try:
        place = evaluation.host.files[source]
    except KeyError as error:
        return _MountSource((), trouble=str(error.args[0]))
    if place.on_procfs:
        return _MountSource((), trouble="its source leads through procfs")
    if place.doubt is not None:
        return _MountSource((), trouble=f"others can redirect its source: {place.doubt}")
    return _MountSource((place.real,), place.real)


def _suggested_mount(source: str, facts: MountFacts) -> str:
    destination = facts.destination
    if any(is_below(place, destination) and place != destination for place in PROTECTED):
        return ""  # a rule that covers /etc/passwd must name it, and not /etc
    parts = [f"source: {as_yaml(source)}"] if source.startswith("/") else []
    if facts.type != "bind":
        parts.append(f"type: {scalar(facts.type)}")
    if facts.writable:
        parts.append("access: rw")
    parts.append(f"destination: {as_yaml(destination)}")
    if unusual := sorted(facts.options - HARMLESS):
        parts.append(f"options: [{', '.join(map(as_yaml, unusual))}]")
    return f"{{{', '.join(parts)}}}"
