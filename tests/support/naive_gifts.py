"""A second evaluation of what rules give, beside that of `naive_policy`; it shares no code either.

Written from docs/give-a-device.md. A container is a dict of things by kind and key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nri_inject import api
from nri_inject.api import Adjustment, Mount
from support import naive_policy
from support.naive_policy import Asker, Document, glob

# The profiles that it is a part of, kind, key, value, and the adjustment that has it.
Gift = tuple[list[str], str, str, Any, Any]
Things = dict[tuple[str, str], Any]
NOBODY = {"containers": ["nobody"]}


class Fails(Exception):
    """The container is not created."""


def for_asker(document: Document, asker: Asker) -> Document:
    """Return the rules without `images`, each for nobody if the image is another one."""
    rules = []
    for rule in document["rules"]:
        images = rule.get("who", {}).get("images")
        names = [asker.container.image.name, asker.container.image.name.partition(":")[0]]
        fits = images is None or any(glob(one, name) for one in images for name in names)
        rules.append(rule if fits else {**rule, "who": NOBODY})
    for give in [rule.get("give", {}) for rule in rules] + [*document["profiles"].values()]:
        for mount in give.get("mounts", []):
            if "rw" in mount["options"]:  # it lends its source, whoever gets it
                lends = {"mounts": [{"source": mount["source"], "access": "rw"}]}
                rules.append({"who": NOBODY, "allow": lends})
    return {**document, "rules": rules}


def outcome(
    document: Document,
    asker: Asker,
    requested: Adjustment,
    refused: list[str],
    profiles: list[str],
) -> Things:
    """Return what a container has in the end; Fails if it is not created."""
    document = for_asker(document, asker)
    if not all(naive_policy.allowed(document, asker, requested).values()):
        raise Fails("a request is denied")
    has = things_of(requested)
    for mount in requested.mounts:
        has["mounts", mount.destination] = (naive_policy.handed_on(asker, mount), [*mount.options])
    check_profiles(document, asker, profiles)
    sources = [({"profiles": [name]}, True) for name in profiles] + [
        (rule.get("give", {}), rule.get("required", False))
        for rule in document["rules"]
        if gets(rule, asker)
    ]
    missing = False
    for give, required in sources:
        for inside, kind, key, value, seen in gifts_of(document, give, asker):
            gone = seen is None or is_denied(document, asker, kind, seen)
            if gone or is_barred(document, asker, inside):
                missing |= required
            elif kind in refused and not required:
                pass
            elif in_the_way(asker, has, requested, kind, key, value):
                missing |= required
            else:
                has[kind, key] = value
    if missing:
        raise Fails("something required is missing")
    return has


def check_profiles(document: Document, asker: Asker, profiles: list[str]) -> None:
    for name in profiles:
        if not naive_policy.verdict(document, asker, "profiles", {"names": [name]}):
            raise Fails("a profile is denied")
        if name not in document["profiles"]:
            raise Fails("there is no such profile")


def things_of(adjustment: Adjustment) -> Things:
    """Return what an adjustment has, in the form of the values of gifts."""
    has: Things = {}
    for device in adjustment.linux.devices:
        mode = device.file_mode.value if device.HasField("file_mode") else None
        has["devices", device.path] = (device.type, device.major, device.minor, mode)
    for mount in adjustment.mounts:
        has["mounts", mount.destination] = (mount.source, [*mount.options])
    for limit in adjustment.rlimits:
        has["ulimits", limit.type] = (limit.hard, limit.soft)
    for name, value in adjustment.linux.sysctl.items():
        has["sysctl", name] = value
    for variable in adjustment.env:
        has["env", variable.key] = variable.value
    return has


def gets(rule: Document, asker: Asker) -> bool:
    """Tell whether a container is one of those that a rule gives something to."""
    who = rule.get("who", {})
    if asker.pod.namespace == "kube-system" and "kube-system" not in who.get("namespaces", []):
        return False
    if any(mount.source == "/run/nri" for mount in asker.container.mounts):
        return False
    return naive_policy.includes(who, asker)


def is_barred(document: Document, asker: Asker, profiles: list[str]) -> bool:
    """Tell whether a rule denies one of the profiles that a gift is a part of."""
    free = {"rules": [*document["rules"], {"allow": {"profiles": ["*"]}}]}
    things = [{"names": [name]} for name in profiles]
    return not all(naive_policy.verdict(free, asker, "profiles", thing) for thing in things)


def gifts_of(document: Document, give: Document, asker: Asker) -> Iterator[Gift]:
    """Yield the gifts in the order of their kinds, those of profiles last."""
    for kind, key, value, seen in own_gifts(give, asker):
        yield [], kind, key, value, seen
    for name in give.get("profiles", []):
        for inner, *rest in gifts_of(document, document["profiles"].get(name, {}), asker):
            yield ([name, *inner], *rest)


def own_gifts(give: Document, asker: Asker) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield kind, key, value, and the adjustment that has it, None for what the host lacks."""
    for path in give.get("devices", []):
        node = asker.host.devices.get(path) if path != "/dev/dir" else None
        if node is None:
            yield "devices", path, None, None
            continue
        device = api.LinuxDevice(path=path, type=node.type, major=node.major, minor=node.minor)
        linux = api.LinuxContainerAdjustment(devices=[device])
        number = (node.type, node.major, node.minor, node.mode)
        yield "devices", path, number, Adjustment(linux=linux)
    for given in give.get("mounts", []):
        mount = Mount(**given)
        place = asker.host.files.get(mount.source)
        source = place.real if place else mount.source
        value = (source, [*mount.options])
        yield "mounts", mount.destination, value, Adjustment(mounts=[mount])
    for given in give.get("ulimits", []):
        limit = api.POSIXRlimit(type=f"RLIMIT_{given['type']}", hard=given["hard"], soft=0)
        yield "ulimits", limit.type, (limit.hard, limit.soft), Adjustment(rlimits=[limit])
    for name, text in give.get("sysctl", {}).items():
        linux = api.LinuxContainerAdjustment(sysctl={name: text})
        yield "sysctl", name, text, Adjustment(linux=linux)
    for name, text in give.get("env", {}).items():
        yield "env", name, text, Adjustment()


