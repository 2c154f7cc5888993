"""Hypothesis strategies: for bytes that a peer might send, and for adjustments."""

from __future__ import annotations

import struct
from collections.abc import MutableMapping, MutableSequence
from itertools import pairwise
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from nri_inject import api
from nri_inject._pb import ttrpc_pb2
from nri_inject.wire import Role

NAMES = {1: "Plugin", 2: "Runtime"}
SERVICES = {channel: api.DESCRIPTOR.services_by_name[name] for channel, name in NAMES.items()}

# Lengths where something changes: a header, Go's first read, 4 MiB with and without headers.
EDGES = (0, 1, 7, 8, 9, 10, 4095, 4096, 4097, 4194304, 4194305, 4194314, 4194315, 0xFFFFFFFF)


def serialized(message: Message) -> bytes:
    """Return a message's bytes."""
    return message.SerializeToString()


uint32 = st.one_of(st.sampled_from(EDGES), st.integers(0, 0xFFFFFFFF))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

containers = st.builds(
    api.Container,
    id=words,
    name=words,
    args=st.lists(words, max_size=3),
    annotations=st.dictionaries(words, words, max_size=3),
)
pods = st.builds(api.Pod, id=words, name=words, labels=st.dictionaries(words, words, max_size=3))
updates = st.lists(st.builds(api.ContainerUpdate, container_id=words), max_size=3)
FILLED: dict[str, st.SearchStrategy[object]] = {
    "pod": pods,
    "container": containers,
    "pods": st.lists(pods, max_size=2),
    "update": updates,
    "failed": updates,
    "more": st.booleans(),
    "config": words,
    "plugin_name": words,
    "reason": words,
    "event": st.integers(0, 20),
    "events": st.integers(-(1 << 31), (1 << 31) - 1),
}


def filled(descriptor: Descriptor) -> st.SearchStrategy[bytes]:
    """Return messages of that type as bytes, with the fields filled that we have values for."""
    fields = {field.name: FILLED[field.name] for field in descriptor.fields if field.name in FILLED}
    return st.builds(GetMessageClass(descriptor), **fields).map(serialized)


METHODS = {
    (channel, method.name): (filled(method.input_type), filled(method.output_type))
    for channel, service in SERVICES.items()
    for method in service.methods
}
garbage = st.binary(max_size=40)


@st.composite
def requests(draw: st.DrawFn, channel: int) -> bytes:
    """Return the data of a request, mostly one that can be served on that channel."""
    _, method = draw(st.sampled_from([key for key in METHODS if key[0] == channel]))
    payload = draw(st.one_of(METHODS[channel, method][0], garbage))
    odd = draw(st.integers(0, 9))
    request = ttrpc_pb2.Request(
        service=draw(words) if odd == 0 else SERVICES[channel].full_name,
        method=draw(words) if odd == 1 else method,
        payload=payload,
        timeout_nano=draw(st.integers(-(1 << 63), (1 << 63) - 1)) if odd == 2 else odd,
        metadata=draw(st.lists(st.builds(ttrpc_pb2.KeyValue, key=words, value=words), max_size=2)),
    )
    return request.SerializeToString()


@st.composite
def responses(draw: st.DrawFn, channel: int) -> bytes:
    """Return the data of a response, often one that somebody waits for on that channel."""
    _, method = draw(st.sampled_from([key for key in METHODS if key[0] == channel]))
    response = ttrpc_pb2.Response(payload=draw(st.one_of(METHODS[channel, method][1], garbage)))
    if draw(st.booleans()):
        response.status.code = draw(st.integers(-1, 20))
        response.status.message = draw(words)
    return response.SerializeToString()


def ttrpc_message(stream: int, kind: int, flags: int, body: bytes) -> bytes:
    """Return one ttrpc message."""
    return struct.pack(">IIBB", len(body), stream, kind, flags) + body


def mux_frame(channel: int, payload: bytes) -> bytes:
    """Return one frame of the multiplexer."""
    return struct.pack(">II", channel, len(payload)) + payload


