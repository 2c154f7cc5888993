"""Read what a rule gives, in the words of the annotations, when a policy is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

from nri_inject.api import Adjustment, KeyValue
from nri_inject.injectors.cdi import read_name
from nri_inject.injectors.device.devices import read_given_device
from nri_inject.injectors.device.injector import KINDS
from nri_inject.injectors.device.wish import Wish, constant
from nri_inject.injectors.giving import of_only_item
from nri_inject.policy import mount_options
from nri_inject.policy.gifts import Gift
from nri_inject.text.fields import (
    Fault,
    Findings,
    Reader,
    list_of,
    read_line,
    read_text,
    wrong_type,
)
from nri_inject.text.flow import flow
from nri_inject.text.glob import Pattern, literally, pattern
from nri_inject.text.paths import clean
from nri_inject.text.words import excerpt, quoted
from nri_inject.text.yamltext import Value

_MAX_SHOWN: Final = 120

_KindReader: TypeAlias = Reader[Sequence[Gift]]


def read(kind: str, value: Value) -> Sequence[Gift]:
    """Return the gifts of a kind; Fault with everything that is wrong with them."""
    return _READERS[kind](value)


def _words(noun: str, value: object) -> str:
    return f"{noun} {excerpt(flow(value), _MAX_SHOWN)}"


def _some(found: Sequence[Gift]) -> Sequence[Gift]:
    if not found:
        raise Fault("it is empty, and gives nothing")
    return found


def _each(read_one: Reader[Gift]) -> _KindReader:
    """Return a reader of a list of gifts."""

    def read_list(value: Value) -> Sequence[Gift]:
        if not isinstance(value, list):
            raise wrong_type(value, "a list")
        return _some(list_of(read_one)(value))

    return read_list


def _map(kind: str, noun: str, read_one: Callable[[str, Value], Wish | None]) -> _KindReader:
    """Return a reader of a map with one gift for each key."""

    def read_map(value: Value) -> Sequence[Gift]:
        if not isinstance(value, dict):
            raise wrong_type(value, "a map")
        found = Findings()
        gifts: list[Gift] = []
        for key, item in value.items():
            wish = found.read(key, partial(read_one, key), item)
            gifts.append(Gift(kind, _words(noun, {key: item}), wish))
        found.check()
        return _some(gifts)

    return read_map


# --- devices, mounts, limits and the rest of the device injector ----------------------------------

_KINDS: Final = {kind.name: kind for kind in KINDS}


def _listed(kind: str, noun: str) -> _KindReader:
    """Return a reader of the items of an annotation that is a list."""

    def read_one(value: Value) -> Gift:
        try:
            wish = _KINDS[kind].read([value])
        except Fault as fault:
            raise of_only_item(fault) from fault
        return Gift(kind, _words(noun, value), wish, tuple(_lends(wish)))

    return _each(read_one)


def _lends(wish: Wish | None) -> Iterator[Pattern]:
    """Yield the paths of the host that the mounts of a wish let containers write."""
    for mount in wish.args[0].mounts if isinstance(wish, partial) else ():
        if not mount_options.writable(mount)[0]:
            continue
        for option in mount_options.words(mount.options):
            key, _, path = option.partition("=")
            if key in ("upperdir", "workdir") and path.startswith("/"):
                yield pattern(literally(clean(path)))
        if mount.source.startswith("/"):
            yield pattern(literally(clean(mount.source)))


def _device(value: Value) -> Gift:
    return Gift("devices", _words("device", value), read_given_device(value))


def _single(kind: str, noun: str) -> _KindReader:
    """Return a reader of an annotation that is one value."""
    return lambda value: [Gift(kind, _words(noun, value), _KINDS[kind].read(value))]


def _one_sysctl(key: str, value: Value) -> Wish | None:
    return _KINDS["sysctl"].read({key: value})


# --- variables, CDI devices and hooks -------------------------------------------------------------

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def _variable(name: str, value: Value) -> Wish:
    if not _VARIABLE.fullmatch(name):
        raise Fault(f"{quoted(name)} is not the name of a variable: letters, digits, '_', '.', '-'")
    text = read_text(value)
    if "\0" in text:
        raise Fault("it contains a NUL")
    return partial(constant, Adjustment(env=[KeyValue(key=name, value=text)]))


def _cdi_device(value: Value) -> Gift:
    return Gift("cdi_devices", _words("CDI device", value), read_name(value))


def _hook(value: Value) -> Gift:
    name = read_line(value)
    if not name or "/" in name:
        raise Fault(f"{quoted(name)} must be the name of a hook file, without a directory")
    return Gift("hooks", _words("hook", name), name)


_READERS: Final[Mapping[str, _KindReader]] = {
    "devices": _each(_device),
    "cdi_devices": _each(_cdi_device),
    "mounts": _listed("mounts", "mount"),
    "ulimits": _listed("ulimits", "limit"),
    "sysctl": _map("sysctl", "sysctl", _one_sysctl),
    "network_devices": _listed("network_devices", "network device"),
    "scheduling_policy": _single("scheduling_policy", "scheduling policy"),
    "io_priority": _single("io_priority", "I/O priority"),
    "memory_policy": _single("memory_policy", "memory policy"),
    "hooks": _each(_hook),
    "env": _map("env", "variable", _variable),
}
