"""The names of CDI: kinds, devices, the annotations that request them, and names of spec files.

The rules are those of the Go library (tags.cncf.io/container-device-interface 1.1.0), which are
looser than the text of the CDI specification; `unusual` says where a name is beyond that text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from nri_inject.text.fields import MAX_FAULTS, Fault
from nri_inject.text.words import plain, quoted

ANNOTATION_PREFIX: Final = "cdi.k8s.io/"
"""Begins the keys of annotations that request CDI devices in the way older kubelets do."""

_WORD: Final = "[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
is_vendor: Final = re.compile(_WORD).fullmatch
"""Match a text that can be the vendor of a kind."""
is_class: Final = is_vendor
"""Match a text that can be the class of a kind."""
is_device: Final = re.compile("[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?").fullmatch
"""Match a text that can be the name of a device."""


class QualifiedName(NamedTuple):
    """The three parts of `vendor/class=device`."""

    vendor: str
    class_: str
    device: str

    def __str__(self) -> str:
        return f"{self.vendor}/{self.class_}={self.device}"


def split_kind(kind: str) -> tuple[str, str]:
    """Return vendor and class, unchecked; two empty texts if there are not two parts.

    A second slash stays in the class, where it is not valid.
    """
    vendor, _, class_ = kind.partition("/")
    return (vendor, class_) if vendor and class_ else ("", "")


def split(name: str) -> QualifiedName:
    """Return the parts of a name, unchecked; all of it as device if it has no three parts."""
    kind, _, device = name.partition("=")
    if kind and device:
        vendor, class_ = split_kind(kind)
        if vendor:
            return QualifiedName(vendor, class_, device)
    return QualifiedName("", "", name)


def parse(name: str) -> QualifiedName:
    """Return the parts of a qualified name; Fault says which of them is wrong."""
    parts = split(name)
    if not parts.vendor:
        raise Fault(f"{quoted(name)} is not a device name such as vendor.com/class=name")
    for what, text, match in (
        ("vendor", parts.vendor, is_vendor),
        ("class", parts.class_, is_class),
        ("device", parts.device, is_device),
    ):
        if not match(text):
            raise Fault(f"{quoted(name)}: {quoted(text)} cannot be the name of a {what}")
    return parts


# A DNS sub-domain, as the CDI specification asks of a vendor.
_DOMAIN: Final = re.compile(
    r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*"
)
_MAX_VENDOR: Final = 253
_MAX_CLASS: Final = 63


def unusual(vendor: str, class_: str) -> Iterator[str]:
    """Yield what the CDI specification says against a vendor and class that runtimes accept."""
    if len(vendor) > _MAX_VENDOR or not _DOMAIN.fullmatch(vendor):
        yield f"vendor {quoted(vendor)} is not a domain name"
    if len(class_) > _MAX_CLASS:
        yield f"class {quoted(class_)} is longer than {_MAX_CLASS} characters"


# --- annotations --------------------------------------------------------------------------------

# What Kubernetes allows after the slash of an annotation's key.
_MAX_KEY: Final = 63
_KEY: Final = re.compile("[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")


MAX_NAMES: Final = 1000
"""How many devices one container may request; no container has so many."""

MAX_LENGTH: Final = 1024
"""How many characters the name of a device may have that a container requests."""


def requested(annotations: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the keys of the form `cdi.k8s.io/...`, sorted, and all names in their values.

    Fault has what is wrong in them. Sorting the keys makes the order of devices the same each time;
    in Go it changes from run to run.
    """
    keys = sorted(key for key in annotations if key.startswith(ANNOTATION_PREFIX))
    return keys, [name for name, _ in listed((key, annotations[key]) for key in keys)]


def listed(annotations: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return each name of lists with commas between, and the key of its annotation.

    Fault has what is wrong in them: the first faults, and not more than MAX_NAMES names are read.
    """
    found: list[tuple[str, str]] = []
    faults: list[str] = []
    for key, text in annotations:
        place = f"annotation {plain(key)}"
        if len(found) + text.count(",") >= MAX_NAMES:
            faults.append(f"{place}: more than {MAX_NAMES} CDI devices are requested")
            break
        for name in text.split(","):
            try:
                check_length(name)
                parse(name)
            except Fault as fault:
                faults += fault.at(place)
            found.append((name, key))
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise Fault(*faults[:MAX_FAULTS])
    return found


def check_length(name: str) -> None:
    """Raise Fault for a name that is longer than any that is used in practice."""
    if len(name) > MAX_LENGTH:
        raise Fault(f"{quoted(name)} is longer than {MAX_LENGTH} characters")


def annotation_key(plugin: str, device_id: str) -> str:
    """Return the key under which a device plugin requests a device; Fault if it has none."""
    if not plugin or not device_id:
        raise Fault("plugin and device ID must not be empty")
    name = f"{plugin}_{device_id.replace('/', '_')}"
    if len(name.encode()) > _MAX_KEY or not _KEY.fullmatch(name):
        raise Fault(f"{quoted(name)} cannot be the name of an annotation")
    return ANNOTATION_PREFIX + name


def annotation_value(devices: Iterable[str]) -> str:
    """Return the value that requests these devices; Fault if one is no qualified name."""
    devices = list(devices)
    for name in devices:
        parse(name)
    return ",".join(devices)


def annotated(
    annotations: Mapping[str, str], plugin: str, device_id: str, devices: Iterable[str]
) -> dict[str, str]:
    """Return the annotations with one more that requests devices; Fault if its key is taken."""
    key = annotation_key(plugin, device_id)
    if key in annotations:
        raise Fault(f"annotation {plain(key)} already exists")
    return {**annotations, key: annotation_value(devices)}


# --- files --------------------------------------------------------------------------------------


def file_stem(kind: str, transient_id: str = "") -> str:
    """Return the name, without extension, of the file for a kind's spec; Fault for no kind.

    `transient_id` tells the specs of one kind apart that live as long as a container.
    """
    vendor, class_ = split_kind(kind)
    if not vendor or "/" in class_:
        raise Fault(f"{quoted(kind)} is not a kind such as vendor.com/class")
    suffix = f"_{transient_id.replace('/', '_')}" if transient_id else ""
    return f"{vendor}-{class_}{suffix}"
