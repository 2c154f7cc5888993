"""The names of CDI: kinds, devices, and the annotations that request them.

The rules are those of the Go library (tags.cncf.io/container-device-interface 1.1.0), which are
looser than the text of the CDI specification; `unusual` says where a name is beyond that text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
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

MAX_NAMES: Final = 1000
"""How many devices one container may request; no container has so many."""

MAX_LENGTH: Final = 1024
"""How many characters the name of a device may have that a container requests."""


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
