"""Which request some bytes are, and which pod and container it is about.

The parent must outlive what has just ended a worker, so none of protobuf's parsers sees the bytes:
a few fields are picked out by number, and whatever is odd about them is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.message import Message

from nri_inject._pb import ttrpc_pb2
from nri_inject.api import Container, Event, Pod, StateChangeEvent, SynchronizeResponse
from nri_inject.text.annotations import where
from nri_inject.text.words import plain
from nri_inject.wire.fields import walk

Fields = Mapping[str, int | bytes]


class MethodCall(NamedTuple):
    """A method of the service Plugin, and its payload."""

    method: str
    payload: bytes


def request_of(data: bytes) -> MethodCall:
    """Return the method and the payload of a request's data."""
    fields = _fields(data, ttrpc_pb2.Request)
    return MethodCall(_text(fields.get("method")), _bytes(fields.get("payload")))


def number_in(payload: bytes, kind: type[Message], name: str) -> int:
    """Return a field that is a number, 0 where it is not there."""
    value = _fields(payload, kind).get(name, 0)
    return value if isinstance(value, int) else 0


def is_error(data: bytes) -> bool:
    """Tell whether the data of a response has a status that is not OK."""
    status = _bytes(_fields(data, ttrpc_pb2.Response).get("status"))
    return number_in(status, ttrpc_pb2.Status, "code") != 0


def expects_more(data: bytes) -> bool:
    """Tell whether a response to Synchronize wants the next part of what exists."""
    payload = _bytes(_fields(data, ttrpc_pb2.Response).get("payload"))
    return number_in(payload, SynchronizeResponse, "more") != 0


def event_of(request: MethodCall) -> str:
    """Return the event as the fields of Plugin are called, such as `create_container`."""
    if request.method == "StateChange":
        number = number_in(request.payload, StateChangeEvent, "event")
        return Event.Name(number).lower() if number in Event.values() else ""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", request.method).lower()


def subject_of(request: MethodCall) -> str:
    """Name the pod or the container that a request is about; empty where it names neither."""
    pod_field, container_field = (2, 3) if request.method == "StateChange" else (1, 2)
    parts = dict(walk(request.payload[:_MAX_READ]))
    pod = _fields(_bytes(parts.get(pod_field)), Pod)
    container = _fields(_bytes(parts.get(container_field)), Container)
    namespace, name = _text(pod.get("namespace")), _text(pod.get("name"))
    if not name or request.method in _NAMELESS:
        return ""
    if own_name := _text(container.get("name")):
        return where(Pod(namespace=namespace, name=name), Container(name=own_name))
    return f"pod {plain(namespace)}/{plain(name)}"


_NAMELESS: Final = frozenset({"Configure", "Synchronize"})
_MAX_READ: Final = 4 << 20
_MAX_TEXT: Final = 512


def _fields(data: bytes, kind: type[Message]) -> Fields:
    names = {field.number: field.name for field in kind.DESCRIPTOR.fields}
    return {names[number]: value for number, value in walk(data) if number in names}


def _bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def _text(value: int | bytes | None) -> str:
    return _bytes(value)[:_MAX_TEXT].decode("utf-8", "replace")
