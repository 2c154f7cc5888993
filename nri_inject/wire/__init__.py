"""The protocol from bytes to calls: multiplexer, ttrpc, session. Nothing in here waits.

A `Session` is all that a driver needs; docs/driving-a-session.md shows one.
"""

from nri_inject.wire.session import Answer, Call, Failure, Role, Session

__all__ = ["Answer", "Call", "Failure", "Role", "Session"]