@st.composite
def messages(draw: st.DrawFn, channel: int) -> bytes:
    """Return some messages of one channel, most of them with streams as they should be."""
    whole, stream = b"", 1
    for _ in range(draw(st.integers(0, 6))):
        match draw(st.integers(0, 9)):
            case 0 | 1 | 2 | 3 | 4:
                whole += ttrpc_message(stream, 1, 0, draw(requests(channel)))
                stream += draw(st.sampled_from([2, 2, 2, 4, 0, 1]))
            case 5 | 6 | 7:
                waited_for = 2 * draw(st.integers(0, 12)) + 1
                whole += ttrpc_message(waited_for, 2, 0, draw(responses(channel)))
            case 8:
                body = draw(st.one_of(garbage, requests(channel), responses(channel)))
                numbers = draw(st.tuples(uint32, st.integers(0, 255), st.integers(0, 255)))
                whole += ttrpc_message(*numbers, body)
            case _:
                whole += ttrpc_message(stream, 1, 0, bytes(draw(st.sampled_from(EDGES[5:9]))))
                stream += 2
    return whole


@st.composite
def parts(draw: st.DrawFn, whole: bytes) -> list[bytes]:
    """Return `whole` in parts, none of them empty."""
    count = draw(st.integers(0, 8))
    places = st.integers(0, len(whole))
    marks = sorted({0, len(whole), *draw(st.lists(places, min_size=count, max_size=count))})
    return [whole[start:end] for start, end in pairwise(marks)]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Return frames that keep the multiplexer's rules, whatever they hold.

    The messages of both channels are cut anywhere, and the frames are mixed with each other,
    with empty ones and with those of channels that nobody opened.
    """
    frames = []
    for channel in (1, 2):
        pieces = draw(parts(draw(messages(channel))))
        frames.append([mux_frame(channel, piece) for piece in pieces])
    noise = st.builds(mux_frame, st.sampled_from([0, 3, 7, 0xFFFFFFFF]), st.binary(max_size=20))
    empty = st.builds(mux_frame, st.integers(0, 3), st.just(b""))
    frames.append(draw(st.lists(st.one_of(noise, empty), max_size=3)))
    mixed = []
    while any(frames):
        queue = draw(st.sampled_from([queue for queue in frames if queue]))
        mixed.append(queue.pop(0))
    return b"".join(mixed)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return such frames with bytes overwritten, inserted or cut out."""
    whole = bytearray(draw(streams()))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(whole)))
        length = draw(st.integers(0, 12))
        whole[place : place + length] = draw(st.one_of(st.binary(max_size=12), uint32.map(big)))
    return bytes(whole)


def big(number: int) -> bytes:
    """Return a number as both layers write it."""
    return struct.pack(">I", number)


roles = st.sampled_from(Role)


# --- adjustments --------------------------------------------------------------------------------

# Few, so that what several adjustments ask for is often about one thing, and often equal.
FEW: dict[type, st.SearchStrategy[object]] = {
    bool: st.booleans(),
    int: st.integers(0, 2),
    str: st.sampled_from(["", "a", "b"]),
}


@st.composite
def adjustments(draw: st.DrawFn) -> api.Adjustment:
    """Return an adjustment with some fields of any kind, also messages with nothing in them."""
    adjustment = api.Adjustment()
    fill(draw, adjustment)
    return adjustment


def fill(draw: st.DrawFn, message: Any) -> None:
    """Put something into some fields of an empty message."""
    fields = st.sampled_from(list(message.DESCRIPTOR.fields))
    for field in draw(st.lists(fields, max_size=3, unique=True)):
        value = getattr(message, field.name)
        if isinstance(value, Message):
            value.SetInParent()
            fill(draw, value)
        elif isinstance(value, MutableMapping):
            fill_map(draw, value)
        elif hasattr(value, "add"):
            for _ in range(draw(st.integers(1, 2))):
                fill(draw, value.add())
        elif isinstance(value, MutableSequence):
            value.extend(draw(st.lists(FEW[str if field.enum_type is None else int], max_size=2)))
        else:
            setattr(message, field.name, draw(FEW[type(value)]))


def fill_map(draw: st.DrawFn, target: Any) -> None:
    """Put something under some keys of an empty map."""
    for key in draw(st.lists(FEW[str], max_size=2)):
        if hasattr(target, "get_or_create"):  # of messages
            fill(draw, target.get_or_create(key))
        else:
            target[key] = draw(FEW[str])
