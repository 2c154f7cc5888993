"""Patterns of a policy that match nothing that can exist: each is a fault of the policy. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from nri_inject.policy.entries import read_pattern
from nri_inject.text.fields import Fault, Reader
from nri_inject.text.glob import Pattern
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

_WILD: Final = re.compile(r"\*+|\?|\[[^\]]*\]")


def _fixed(pattern: Pattern) -> str:
    """Return the characters of a pattern that stand for themselves."""
    return _WILD.sub("", pattern.text)


def check_namespace(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no namespace of Kubernetes can match."""
    _check_label(pattern, "a namespace")


def check_container(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no name of a container can match."""
    name = pattern.text.removeprefix("container.")
    if name != pattern.text:
        raise Fault(f"{quoted(pattern.text)} is the end of an annotation's key; write {name}")
    _check_label(pattern, "a container")


def check_handler(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no runtime handler can match."""
    _check_label(pattern, "a runtime handler")


def check_pod(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no name of a pod can match."""
    _check_label(pattern, "a pod")


def check_image(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no name of an image can match."""
    odd = sorted({*re.sub(r"[\w.:@/-]", "", _fixed(pattern))})
    if odd:
        raise Fault(
            f"{quoted(pattern.text)} matches nothing: the name of an image has no {odd[0]!r}"
        )


def _check_label(pattern: Pattern, what: str) -> None:
    odd = sorted({*re.sub(r"[\w.-]", "", _fixed(pattern))})
    if odd:
        raise Fault(f"{quoted(pattern.text)} matches nothing: the name of {what} has no {odd[0]!r}")
    fixed = _fixed(pattern)
    if fixed != fixed.lower():
        raise Fault(
            f"{quoted(pattern.text)} matches nothing: the name of {what} has small letters;"
            f" write {pattern.text.lower()}"
        )


def check_plugin(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no plugin's name, NN-name, can match."""
    first = _WILD.split(pattern.text)[0]
    if not re.match(r"[0-9]{2}-|[0-9]{0,2}$", first):
        raise Fault(
            f"{quoted(pattern.text)} matches nothing: a plugin is called NN-name;"
            f" write '*-{pattern.text}'"
        )


# HOST:CONTAINER or HOST:LETTERS of docker; in a by-path link neither follows a colon.
_DOCKER: Final = re.compile(r"(/[^:]+):(?:/.*|[rwm]{1,3})")
_CDI: Final = re.compile(r"[\w*?-]+(?:\.[\w*?-]+)*/[\w.*?-]+=[\w.:*?-]+")


def check_device(text: str) -> None:
    """Raise Fault for a text that is no path of a device, but means another thing."""
    if match := _DOCKER.fullmatch(text):
        raise Fault(f"{quoted(text)} is how docker writes a device; write {match[1]}")
    if _CDI.fullmatch(text):
        raise Fault(f"{quoted(text)} is the name of a CDI device; write it under cdi_devices")
    if text.startswith("/") and text.endswith("/") and len(text) > 1:
        raise Fault(f"{quoted(text)} matches nothing: a device is no directory; write {text}*")


def check_cdi_name(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no qualified name of a CDI device can match."""
    text = pattern.text
    if text.startswith("/"):
        raise Fault(f"{quoted(text)} is a path; write it under devices")
    if "**" in text or "[" in text:
        return
    vendor, slash, rest = text.partition("/")
    if not slash:
        meant = "'*/*=*'" if "*" in text else "vendor.com/class=name"
        raise Fault(f"{quoted(text)} matches nothing: a name is vendor/class=device; write {meant}")
    if "=" not in rest and "*" not in rest and "?" not in rest:
        raise Fault(f"{quoted(text)} matches nothing: it is a kind; write '{vendor}/{rest}=*'")
    if "/" in rest:
        raise Fault(f"{quoted(text)} matches nothing: a name has one slash")


def check_interface(pattern: Pattern) -> None:
    """Raise Fault for a pattern that no network interface of Linux can match."""
    fixed = _fixed(pattern)
    if "/" in fixed or len(fixed) > _MAX_INTERFACE:
        why = "no slash" if "/" in fixed else f"at most {_MAX_INTERFACE} bytes"
        raise Fault(f"{quoted(pattern.text)} matches nothing: an interface's name has {why}")


_MAX_INTERFACE: Final = 15


def checked(check: Callable[[Pattern], None]) -> Reader[Pattern]:
    """Return a reader of a pattern; `check` refuses one that can match nothing."""

    def read(value: Value) -> Pattern:
        found = read_pattern(value)
        check(found)
        return found

    return read
