"""One connection between a runtime and workers that may die: bytes in, bytes out. Pure.

A request is kept until its answer is there whole. The next worker is told what the runtime has
told so far, and then the requests that wait; the runtime notices nothing of it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from nri_inject._pb import ttrpc_pb2
from nri_inject.api import ConfigureRequest
from nri_inject.plugin import tells_only
from nri_inject.service.parent.messages import Splitter, WholeMessage, message
from nri_inject.service.parent.naming import (
    event_of,
    expects_more,
    is_error,
    number_in,
    request_of,
    subject_of,
)
from nri_inject.wire.mux import PLUGIN_CHANNEL, RUNTIME_CHANNEL
from nri_inject.wire.ttrpc import Code, MessageType

REQUEST_TIMEOUT: Final = 2.0
"""How long a runtime waits for an answer unless it says otherwise, in seconds (NRI 0.12)."""

PATIENCE: Final = 0.75
"""The part of that time in which a worker must answer before another one gets the request."""

LIMIT: Final = 0.925
"""The part of that time after which the parent itself answers with an error."""

MAX_TRIES: Final = 2
"""How many workers may fail on one request."""

MAX_STARTS: Final = 5
"""How many workers may die before they have caught up, which is no fault of the request's."""

MAX_PENDING: Final = 1024
"""How many requests may wait for their answers. A runtime has one at a time, or a few if its own
deadline has passed for some."""

MAX_BYTES: Final = 64 << 20
"""How many bytes of requests may wait."""

MAX_HISTORY: Final = 8 << 20
"""How many bytes of a Synchronize are kept until its last part is answered: some thousands of
containers. If a worker dies during a longer one, the connection ends."""

_MAX_BEGIN: Final = 128  # the headers, and the names of service and method

_PLUGIN_SERVICE: Final = "nri.pkg.api.v1alpha1.Plugin"
_NOTHING_EXISTS: Final = ttrpc_pb2.Request(
    service=_PLUGIN_SERVICE, method="Synchronize"
).SerializeToString()


@dataclass(slots=True)
class WaitingRequest:
    """A request that has no answer yet, and how workers have failed on it."""

    whole: WholeMessage
    arrived: float
    failures: list[str] = field(default_factory=list)
    failed_starts: int = 0