def is_denied(document: Document, asker: Asker, kind: str, one: Adjustment) -> bool:
    """Tell whether the first rule that speaks of a gift denies it, or the host cannot give it."""
    anywhere = {"who": {}, "allow": {"devices": ["/**"], "mounts": ["/"]}}
    looking = {"rules": [*document["rules"], anywhere]}
    for _, _, thing in naive_policy.things(looking, asker, one):
        if thing is None:
            return True
        if not naive_policy.verdict(with_free(document, kind, thing), asker, kind, thing):
            return True
    return False


def with_free(document: Document, kind: str, thing: Any) -> Document:
    """Return the rules and, behind them, one that allows exactly this thing."""
    name = thing["names"][0]
    if kind == "mounts":
        more = {"access": "rw", "destination": thing["destination"], "type": thing["type"]}
        entry: Any = {"source": name, "options": ["**"], **more}
    elif kind == "devices":
        entry = {key: thing[key] for key in ("type", "major", "minor")} | {"access": "rwm"}
    elif kind == "ulimits":
        entry = name.removeprefix("RLIMIT_")
    else:
        entry = name
    # A rule that lets a source be written lends nothing of the directories above the source.
    return {"rules": [*document["rules"], {"who": {}, "allow": {kind: [entry]}}]}


def in_the_way(
    asker: Asker, has: Things, requested: Adjustment, kind: str, key: str, value: Any
) -> bool:
    """Tell whether a container has another thing in the place of a gift."""
    if has.get((kind, key), value) != value:
        return True
    if kind == "env":
        return any(v.startswith(f"{key}=") and v != f"{key}={value}" for v in asker.container.env)
    if kind == "mounts":
        return any(mount.destination == key for mount in asker.container.mounts)
    if kind == "sysctl":
        others = [name for of, name in has if of == "sysctl" and name != key]
        return any([p for p in re.split("[./]", name) if p] == key.split(".") for name in others)
    if kind == "devices":
        return any(
            (rule.type, rule.major.value, rule.minor.value) == value[:3]
            for rule in requested.linux.resources.devices
        )
    return False
