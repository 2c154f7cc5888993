"""The keys of annotations: ours, those of other injectors, and those that are meant to be one.

An injector reads the keys that it knows. Every other key that looks like a request is told of here,
with the annotation to write instead, so that no request is dropped in silence.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from nri_inject.cdi.names import ANNOTATION_PREFIX
from nri_inject.injectors.habits import colons
from nri_inject.text.flow import annotation
from nri_inject.text.words import MAX_EXCERPT, meant, plain, quoted
from nri_inject.text.yamltext import Value

DOMAIN: Final = "noderesource.dev"
_OLD: Final = "nri.io"

KINDS: Final = (
    *("devices", "cdi-devices", "mounts", "ulimits", "sysctl", "network-devices"),
    *("scheduling-policy", "io-priority", "memory-policy", "exclusive-cpus"),
    *("profiles", "refuse"),
)
"""What stands in front of the domain in keys that a plugin of ours reads."""

_WITHOUT_OLD: Final = ("ulimits", "sysctl", "exclusive-cpus", "profiles", "refuse")
# Other words for a kind, and keys of other plugins in the same domain.
_SYNONYMS: Final = {
    **dict.fromkeys(("rlimit", "rlimits", "ulimit", "limits"), "ulimits"),
    **dict.fromkeys(("cdi", "gpu", "gpus", "cdi-names", "cdidevices", "cdi-device"), "cdi-devices"),
    **dict.fromkeys(("device", "dev", "usb", "host-devices", "hostdevices"), "devices"),
    **dict.fromkeys(("volumes", "volume", "mount", "bind-mounts", "binds"), "mounts"),
    **dict.fromkeys(("sysctls", "kernel"), "sysctl"),
    **dict.fromkeys(("scheduler", "scheduling", "sched", "nice"), "scheduling-policy"),
    **dict.fromkeys(("ioprio", "io", "ionice"), "io-priority"),
    **dict.fromkeys(("numa", "mempolicy", "memory"), "memory-policy"),
    **dict.fromkeys(("netdevices", "netdevs", "net-devices", "network"), "network-devices"),
    **dict.fromkeys(("cpus", "cpuset", "exclusive-cpu", "cpu"), "exclusive-cpus"),
}
_OF_OTHERS: Final = frozenset(
    {
        *("required-plugins", "tolerate-missing-plugins", "tolerate-missing-nri-plugins"),
        *("netdevice", "writable-cgroups", "identity"),
    }
)


def is_ours(prefix: str) -> bool:
    """Tell whether a plugin of ours reads keys with this prefix."""
    return prefix in _PREFIXES


_PREFIXES: Final = {
    **{f"{kind}.{DOMAIN}": kind for kind in KINDS},
    **{f"{kind}.{_OLD}": kind for kind in KINDS if kind not in _WITHOUT_OLD},
    "ulimits.nri.containerd.io": "ulimits",
}


# --- keys of other injectors ----------------------------------------------------------------------

Adopted: TypeAlias = AbstractSet[str]
"""The other injectors whose keys the node's admin has switched on."""


class Other(NamedTuple):
    """The keys of another injector, by the word that switches them on, and what they ask for.

    `keys` are those that count for a whole pod, the first that exists; `prefix` begins keys for
    one container. `values` makes a list of our annotation `kind` of a text.
    """

    word: str
    whose: str
    kind: str
    keys: tuple[str, ...]
    prefix: str
    values: Callable[[str], list[Value]]

    def find(self, annotations: Mapping[str, str], container: str) -> tuple[str, str] | None:
        """Return key and text of the annotation that counts for a container."""
        own = (f"{self.prefix}{container}",) if self.prefix else ()
        for key in (*own, *self.keys):
            if key in annotations:
                return key, annotations[key]
        return None


def crio_items(text: str) -> list[Value]:
    """Return the items of CRI-O's HOST:CONTAINER:LETTERS,...; it gives `rwm` unless told less.

    What may be read and written, a container gets without more words; nodes are made by nobody.
    """
    return [_crio_item(part.strip()) for part in text.split(",")]


