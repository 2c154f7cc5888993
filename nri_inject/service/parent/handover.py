"""The state that a process leaves to the version that takes its place, in an anonymous file.

The environment has the number of the file's descriptor. A version that is only tried gets the
same state without the connections.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nri_inject.errors import NriError, ProtocolError
from nri_inject.service.parent.relay import Relay
from nri_inject.version import VERSION

VARIABLE: Final = "NRI_INJECT_HANDOVER"
"""The environment's name for the number of the descriptor."""

TRIAL: Final = "NRI_INJECT_TRIAL"
"""The same of a version that is only tried."""

STATE_VERSION: Final = 1
"""The version of the state. Raise it with each change of what the state, a relay, a life or a note
of a service has in it: a version of the program takes over from those with the same number."""

MAX_STATE: Final = 64 << 20
"""How many bytes a state may have; the notes of a service take at most 16 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Handover:
    """What a process leaves.

    `relays` are the conversations of its connections, none while it has no runtime, and
    `descriptors` are the connections. `since` is when it stopped reading them, in seconds of
    time.monotonic. `children` are processes that it has not waited for, `failures` counts the
    workers that died or hung, and `life` is what workers share. `program` is its version.
    """

    since: float
    relays: Sequence[Mapping[str, Any]] = ()
    descriptors: Sequence[int] = ()
    children: Sequence[int] = ()
    failures: int = 0
    has_served: bool = False
    is_launched: bool = False
    life: Mapping[str, Any]
    program: str = VERSION

    def restored(self, title: str) -> list[Relay]:
        """Return the relays; NriError if one cannot be read."""
        try:
            return [Relay.restored(title, saved) for saved in self.relays]
        except (KeyError, TypeError, ValueError, ProtocolError) as error:
            raise _unreadable(self.program, error) from error


def write(handover: Handover) -> int:
    """Return a new descriptor of the state, which programs inherit that this one starts."""
    members = {name: getattr(handover, name) for name in Handover.__slots__}
    data = json.dumps({"state": STATE_VERSION, **members}).encode()
    descriptor = os.memfd_create("nri-inject-handover", 0)
    position = 0
    while position < len(data):
        position += os.pwrite(descriptor, data[position:], position)
    return descriptor


def read(environ: MutableMapping[str, str]) -> Handover | None:
    """Return the state that a process has left to this one, None if there is none.

    The variable is removed and the file is closed. Raises NriError for a state that cannot be used.
    """
    text = environ.pop(VARIABLE, "") or environ.pop(TRIAL, "")
    if not text:
        return None
    try:
        with os.fdopen(int(text), "rb") as file:
            file.seek(0)
            document = json.loads(file.read(MAX_STATE))
        state, program = document.pop("state"), str(document["program"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable("another version", error) from error
    if state != STATE_VERSION:
        raise NriError(
            f"version {VERSION} cannot take over from version {program}: it reads state"
            f" {STATE_VERSION}, and that version writes state {state}"
        )
    try:
        return Handover(**document)
    except TypeError as error:
        raise _unreadable(program, error) from error


def _unreadable(program: str, error: Exception) -> NriError:
    return NriError(f"version {VERSION} cannot read the state of {program}: {error}")
