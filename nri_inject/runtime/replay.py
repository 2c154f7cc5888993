"""A recorded session played to a plugin again, and what it answers otherwise now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from nri_inject.api import ContainerUpdate, UpdateContainersRequest
from nri_inject.errors import ConnectionLost, RemoteError
from nri_inject.runtime.peer import Peer
from nri_inject.text.words import excerpt
from nri_inject.wire.recording import Exchange
from nri_inject.wire.session import Role

_MAX_ANSWER = 400  # characters of a message in a sentence


def replay(peer: Peer, recorded: Iterable[Exchange]) -> list[str]:
    """Let a plugin register, send it the recorded calls, and return a sentence for each difference.

    Updates that it requests by itself are answered as made, and compared as one list in the end,
    since their time is not defined. No call follows after a plugin has ended.
    """
    recorded = list(recorded)
    asked: list[ContainerUpdate] = []

    def take(updates: list[ContainerUpdate]) -> list[ContainerUpdate]:
        asked.extend(updates)
        return []

    peer.update = take
    differences: list[str] = []
    try:
        peer.register()
        for number, exchange in enumerate(recorded, 1):
            if exchange.caller is Role.RUNTIME:
                answered = _ask(peer, exchange)
                differences.extend(_difference(f"{number}. {_title(exchange)}", exchange, answered))
    except ConnectionLost as error:
        return [*differences, str(error)]
    return [*differences, *_difference_of_updates(recorded, asked)]


def _ask(peer: Peer, exchange: Exchange) -> Message | tuple[int, str]:
    response_type = type(exchange.response) if exchange.response is not None else Message
    try:
        return peer.request(exchange.method, exchange.request, response_type)
    except RemoteError as error:
        return error.code, error.message


def _difference(
    title: str, exchange: Exchange, answered: Message | tuple[int, str]
) -> Iterable[str]:
    expected = exchange.status or exchange.response
    if expected is not None and answered != expected:
        yield f"{title}: answered {_said(answered)}, recorded is {_said(expected)}"


def _difference_of_updates(
    recorded: Iterable[Exchange], asked: list[ContainerUpdate]
) -> Iterable[str]:
    expected = [
        update
        for exchange in recorded
        if isinstance(exchange.request, UpdateContainersRequest)
        for update in exchange.request.update
    ]
    if asked != expected:
        said, was = (_said(UpdateContainersRequest(update=each)) for each in (asked, expected))
        yield f"updates of its own: requested {said}, recorded is {was}"


def _title(exchange: Exchange) -> str:
    """Name a call by its method, and by the pod and container that it is about."""
    request: Any = exchange.request
    fields = request.DESCRIPTOR.fields_by_name
    names = [getattr(request, field).name for field in ("pod", "container") if field in fields]
    return " ".join(filter(None, (exchange.method, *names)))


def _said(answer: Message | tuple[int, str]) -> str:
    if isinstance(answer, tuple):
        return f"status {answer[0]} {json.dumps(answer[1])}"
    text = json.dumps(json_format.MessageToDict(answer), sort_keys=True)
    return excerpt(text, _MAX_ANSWER)