def _crio_item(text: str) -> Value:
    item = colons(text) or {"device": text}
    if {"r", "w"} <= {*item.get("access", "")}:
        del item["access"]
    return item["device"] if len(item) == 1 else {**item}


def names_of(text: str) -> list[Value]:
    """Return the names of a list with commas."""
    return [name.strip() for name in text.split(",")]


def _lines(text: str) -> list[Value]:
    return [*re.findall(r"path:\s*['\"]?(/[^\s'\",}]+)", text[:4096])]


CRIO: Final = Other(
    *("crio", "CRI-O's", "devices"),
    *(("devices.crio.io", "io.kubernetes.cri-o.Devices"), "", crio_items),
)
GKE: Final = Other("gke", "GKE's", "devices", (), "devices.gke.io/container.", _lines)
NVIDIA: Final = Other(
    *("nvidia", "NVIDIA's", "cdi-devices", (), "nvidia.cdi.k8s.io/container.", names_of)
)
OTHERS: Final = (CRIO, GKE, NVIDIA)
CDI: Final = "cdi"
"""The word for keys `cdi.k8s.io/...` of a pod, which name CDI devices for all its containers."""


# --- what nobody reads ----------------------------------------------------------------------------

Level: TypeAlias = Literal["fault", "wrong", "note"]


@dataclass(frozen=True, slots=True)
class Unread:
    """An annotation that no injector reads.

    A `fault` fails the containers of its pod; `wrong` is a request that nobody serves; a `note` may
    be for another program.
    """

    key: str
    sentence: str
    level: Level

    def __str__(self) -> str:
        return f"annotation {plain(self.key)}: {self.sentence}"


MAX_UNREAD: Final = 32
# Comparing words takes longer than all else here.
_MAX_COMPARED: Final = 200


def unread(
    annotations: Mapping[str, str],
    adopted: Adopted = frozenset({CDI}),
    containers: Sequence[str] | None = None,
) -> list[Unread]:
    """Return the annotations that look like a request and that nobody reads.

    `containers` are the names of all containers of the pod; a plugin hears of one after the other,
    and does not know them.
    """
    found: list[Unread] = []
    for key in sorted(annotations)[:_MAX_COMPARED]:
        found += _of_key(key, annotations, adopted, containers)
        if len(found) >= MAX_UNREAD:
            break
    return found


_SIGNS: Final = (
    "noderes",
    "nodres",
    "nri.",
    "crio.io",
    "cri-o.",
    "gke.io",
    "cdi.k8s.io",
    "node-res",
)


def concern(annotations: Mapping[str, str]) -> bool:
    """Tell whether a key may be one that `unread` has something to say of; most pods have none."""
    return any(sign in key for key in annotations for sign in _SIGNS)


def faults(annotations: Mapping[str, str], prefixes: AbstractSet[str]) -> list[str]:
    """Return what is wrong with the keys that begin with prefixes of an injector."""
    wrong = [
        Unread(key, _ending(prefix, name, ()), "fault")
        for key in annotations
        for prefix, slash, name in (key.partition("/"),)
        if prefix in prefixes and slash and not _is_scope(name)
    ]
    return sorted(map(str, wrong))[:MAX_UNREAD]


def _is_scope(name: str) -> bool:
    return name == "pod" or (name.startswith("container.") and len(name) > len("container."))


