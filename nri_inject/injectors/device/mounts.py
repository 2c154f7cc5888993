"""The annotation `mounts`."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from nri_inject import api
from nri_inject.api import Adjustment
from nri_inject.injectors.device.wish import Wish, check_absolute, constant, container_path, unique
from nri_inject.text.fields import (
    MAX_FAULTS,
    Fault,
    Field,
    described,
    list_of,
    map_of,
    read_short_line,
)
from nri_inject.text.flow import advice
from nri_inject.text.names import mount_option_fault
from nri_inject.text.paths import clean
from nri_inject.text.words import quoted
from nri_inject.text.yamltext import Value

# --- mounts -------------------------------------------------------------------------------------

_BIND_OPTIONS: Final = frozenset({"bind", "rbind"})


def _option(value: Value) -> str:
    option = read_short_line(value)
    if not option:
        raise Fault("an option is empty")
    # The form in the reference's documentation, one option per line without dashes, is one text to
    # YAML, and no mount option.
    if why := mount_option_fault(option):
        raise Fault(f"{quoted(option)} {why}")
    return option


_MOUNT: Final = map_of(
    (
        Field("source", read_short_line),
        Field("destination", container_path, required=True),
        Field("type", read_short_line),
        Field("options", list_of(_option)),
    )
)


# docker's -v SOURCE:DESTINATION[:OPTIONS], and the keys of Compose and Kubernetes.
_VOLUME: Final = re.compile(
    r"(?:(?:-v|--volume)[= ])?(/[^:]*):(/[^:]*)(?::([a-z,]+))?", re.IGNORECASE
)
_WORDS: Final = {
    **dict.fromkeys(("hostpath", "src", "host", "from"), "source"),
    **dict.fromkeys(("target", "mountpath", "containerpath", "dst", "to"), "destination"),
    **dict.fromkeys(("readonly", "ro"), "ro"),
}


def _meant(value: Value) -> dict[str, object] | None:
    """Return the item that another tool's spelling of a mount means, None for one of ours."""
    if isinstance(value, str):
        match = _VOLUME.fullmatch(value)
        if match is None:
            return None
        is_read_only = "ro" in (match[3] or "").lower().split(",")
        return _bind(match[1], match[2], read_only=is_read_only)
    if not isinstance(value, dict) or len(value) > MAX_FAULTS:
        return None
    words = {key: _WORDS.get(key.lower().replace("_", ""), key) for key in value}
    renamed = {words[key]: item for key, item in value.items()}
    source, destination = renamed.get("source"), renamed.get("destination")
    is_ours = all(key == word for key, word in words.items())
    if is_ours or not renamed.keys() <= {"source", "destination", "ro", "type", "name"}:
        return None
    if not isinstance(source, str) or not isinstance(destination, str):
        return None
    return _bind(source, destination, read_only=bool(renamed.get("ro")))


def _bind(source: str, destination: str, *, read_only: bool) -> dict[str, object]:
    options = ["rbind", "ro" if read_only else "rw"]
    return {"source": source, "destination": destination, "type": "bind", "options": options}


def _mount(value: Value) -> tuple[str, object, api.Mount]:
    if (meant := _meant(value)) is not None:
        raise Fault(f"{described(value)} is how other tools write a mount; write {advice(meant)}")
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
    if isinstance(value, str | dict):
        meant = _meant(value) or (value if isinstance(value, dict) else None)
        hint = f"; write {advice([meant])}" if meant else ""
        raise Fault(f"{described(value)} is not a list{hint}")
    mounts = unique(list_of(_mount)(value))
    return partial(constant, Adjustment(mounts=mounts)) if mounts else None
