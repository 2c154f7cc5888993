"""The versions of runtimes, and the parts of an adjustment that each would drop in silence.

A runtime's NRI library skips the fields that it does not know, and the container then starts
without them. NRI reports its own version from 0.12.0 on; below that, it follows from the runtime's
release. The releases are those of the runtimes' go.mod files.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache, reduce
from typing import Final, NamedTuple, TypeAlias

from google.protobuf.message import Message

from nri_inject.api import Adjustment, ConfigureRequest
from nri_inject.errors import ConfigError

Version: TypeAlias = tuple[int, int, int]


class Runtime(NamedTuple):
    """A container runtime; `name` and `version` in its own words, `nri` as far as we know it.

    `assumed` means that neither the runtime nor our table has `nri`.
    """

    name: str
    version: str
    nri: Version
    assumed: bool = False


class Unsupported(NamedTuple):
    """A part of an adjustment that a runtime would drop.

    `needs` is the NRI version that carries it, None where the version is not what is missing;
    `releases` are the first ones that have it, as text for a sentence.
    """

    field: str
    needs: Version | None
    releases: str


class _RuntimeField(NamedTuple):
    """A part of a ContainerAdjustment: where it stands, and which NRI version brought it."""

    path: tuple[str, ...]
    since: Version
    releases: str


NEWEST: Final = Runtime("", "", (0, 12, 5))

FAILURE_POLICY: Final[Version] = (0, 12, 4)
"""The first NRI that acts on a plugin's failure policy; it is in no release of containerd or CRI-O
that `_RELEASES` lists."""

# The comments "since" of proto/nri.proto. What is not listed has been there since 0.2.0, so every
# runtime that we can talk to has it.
_IN_0_4: Final = "containerd 1.7.7, CRI-O 1.31"
_IN_0_8: Final = "containerd 1.7.26, CRI-O 1.32"  # no runtime was released with 0.7.0
_IN_0_10: Final = "containerd 2.2.0, CRI-O 1.34"
_IN_0_11: Final = "containerd 2.2.1, CRI-O 1.35"
_IN_0_12: Final = "containerd 2.3.0, CRI-O 1.37"
_CDI_RELEASES: Final = "containerd 1.7.30, containerd 2.1.0, CRI-O 1.34"

FIELDS: Final[Mapping[str, _RuntimeField]] = {
    "rlimits": _RuntimeField(("rlimits",), (0, 4, 0), _IN_0_4),
    "CDI_devices": _RuntimeField(("CDI_devices",), (0, 7, 0), _CDI_RELEASES),
    "oom_score_adj": _RuntimeField(("linux", "oom_score_adj"), (0, 7, 0), _IN_0_8),
    "pids": _RuntimeField(("linux", "resources", "pids"), (0, 7, 0), _IN_0_8),
    "args": _RuntimeField(("args",), (0, 10, 0), _IN_0_10),
    "io_priority": _RuntimeField(("linux", "io_priority"), (0, 10, 0), _IN_0_10),
    "seccomp_policy": _RuntimeField(("linux", "seccomp_policy"), (0, 10, 0), _IN_0_10),
    "namespaces": _RuntimeField(("linux", "namespaces"), (0, 10, 0), _IN_0_10),
    "device rules": _RuntimeField(("linux", "resources", "devices"), (0, 10, 0), _IN_0_10),
    # NRI 0.11.0 has the field and does not survive it; see `drop_what_crashes`.
    "sysctl": _RuntimeField(("linux", "sysctl"), (0, 12, 0), _IN_0_12),
    "net_devices": _RuntimeField(("linux", "net_devices"), (0, 11, 0), _IN_0_11),
    "scheduler": _RuntimeField(("linux", "scheduler"), (0, 11, 0), _IN_0_11),
    "rdt": _RuntimeField(("linux", "rdt"), (0, 11, 0), _IN_0_11),
    "memory_policy": _RuntimeField(("linux", "memory_policy"), (0, 12, 0), _IN_0_12),
}

# From which release on a runtime has which NRI. A release between two lines has the NRI of the
# line before: that is known for containerd and assumed for CRI-O 1.33 and 1.36 (1.36 cannot have
# more than 0.11.0 unless it reports more). CRI-O below 1.31 is taken for 1.31.
_RELEASES: Final[Mapping[str, tuple[tuple[Version, Version], ...]]] = {
    "containerd": (
        ((1, 7, 0), (0, 3, 0)),
        ((1, 7, 7), (0, 4, 0)),
        ((1, 7, 14), (0, 6, 0)),
        ((1, 7, 16), (0, 6, 1)),
        ((1, 7, 26), (0, 8, 0)),
        ((2, 2, 0), (0, 10, 0)),
        ((2, 2, 1), (0, 11, 0)),
        ((2, 3, 0), (0, 12, 0)),
        ((2, 4, 0), (0, 12, 2)),
    ),
    "cri-o": (
        ((1, 31, 0), (0, 6, 1)),
        ((1, 32, 0), (0, 9, 0)),
        ((1, 34, 0), (0, 10, 0)),
        ((1, 35, 0), (0, 11, 0)),
        ((1, 37, 0), (0, 12, 0)),
    ),
}

# Runtimes whose NRI carries CDI names but that do not act on them in every release: containerd
# 2.0 and CRI-O 1.32 lack the injector.
_RESOLVES_CDI_NAMES: Final[Mapping[str, Callable[[Version], bool]]] = {
    "containerd": lambda release: (1, 7, 30) <= release < (2, 0, 0) or release >= (2, 1, 0),
    "cri-o": lambda release: release >= (1, 34, 0),
}

# Bit (number - 1) for each member of enum Event; NRI 0.10.0 added events 12 to 14. A runtime
# refuses a plugin that requests one that it does not know.
_EVENTS_TO_11: Final = 0x7FF
_EVENTS_TO_14: Final = 0x3FFF

_VERSION: Final = re.compile(r"\s*v?([0-9]{1,6})\.([0-9]{1,6})(?:\.([0-9]{1,6}))?")


def identify(
    name: str, version: str, nri_version: str = "", *, tells_timeouts: bool = True
) -> Runtime:
    """Return the runtime that sent these values in Configure.

    Packagers' versions are accepted, too (`1.7.24~ds1`, `2.1.9+unknown`, without the v). The NRI
    version that the runtime reports wins. Without it, a containerd or CRI-O of a release that
    cannot be read has at least the version of its Configure: timeouts are sent from 0.7.0 on. A
    runtime of another name counts as the newest.
    """
    known = _parse(nri_version) or _nri_of(name, _parse(version))
    if known is not None:
        return Runtime(name, version, known)
    if name.lower() in _RELEASES:
        return Runtime(name, version, (0, 8, 0) if tells_timeouts else (0, 6, 1), assumed=True)
    return Runtime(name, version, NEWEST.nri, assumed=True)


def named(text: str, what: str = "runtime") -> Runtime:
    """Return the runtime that `NAME/VERSION` names, as in `containerd/1.7.24`.

    ConfigError for a text of another form; `what` says what the text is.
    """
    name, slash, version = text.partition("/")
    if not (name and slash and version):
        raise ConfigError(f"{what} {text!r}: NAME/VERSION expected, as in containerd/1.7.24")
    return identify(name, version)


def of_request(request: ConfigureRequest) -> Runtime:
    """Return the runtime that sent this."""
    return identify(
        request.runtime_name,
        request.runtime_version,
        request.NRI_version,
        tells_timeouts=request.request_timeout != 0,
    )


def unsupported_in(adjustment: Adjustment, runtime: Runtime) -> list[Unsupported]:
    """Return what of `adjustment` this runtime would drop or not survive, ordered as `FIELDS`."""
    return [loss for path, loss in _lacking(runtime) if _is_set(adjustment, path)]


def drop_unknown(adjustment: Adjustment, runtime: Runtime) -> list[tuple[Unsupported, Adjustment]]:
    """Take out of `adjustment` what this runtime's NRI does not carry, and return each part.

    CDI names that are carried and then not resolved stay: that is the runtime's own doing.
    """
    found = [
        (path, loss)
        for path, loss in _lacking(runtime)
        if loss.needs is not None and _is_set(adjustment, path)
    ]
    return [(loss, _taken(adjustment, path)) for path, loss in found]


def drop_what_crashes(adjustment: Adjustment, runtime: Runtime) -> None:
    """Remove the parts of `adjustment` that would crash the runtime.

    NRI 0.11.0 writes a sysctl into a map that it has not made (pkg/adaptation/result.go), and the
    whole daemon ends; 0.12.0 makes the map.
    """
    if (0, 11, 0) <= runtime.nri < (0, 12, 0) and adjustment.HasField("linux"):
        adjustment.linux.ClearField("sysctl")
        if not adjustment.linux.ByteSize():
            adjustment.ClearField("linux")


def _taken(adjustment: Adjustment, path: tuple[str, ...]) -> Adjustment:
    *parents, last = path
    taken = Adjustment()
    source, target = (reduce(getattr, parents, each) for each in (adjustment, taken))
    target.MergeFrom(source)
    for field, _ in target.ListFields():
        if field.name != last:
            target.ClearField(field.name)
    source.ClearField(last)
    return taken


@lru_cache(maxsize=8)
def _lacking(runtime: Runtime) -> tuple[tuple[tuple[str, ...], Unsupported], ...]:
    """Return what a runtime lacks, worked out once: this runs for every container."""
    losses = ((field.path, unsupported(name, runtime)) for name, field in FIELDS.items())
    return tuple((path, loss) for path, loss in losses if loss is not None)


def unsupported(field: str, runtime: Runtime) -> Unsupported | None:
    """Return what is lost if an adjustment for `runtime` has `field`, a key of `FIELDS` or not."""
    known = FIELDS.get(field)
    if known is None:
        return None
    if runtime.nri < known.since:
        return Unsupported(field, known.since, known.releases)
    if field == "CDI_devices" and not _resolves_cdi_names(runtime):
        return Unsupported(field, None, known.releases)
    return None


def sentence(loss: Unsupported, runtime: Runtime) -> str:
    """Name the runtime that drops a part, and the first releases that apply it."""
    name = f"{runtime.name or 'the runtime'} {runtime.version}".rstrip()
    needs = f"needs NRI {dotted(loss.needs)}, " if loss.needs else ""
    return (
        f"{name} (NRI {dotted(runtime.nri)}) does not apply {loss.field}: "
        f"{needs}first in {loss.releases}"
    )


def dotted(version: Version) -> str:
    """Write a version with points."""
    return ".".join(map(str, version))


def keeps_failure_policy(runtime: Runtime) -> bool:
    """Tell whether this runtime acts on a plugin's failure policy; older ones skip it.

    An unknown runtime that does not report its NRI has one before 0.12.0.
    """
    return runtime.nri >= FAILURE_POLICY and not runtime.assumed


def known_events(runtime: Runtime) -> int:
    """Return the mask of the events that this runtime knows, as ConfigureResponse has it."""
    return _EVENTS_TO_11 if runtime.nri < (0, 10, 0) else _EVENTS_TO_14


def _parse(text: str) -> Version | None:
    """Read the numbers in front; what follows (`~ds1`, `+unknown`, `-rc.1`) is a packager's."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def _nri_of(name: str, release: Version | None) -> Version | None:
    lines = _RELEASES.get(name.lower())
    if lines is None or release is None:
        return None
    line = bisect_right(lines, release, key=lambda line: line[0])
    return lines[max(line - 1, 0)][1]


def _resolves_cdi_names(runtime: Runtime) -> bool:
    rule = _RESOLVES_CDI_NAMES.get(runtime.name.lower())
    release = _parse(runtime.version)
    return rule is None or release is None or rule(release)


def _is_set(message: Message, path: tuple[str, ...]) -> bool:
    """Tell whether a field is present, or a list or map not empty; reads without creating."""
    *parents, last = path
    for name in parents:
        if not message.HasField(name):
            return False
        message = getattr(message, name)
    return any(field.name == last for field, _ in message.ListFields())