def _of_key(
    key: str,
    annotations: Mapping[str, str],
    adopted: Adopted,
    containers: Sequence[str] | None,
) -> Iterator[Unread]:
    prefix, slash, name = key.partition("/")
    if prefix in _PREFIXES:
        if slash and not _is_scope(name):
            yield Unread(key, _ending(prefix, name, containers or ()), "fault")
        elif name != "pod" and slash:
            yield from _of_container(key, f"{prefix}/container.", containers)
        else:
            yield from _hidden(key, prefix, annotations)
    elif other := _other(key):
        yield from _of_other(key, other, annotations[key], adopted, containers)
    elif key.startswith(ANNOTATION_PREFIX):
        if CDI not in adopted:
            yield _not_adopted(key, "CDI's", CDI, "cdi-devices", "/pod", names_of(annotations[key]))
    elif meant_key := _misspelt(prefix, name, slash, containers or ()):
        yield Unread(key, f"no plugin reads it; did you mean {plain(meant_key)}?", "wrong")
    elif prefix.endswith(f".{DOMAIN}") and not _is_of_others(prefix):
        kinds = ", ".join(KINDS)
        yield Unread(key, f"no plugin of nri-inject reads it; it reads {kinds}.{DOMAIN}", "note")


def _is_of_others(prefix: str) -> bool:
    kind = prefix.removesuffix(f".{DOMAIN}")
    return kind in _OF_OTHERS or "." in kind


def _ending(prefix: str, name: str, containers: Sequence[str]) -> str:
    """Say that a key ends with no container and no pod, and how it may be meant to end."""
    wanted = "its end must be /container.NAME or /pod"
    near = _scope(name, containers)
    return f"{wanted}; did you mean {plain(f'{prefix}{near}')}?" if near else wanted


_CONTAINER: Final = re.compile(
    r"(?:init-?|ephemeral-?)?(?:containers?|contianer|conatiner|ctr|c)[._:=-]+(.+)", re.IGNORECASE
)
_POD: Final = frozenset({"pod", "pods", "all", "any", "pod.", "pod/", "pod-wide"})


def _scope(name: str, containers: Sequence[str]) -> str:
    """Return the end that a key's end is meant to be, with its slash; empty if not clear."""
    if _is_scope(name):
        return f"/{name}"
    if match := _CONTAINER.fullmatch(name):
        return f"/container.{match[1]}"
    if name.lower() in _POD:
        return "/pod"
    return f"/container.{name}" if name in containers else ""


def _of_container(key: str, prefix: str, containers: Sequence[str] | None) -> Iterator[Unread]:
    """Yield that a container is none of the pod's."""
    name = key.removeprefix(prefix)
    if containers is None or name in containers:
        return
    near = meant(name, containers)
    hint = f"did you mean {plain(prefix + near)}?" if near else f"it has {', '.join(containers)}"
    yield Unread(key, f"the pod has no container {quoted(name)}; {hint}", "wrong")


def for_a_container_like(annotations: Mapping[str, str], name: str) -> Iterator[Unread]:
    """Yield keys of a container whose name is nearly this one, for which there is no such key.

    The container may still come; a plugin does not know the names of all. Names that differ in
    numbers alone are those of several containers of a kind.
    """
    found = 0
    for key in annotations:
        prefix, _, scope = key.partition("/container.")
        if prefix not in _PREFIXES or not scope or scope == name or found >= MAX_UNREAD:
            continue
        own = f"{_PREFIXES[prefix]}.{DOMAIN}/container.{name}"
        if own in annotations or not _is_slip(scope, name):
            continue
        found += 1
        sentence = (
            f"a container {quoted(scope)} is not there so far; this one is {quoted(name)}; did you"
            f" mean {plain(own)}?"
        )
        yield Unread(key, sentence, "note")


_SLIP: Final = 0.74


def _is_slip(one: str, other: str) -> bool:
    if max(len(one), len(other)) > MAX_EXCERPT or re.sub("[0-9]", "", one) == re.sub(
        "[0-9]", "", other
    ):
        return False
    return difflib.SequenceMatcher(None, one, other).ratio() > _SLIP


def _hidden(key: str, prefix: str, annotations: Mapping[str, str]) -> Iterator[Unread]:
    """Yield that another key of the same kind comes before this one for every container."""
    kind = _PREFIXES[prefix]
    prefixes = [each for each in (f"{kind}.{DOMAIN}", *_old_prefixes(kind)) if each]
    order = [f"{each}{scope}" for scope in ("/pod", "") for each in prefixes]
    before = [one for one in order[: order.index(key)] if one in annotations]
    if before:
        yield Unread(key, f"it is not read, since {before[0]} comes first", "note")


