"""The annotation `mounts`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.text.fields import (
    Fault,
    Field,
    list_of,
    map_of,
    read_short_line,
)
from nri_inject.text.paths import clean
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:  # loaded when a pod requests a device by a selector
    pass

from nri_inject.injectors.device.wish import Wish, check_absolute, constant, container_path, unique

# --- mounts -------------------------------------------------------------------------------------

_BIND_OPTIONS: Final = frozenset({"bind", "rbind"})


def _option(value: Value) -> str:
    option = read_short_line(value)
    if not option:
        raise Fault("an option is empty")
    if option.split() != [option]:
        # The form in the reference's documentation, one option per line without dashes, is one
        # text to YAML, and no mount option.
        raise Fault(f"{quoted(option)} contains white space; an option must not")
    if "," in option:
        raise Fault(f"{quoted(option)} contains a comma; list each option as a separate item")
    if not {*'"\\'}.isdisjoint(option):
        # The kernel would look for the end of the option elsewhere than the policy does.
        raise Fault(f"{quoted(option)} contains a quote or a backslash; an option must not")
    return option


_MOUNT: Final = map_of(
    (
        Field("source", read_short_line),
        Field("destination", container_path, required=True),
        Field("type", read_short_line),
        Field("options", list_of(_option)),
    )
)


def _mount(value: Value) -> tuple[str, object, api.Mount]:
    mount = api.Mount(**_MOUNT(value))
    if ".." in mount.source.split("/"):
        raise Fault(f"source: {quoted(mount.source)} contains '..'; name the path without it")
    if mount.type == "bind" or not _BIND_OPTIONS.isdisjoint(mount.options):
        if not mount.source:
            raise Fault("source is missing; a bind mount must have one")
        try:
            check_absolute(mount.source)
        except Fault as fault:
            raise Fault(*fault.at("source")) from fault
    destination = clean(mount.destination)
    meaning = (mount.source, mount.type, tuple(mount.options))
    return destination, meaning, mount


def read_mounts(value: Value) -> Wish | None:
    """Read a list of mounts; None of an empty one. Raises Fault."""
    mounts = unique(list_of(_mount)(value))
    return partial(constant, Adjustment(mounts=mounts)) if mounts else None
