"""The bytes of a plugin's connections, written down so that they can be played again.

A recording is a text file of JSON lines, one for each piece of bytes as it was read or handed out:

    {"seconds": 0.004217, "from": "runtime", "bytes": "AAAAAgAAAAoAAAAAAAAAAQIA"}

- `seconds` since the first record, by a clock that never goes back; never less than the line before
- `from` is who sends: `runtime` or `plugin`
- `bytes` in base64 (RFC 4648, section 4), cut wherever the connection happened to cut them

No bytes (`""`) mean that `from` closed the connection; each connection has one such record at its
end, and the next record begins another connection. A file that stops before was cut off. Keys that
are not known are to be ignored, so that more may be told one day.

What stands in a recording is all that the runtime told: the environment of containers, too.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, NamedTuple

from nri_inject.errors import ProtocolError
from nri_inject.wire.session import Role


class Record(NamedTuple):
    """A piece of a connection's bytes: when, who sent it, and the bytes, none at the end."""

    seconds: float
    sender: Role
    data: bytes


def encode(record: Record) -> str:
    """Return the record's line, without a line feed."""
    return json.dumps(
        {
            "seconds": round(record.seconds, 6),
            "from": record.sender.value,
            "bytes": base64.b64encode(record.data).decode(),
        }
    )


def decode(line: str | bytes) -> Record:
    """Return the record that a line is; ProtocolError says what is wrong with one that is none."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"recording: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ProtocolError("recording: an object with seconds, from, bytes expected")
    return Record(
        _seconds(fields.get("seconds")), _sender(fields.get("from")), _bytes(fields.get("bytes"))
    )


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ProtocolError(f"recording: seconds: {value!r} is not a number from 0 on")
    return float(value)


def _sender(value: Any) -> Role:
    try:
        return Role(value)
    except ValueError:
        raise ProtocolError(f"recording: from: {value!r} is neither runtime nor plugin") from None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ProtocolError(f"recording: bytes: {value!r} is not base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError(f"recording: bytes: not base64: {error}") from error