def _old_prefixes(kind: str) -> list[str]:
    return [prefix for prefix, one in _PREFIXES.items() if one == kind and DOMAIN not in prefix]


# --- keys of others that are not read, or not as they are -----------------------------------------


def _other(key: str) -> Other | None:
    """Return the injector that a key belongs to, whatever its letter case and end."""
    small = key.lower()
    for other in OTHERS:
        if any(small.partition("/")[0] == one.lower() for one in other.keys):
            return other
        if other.prefix and small.startswith(other.prefix.partition("/")[0]):
            return other
    return None


def _of_other(
    key: str, other: Other, text: str, adopted: Adopted, containers: Sequence[str] | None
) -> Iterator[Unread]:
    name = key.partition("/")[2]
    is_read = key in other.keys or bool(other.prefix and key.startswith(other.prefix))
    if other.word not in adopted:
        scope = _scope(name, containers or ()) or "/pod"
        yield _not_adopted(key, other.whose, other.word, other.kind, scope, other.values(text))
    elif not is_read:
        wanted = " or ".join([*other.keys, *([f"{other.prefix}NAME"] if other.prefix else [])])
        yield Unread(key, f"{other.whose} key is {wanted}, written so", "wrong")
    elif other.prefix:
        yield from _of_container(key, other.prefix, containers)


def _not_adopted(
    key: str, whose: str, word: str, kind: str, scope: str, values: Sequence[Value]
) -> Unread:
    ours = annotation(f"{kind}.{DOMAIN}{plain(scope)}", values)
    if len(ours) > 4 * MAX_EXCERPT or not values:
        ours = f"{kind}.{DOMAIN}{plain(scope)}"
    sentence = (
        f"the key is {whose}, and is not read here; write {ours}, or let the node's admin switch it"
        f" on in the configuration: annotations: {{{word}: true}}"
    )
    return Unread(key, sentence, "note")


# --- what is nearly a key of ours -----------------------------------------------------------------

_DOMAINS: Final = (DOMAIN, _OLD)
_NEAR: Final = 0.75
_NEARER: Final = 0.9


def _misspelt(prefix: str, name: str, slash: str, containers: Sequence[str]) -> str:
    """Return the key that one is meant to be, empty for one that is like none of ours."""
    if len(prefix) > MAX_EXCERPT:
        return ""
    small = prefix.lower()
    if small in (DOMAIN, _OLD):  # noderesource.dev/devices
        first = _kind(name.partition("/")[0].partition(".")[0])
        return f"{first}.{DOMAIN}" if first else ""
    for known in _PREFIXES:  # devices.noderesource.dev.container.main
        rest = small.removeprefix(known).removeprefix(".")
        if small.startswith(known) and (scope := _scope(rest, containers)):
            return f"{known}{scope}"
    head, _, domain = small.partition(".")
    scope = (_scope(name, containers) or f"/{name}") if slash else ""
    if not domain or not _is_near(domain):
        near = difflib.get_close_matches(small, _PREFIXES, n=1, cutoff=_NEARER)
        return f"{near[0]}{scope}" if near else ""
    kind = _kind(head)
    if not kind or (domain == DOMAIN and kind != head and head in _OF_OTHERS):
        return ""
    if domain == _OLD and kind != _SYNONYMS.get(head, kind) and kind != head:
        return ""
    return f"{kind}.{DOMAIN}{scope}"


def _kind(word: str) -> str:
    if word in KINDS:
        return word
    return _SYNONYMS.get(word) or meant(word, KINDS) or ""


def _is_near(domain: str) -> bool:
    """Tell whether a domain is ours, or one letter or word away from it."""
    if domain in (*_DOMAINS, "nri.containerd.io", "nri.dev", "containerd.io", "node-resource.dev"):
        return True
    if abs(len(domain) - len(DOMAIN)) > 4:
        return False
    return difflib.SequenceMatcher(None, domain, DOMAIN).ratio() > _NEAR