class Relay:
    """Move whole messages between a runtime and the worker of the moment.

    A driver passes bytes in, and sends what is in `for_runtime` and `for_worker`. Times are seconds
    of one clock. After a ProtocolError from `from_runtime` the connection is of no further use, and
    after one from `from_worker` the worker. `timeout` is how long the runtime waits for an answer.
    """

    def __init__(self, title: str) -> None:
        self.for_runtime: deque[bytes | memoryview] = deque()
        self.for_worker: deque[bytes | memoryview] = deque()
        self.timeout = REQUEST_TIMEOUT
        self.configured = False
        self.synchronized = False
        self.lost = False
        self._title = title
        self._runtime = Splitter()
        self._pending: dict[int, WaitingRequest] = {}
        self._pending_bytes = 0
        self._history: list[WholeMessage] = []
        self._history_bytes = 0
        self._handshake: dict[int, str] = {}
        self._registration: WholeMessage | None = None
        self._configured_as = b""
        self._next_stream = 1
        self._calls: dict[int, int] = {}
        self._registered_as = 0
        self._replayed: set[int] = set()
        self._forget_worker()

    @property
    def waits(self) -> bool:
        """Whether a request waits for its answer."""
        return bool(self._pending)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waits for either side, and the runtime is not within a message."""
        return not self._pending and not self.for_runtime and self._runtime.is_idle

    @property
    def is_registered(self) -> bool:
        """Whether the worker of the moment has registered."""
        return self._registered_as > 0

    @property
    def is_serving(self) -> bool:
        """Whether the worker of the moment has caught up with what the runtime has told."""
        return self._has_worker and not self._replayed

    # --- another process --------------------------------------------------------------------------

    def saved(self) -> dict[str, Any]:
        """Return the conversation so far for a relay in another process, as values of JSON.

        Requests that wait are not in it: save a relay that is quiet.
        """
        messages = [] if self._registration is None else [self._registration]
        return {
            "configured": self.configured,
            "synchronized": self.synchronized,
            "timeout": self.timeout,
            "next_stream": self._next_stream,
            "configured_as": _as_text(self._configured_as),
            "registration": [_as_text(one.frames or b"") for one in messages],
            "history": [_as_text(one.frames or b"") for one in self._history],
        }

    @classmethod
    def restored(cls, title: str, saved: Mapping[str, Any]) -> Self:
        """Return a relay that goes on where another one was saved.

        Raises KeyError, TypeError, ValueError or ProtocolError for anything else.
        """
        relay = cls(title)
        relay.configured = bool(saved["configured"])
        relay.synchronized = bool(saved["synchronized"])
        relay.timeout = float(saved["timeout"])
        relay._next_stream = int(saved["next_stream"])
        relay._configured_as = b64decode(saved["configured_as"], validate=True)
        relay._registration = next(iter(_messages(saved["registration"])), None)
        relay._history = _messages(saved["history"])
        return relay

    @property
    def configuration(self) -> tuple[bytes, bytes]:
        """The data of the request Configure and of the answer to it; empty before that."""
        if not (self.configured and self._history):
            return b"", b""
        return self._history[0].data, self._configured_as

    # --- the runtime's bytes ----------------------------------------------------------------------

    def from_runtime(self, data: bytes, now: float) -> None:
        """Take bytes of the runtime's."""
        for whole in self._runtime.receive(data):
            if whole.channel == PLUGIN_CHANNEL and whole.kind == MessageType.REQUEST:
                self._requested(whole, now)
            elif whole.channel == RUNTIME_CHANNEL and whole.kind == MessageType.RESPONSE:
                self._runtime_answered(whole)

    def _requested(self, whole: WholeMessage, now: float) -> None:
        if whole.frames is None:
            self._refuse(whole.stream, "the request is longer than a message may be")
            return
        size = len(whole.frames)
        if len(self._pending) >= MAX_PENDING or self._pending_bytes + size > MAX_BYTES:
            self._refuse(whole.stream, f"plugin {self._title} has too many requests to answer")
            return
        if not self.synchronized and _may_be_handshake(whole.frames):
            self._remember(whole)
        self._pending[whole.stream] = WaitingRequest(whole, now)
        self._pending_bytes += size
        if self._has_worker:
            self.for_worker.append(whole.frames)

    def _remember(self, whole: WholeMessage) -> None:
        """Keep what a worker needs before it can serve: Configure, and Synchronize to its end."""
        request = request_of(whole.data)
        if request.method == "Configure":
            milliseconds = number_in(request.payload, ConfigureRequest, "request_timeout")
            self.timeout = milliseconds / 1000 or REQUEST_TIMEOUT
            self._history = [whole]
        elif request.method == "Synchronize":
            self._history.append(whole)
            self._history_bytes += len(whole.frames or b"")
            if self._history_bytes > MAX_HISTORY:
                del self._history[1:]
        else:
            return
        self._handshake[whole.stream] = request.method

    def _runtime_answered(self, whole: WholeMessage) -> None:
        if whole.frames is None:
            return
        if self._registration is None:  # the first answer of a runtime is that to RegisterPlugin
            self._registration = whole
            stream = self._registered_as
        else:
            stream = self._calls.pop(whole.stream, 0)
        if stream:
            self.for_worker.append(whole.numbered(stream))

    # --- the worker's bytes -----------------------------------------------------------------------

    def from_worker(self, data: bytes, now: float) -> None:
        """Take bytes of the worker's."""
        for whole in self._worker.receive(data):
            if whole.channel == PLUGIN_CHANNEL and whole.kind == MessageType.RESPONSE:
                self._answered(whole, now)
            elif whole.channel == RUNTIME_CHANNEL and whole.kind == MessageType.REQUEST:
                self._called(whole)

    def _answered(self, whole: WholeMessage, now: float) -> None:
        self._replayed.discard(whole.stream)
        pending = self._pending.pop(whole.stream, None)
        if pending is None or whole.frames is None:
            return
        self._pending_bytes -= len(pending.whole.frames or b"")
        self._since = now
        if method := self._handshake.pop(whole.stream, ""):
            self._note_progress(method, whole)
        self.for_runtime.append(whole.frames)

    def _note_progress(self, method: str, answer: WholeMessage) -> None:
        """Follow the handshake: from now on Configure is told again, or that nothing exists."""
        if is_error(answer.data):
            return
        if method == "Configure":
            self.configured = True
            self._configured_as = answer.data
        elif not expects_more(answer.data):
            self.synchronized = True
            nothing = message(PLUGIN_CHANNEL, answer.stream, MessageType.REQUEST, _NOTHING_EXISTS)
            self._history = [*self._history[:1], nothing]
            self._history_bytes = 0

    def _called(self, whole: WholeMessage) -> None:
        """Pass a call of the worker's on; the registration only once."""
        if whole.frames is None:
            return
        if not self._registered_as:
            self._registered_as = whole.stream
            if self._next_stream > 1:
                if self._registration is not None:
                    self.for_worker.append(self._registration.numbered(whole.stream))
                return
        else:
            self._calls[self._next_stream] = whole.stream
        self.for_runtime.append(whole.numbered(self._next_stream))
        self._next_stream += 2

    # --- the worker's life ------------------------------------------------------------------------

    def worker_started(self, now: float) -> None:
        """Tell a new worker what the runtime has told, and give it the requests that wait."""
        self._has_worker = True
        self._since = now
        known = {whole.stream for whole in self._history}
        waiting = [one.whole for stream, one in self._pending.items() if stream not in known]
        self.for_worker.extend(whole.frames or b"" for whole in (*self._history, *waiting))
        self._replayed.update(known - self._pending.keys())

    def worker_ended(self, how: str) -> None:
        """Forget a worker and what it has sent in part; answer what it has failed on twice."""
        was_serving, is_excused = self.is_serving, self._has_given_up
        self._forget_worker()
        if self._history_bytes > MAX_HISTORY:
            self.lost = True
        if was_serving:
            first = self._first()
            if first is not None and not is_excused:
                first.failures.append(how)
                if len(first.failures) >= MAX_TRIES:
                    self._give_up(first)
            return
        for pending in list(self._pending.values()):
            pending.failed_starts += 1
            if pending.failed_starts >= MAX_STARTS:
                pending.failures.append(how)
                self._give_up(pending)

    def _forget_worker(self) -> None:
        self.for_worker.clear()
        self._worker = Splitter()
        self._calls.clear()
        self._registered_as = 0
        self._replayed.clear()
        self._has_worker = False
        self._has_given_up = False
        self._since = 0.0

    # --- time -------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """Return when the worker has been silent for too long; None if nothing waits for it."""
        first = self._first()
        if first is None:
            return None
        overdue = self._overdue(first)
        if first.failures or not self._has_worker:
            return overdue
        return min(max(first.arrived, self._since) + self.timeout * PATIENCE, overdue)

    def expire(self, now: float) -> str:
        """Answer what cannot wait any longer; return why the worker must end, if it must.

        Call `worker_ended` then.
        """
        first = self._first()
        if first is None or now < (self.deadline() or now):
            return ""
        while first is not None and now >= self._overdue(first):
            first.failures.append(f"no answer in {self.timeout * LIMIT:.2f} s")
            self._give_up(first)
            self._has_given_up = True
            first = self._first()
        return f"did not answer in {self.timeout * PATIENCE:.1f} s"

    def _overdue(self, pending: WaitingRequest) -> float:
        return pending.arrived + self.timeout * LIMIT

    def _first(self) -> WaitingRequest | None:
        return next(iter(self._pending.values()), None)

    # --- answers of the parent's own --------------------------------------------------------------

    def _give_up(self, pending: WaitingRequest) -> None:
        """Answer a request that workers have failed on; no runtime needs an error for a notice."""
        stream = pending.whole.stream
        del self._pending[stream]
        self._pending_bytes -= len(pending.whole.frames or b"")
        request = request_of(pending.whole.data)
        if tells_only(event_of(request)):
            self.for_runtime.append(_response(stream, ttrpc_pb2.Response()))
            return
        failures = ", then ".join(pending.failures)
        subject = subject_of(request)
        advice = "; change what the pod asks for, or update nri-inject" if subject else ""
        self._refuse(
            stream,
            f"{subject}{': ' if subject else ''}plugin {self._title} failed in {request.method}:"
            f" {failures}; its log on the node has more{advice}",
        )

    def _described(self, pending: WaitingRequest) -> str:
        request = request_of(pending.whole.data)
        subject = subject_of(request)
        return f"{request.method} of {subject}" if subject else request.method

    def pending_request(self) -> str:
        """Describe the request that the worker is busy with; empty if there is none."""
        first = self._first()
        return "" if first is None else self._described(first)

    def _refuse(self, stream: int, text: str) -> None:
        status = ttrpc_pb2.Status(code=Code.INTERNAL, message=text)
        self.for_runtime.append(_response(stream, ttrpc_pb2.Response(status=status)))


def _as_text(data: bytes) -> str:
    return b64encode(data).decode()


def _messages(texts: list[str]) -> list[WholeMessage]:
    """Return the messages of some frames."""
    return Splitter().receive(b"".join(b64decode(text, validate=True) for text in texts))


def _may_be_handshake(frames: bytes) -> bool:
    """Tell in no time that nearly every request is neither Configure nor Synchronize."""
    begin = frames[:_MAX_BEGIN]
    return b"Configure" in begin or b"Synchronize" in begin


def _response(stream: int, response: ttrpc_pb2.Response) -> bytes:
    data = response.SerializeToString()
    return message(PLUGIN_CHANNEL, stream, MessageType.RESPONSE, data).frames or b""
