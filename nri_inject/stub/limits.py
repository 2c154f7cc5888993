"""The bounds of a stub: how long it waits, and how much it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Times are in seconds."""

    connect_timeout: float = 2.0
    """How long one attempt to connect may take, since the backlog of a listener may be full."""

    first_pause: float = 0.05
    """The first pause between two attempts to connect; each further pause is doubled."""

    max_pause: float = 30.0
    """The longest pause between two attempts to connect."""

    handshake_timeout: float = 120.0
    """How long a runtime may take to configure and to synchronize the plugin. A runtime accepts
    connections one after the other, and each silent one before ours takes 5 s of its time."""

    drain_timeout: float = 2.0
    """How long the last response may take to be sent after a stop: a runtime's own deadline."""

    max_sync_objects: int = 100_000
    """How many pods and containers a runtime may report in all parts of a Synchronize. A node has
    some hundreds; a report without an end must not fill its memory."""

    max_sync_bytes: int = 64 << 20
    """How many bytes of them are kept for a plugin that has no `synchronize_part`."""


DEFAULT_LIMITS: Final = Limits()
