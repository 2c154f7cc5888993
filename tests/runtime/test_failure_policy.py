"""A plugin that does not answer: which request fails, who is dropped, and who is not to blame."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from google.protobuf.message import Message

from nri_inject import api
from nri_inject.api import Event, FailurePolicy
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.errors import NriError
from nri_inject.runtime import Adaptation, Peer, Rejection, Rules, Timeouts, Unanswered, identify
from nri_inject.wire import Call, Role, Session
from nri_inject.wire.mux import MAX_PAYLOAD

pytestmark = pytest.mark.slow

BOUND = 20.0
SHORT = Timeouts(request=0.05)
POD = api.Pod(id="p0", name="web")
CONTAINER = api.Container(id="c0", name="app")

FAIL_AND_KEEP = FailurePolicy(fail_request=True, keep_connected=True)
FAIL = FailurePolicy(fail_request=True)
KEEP = FailurePolicy(keep_connected=True)
LATE = "plugin 10-a did not answer CreateContainer in time"


def mask(*events: int) -> int:
    return sum(1 << (event - 1) for event in events)


class Plugin:
    """A plugin that does nothing by itself but the handshake.

    `react` gets each call and does with the connection what it likes; without an answer to the call
    there is none. `calls` are those that it got.
    """

    def __init__(
        self,
        adaptation: Adaptation,
        title: str,
        policy: FailurePolicy | None,
        react: Callable[[Plugin, Call], None],
        *events: int,
    ) -> None:
        ours, self.connection = socket.socketpair()
        self.calls: list[Call] = []
        self._title, self._policy, self._react = title, policy, react
        self._events = mask(*(events or (Event.CREATE_CONTAINER,)))
        self._session = Session(Role.PLUGIN)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        adaptation.add(Peer(ours))

    def answer(self, call: Call, response: Message | None = None) -> None:
        self._session.answer(call, response or api.CreateContainerResponse(adjust=by(self._title)))
        self.connection.sendall(self._session.outgoing())

    def end(self) -> None:
        """Close the connection as a process that ends."""
        self.connection.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        self._thread.join(BOUND)
        assert not self._thread.is_alive()
        self.connection.close()

    def _serve(self) -> None:
        index, _, name = self._title.partition("-")
        request = api.RegisterPluginRequest(plugin_idx=index, plugin_name=name)
        self._session.call("RegisterPlugin", request)
        self.connection.sendall(self._session.outgoing())
        while data := self._read():
            for event in self._session.receive(data):
                if isinstance(event, Call):
                    self._called(event)

    def _read(self) -> bytes:
        try:
            return self.connection.recv(1 << 16)
        except ConnectionResetError:
            return b""

    def _called(self, call: Call) -> None:
        if call.method == "Configure":
            policy = self._policy
            self.answer(call, api.ConfigureResponse(events=self._events, failure_policy=policy))
        elif call.method == "Synchronize":
            self.answer(call, api.SynchronizeResponse())
        else:
            self.calls.append(call)
            self._react(self, call)


def by(title: str) -> api.Adjustment:
    return api.Adjustment(env=[api.KeyValue(key=f"BY_{title[3:]}", value="yes")])


def answers(plugin: Plugin, call: Call) -> None:
    plugin.answer(call)


def is_silent(_: Plugin, __: Call) -> None:
    pass


def ends(plugin: Plugin, _: Call) -> None:
    plugin.end()


def sends_a_frame_that_is_too_long(plugin: Plugin, _: Call) -> None:
    length = MAX_PAYLOAD + 1
    plugin.connection.sendall((1).to_bytes(4, "big") + length.to_bytes(4, "big"))


Start = Callable[..., Plugin]


@pytest.fixture
def adaptation() -> Iterator[Adaptation]:
    with Adaptation() as opened:
        yield opened


@pytest.fixture
def start(adaptation: Adaptation) -> Iterator[Start]:
    """Give a function that connects a plugin; each has to end with its connection."""
    started: list[Plugin] = []

    def connected(
        title: str,
        policy: FailurePolicy | None = None,
        react: Callable[[Plugin, Call], None] = answers,
        *events: int,
    ) -> Plugin:
        started.append(Plugin(adaptation, title, policy, react, *events))
        return started[-1]

    yield connected
    adaptation.close()
    for plugin in started:
        plugin.wait()


def created(adaptation: Adaptation) -> list[str]:
    adjust = adaptation.create_container(POD, CONTAINER).merged.adjust
    return [variable.key for variable in adjust.env]


def refused(adaptation: Adaptation) -> str:
    with pytest.raises(Unanswered) as caught:
        adaptation.create_container(POD, CONTAINER)
    return str(caught.value)


# --- two decisions, each from a field of the policy -----------------------------------------------


@pytest.mark.parametrize("policy", [FAIL, FAIL_AND_KEEP])
def test_a_late_answer_fails_the_request_by_the_name_of_plugin_and_request(
    adaptation: Adaptation, start: Start, policy: FailurePolicy
) -> None:
    start("10-a", policy, is_silent)
    later = start("20-b")
    adaptation.timeouts = SHORT
    assert refused(adaptation) == f"{LATE}, so CreateContainer fails"
    assert later.calls == []


@pytest.mark.parametrize("policy", [None, FailurePolicy(), KEEP])
def test_without_fail_request_the_others_are_asked(
    adaptation: Adaptation, start: Start, policy: FailurePolicy | None
) -> None:
    start("10-a", policy, is_silent)
    start("20-b")
    adaptation.timeouts = SHORT
    assert created(adaptation) == ["BY_b"]


@pytest.mark.parametrize("policy", [None, FailurePolicy(), FAIL])
def test_without_keep_connected_a_late_plugin_is_dropped(
    adaptation: Adaptation, start: Start, policy: FailurePolicy | None
) -> None:
    start("10-a", policy, is_silent)
    adaptation.timeouts = SHORT
    with pytest.raises(Unanswered) if policy == FAIL else contextlib.nullcontext():
        adaptation.create_container(POD, CONTAINER)
    assert (adaptation.plugins, adaptation.dropped, adaptation.passed) == ([], [LATE], [])
    assert created(adaptation) == []


@pytest.mark.parametrize(("policy", "passed"), [(KEEP, [LATE]), (FAIL_AND_KEEP, [])])
def test_with_keep_connected_it_serves_the_next_request_and_its_late_answer_is_not_taken_for_that(
    adaptation: Adaptation, start: Start, policy: FailurePolicy, passed: list[str]
) -> None:
    def answers_the_second(plugin: Plugin, call: Call) -> None:
        if len(plugin.calls) == 2:
            late = api.CreateContainerResponse(adjust=by("10-late"))
            plugin.answer(plugin.calls[0], late)
            plugin.answer(call)

    start("10-a", policy, answers_the_second)
    adaptation.timeouts = SHORT
    with pytest.raises(Unanswered) if policy.fail_request else contextlib.nullcontext():
        adaptation.create_container(POD, CONTAINER)
    assert (adaptation.plugins, adaptation.dropped, adaptation.passed) == (["10-a"], [], passed)
    adaptation.timeouts = Timeouts(request=BOUND)
    assert created(adaptation) == ["BY_a"]


def test_a_late_plugin_that_was_kept_ends_like_any_other(
    adaptation: Adaptation, start: Start
) -> None:
    plugin = start("10-a", KEEP, is_silent)
    adaptation.timeouts = SHORT
    assert created(adaptation) == []
    plugin.end()
    plugin.wait()
    adaptation.serve()
    assert adaptation.dropped == ["plugin 10-a ended"]


@pytest.mark.parametrize(
    ("react", "fault"),
    [
        (ends, "the connection ended before the answer to CreateContainer"),
        (
            sends_a_frame_that_is_too_long,
            "multiplexer frame of 4194315 bytes on channel 1, at most 4194314 allowed",
        ),
    ],
)
def test_a_lost_connection_fails_the_request_and_is_never_kept(
    adaptation: Adaptation, start: Start, react: Callable[[Plugin, Call], None], fault: str
) -> None:
    start("10-a", FAIL_AND_KEEP, react)
    assert refused(adaptation) == f"plugin 10-a: {fault}, so CreateContainer fails"
    assert (adaptation.plugins, adaptation.dropped) == ([], [f"plugin 10-a: {fault}"])
    assert created(adaptation) == []


@pytest.mark.parametrize("runtime", [identify("containerd", "1.7.24"), Runtime("", "", (0, 12, 3))])
def test_a_runtime_before_nri_0_12_4_does_not_know_the_policy(runtime: Runtime) -> None:
    with Adaptation(runtime, timeouts=SHORT) as adaptation:
        plugin = Plugin(adaptation, "10-a", FAIL_AND_KEEP, is_silent)
        assert created(adaptation) == []
        assert adaptation.dropped == [LATE]
    plugin.wait()


# --- which requests -------------------------------------------------------------------------------


def ask(adaptation: Adaptation, method: str) -> None:
    nothing = api.LinuxResources()
    if method == "UpdatePodSandbox":
        adaptation.update_pod_sandbox(POD, nothing, nothing)
    elif method == "UpdateContainer":
        adaptation.update_container(POD, CONTAINER, nothing)
    elif method == "StopContainer":
        adaptation.stop_container(POD, CONTAINER)
    else:
        of_container = CONTAINER if method.endswith("Container") else None
        adaptation.tell(EVENTS[method], POD, of_container)


EVENTS = {
    "RunPodSandbox": Event.RUN_POD_SANDBOX,
    "UpdatePodSandbox": Event.UPDATE_POD_SANDBOX,
    "StartContainer": Event.START_CONTAINER,
    "UpdateContainer": Event.UPDATE_CONTAINER,
    "StopContainer": Event.STOP_CONTAINER,
    "RemoveContainer": Event.REMOVE_CONTAINER,
}


@pytest.mark.parametrize("method", EVENTS)
def test_the_policy_is_for_every_event_that_the_plugin_subscribes_to(
    adaptation: Adaptation, start: Start, method: str
) -> None:
    start("10-a", FAIL_AND_KEEP, is_silent, EVENTS[method])
    adaptation.timeouts = SHORT
    with pytest.raises(Unanswered) as caught:
        ask(adaptation, method)
    assert str(caught.value) == f"plugin 10-a did not answer {method} in time, so {method} fails"


@pytest.mark.parametrize(
    ("policy", "kept"), [(None, []), (FAIL, []), (KEEP, ["90-v"]), (FAIL_AND_KEEP, ["90-v"])]
)
def test_a_validator_that_is_late_fails_the_container_whatever_its_policy(
    adaptation: Adaptation, start: Start, policy: FailurePolicy | None, kept: list[str]
) -> None:
    start("90-v", policy, is_silent, Event.VALIDATE_CONTAINER_ADJUSTMENT)
    adaptation.timeouts = SHORT
    with pytest.raises(Rejection) as caught:
        adaptation.create_container(POD, CONTAINER)
    late = "plugin 90-v did not answer ValidateContainerAdjustment in time"
    assert str(caught.value) == f'validator "90-v" failed: {late}'
    assert adaptation.plugins == kept


def test_a_plugin_that_was_asked_counts_as_there_for_validators_though_it_did_not_answer(
    adaptation: Adaptation, start: Start
) -> None:
    adaptation.rules = Rules(required_plugins=("a",))
    start("10-a", None, is_silent)
    adaptation.timeouts = SHORT
    assert created(adaptation) == []
    with pytest.raises(Rejection, match=r"required plugin not there: a$"):
        adaptation.create_container(POD, CONTAINER)


def test_a_plugin_that_wants_other_events_counts_as_there_for_validators(
    adaptation: Adaptation, start: Start
) -> None:
    adaptation.rules = Rules(required_plugins=("a",))
    plugin = start("10-a", None, answers, Event.STOP_CONTAINER)
    assert (created(adaptation), plugin.calls) == ([], [])


# --- whose fault it is not ------------------------------------------------------------------------


def test_a_plugin_that_ended_between_requests_fails_none(
    adaptation: Adaptation, start: Start
) -> None:
    plugin = start("10-a", FAIL_AND_KEEP)
    start("20-b")
    plugin.connection.sendall(b"\0" * (1 << 17))  # more than is read at once, then the end
    plugin.end()
    assert created(adaptation) == ["BY_b"]
    assert adaptation.dropped == ["plugin 10-a ended"]


def test_a_plugin_that_ended_while_another_was_asked_fails_none(
    adaptation: Adaptation, start: Start
) -> None:
    second: list[Plugin] = []

    def ends_the_other(plugin: Plugin, call: Call) -> None:
        second[0].end()
        plugin.answer(call)

    start("10-a", None, ends_the_other)
    second.append(start("20-b", FAIL_AND_KEEP))
    assert created(adaptation) == ["BY_a"]
    assert (adaptation.dropped, second[0].calls) == (["plugin 20-b ended"], [])


@pytest.mark.parametrize("policy", [None, FAIL, KEEP, FAIL_AND_KEEP])
def test_no_plugin_is_to_blame_when_nobody_waits_for_the_request_any_more(
    adaptation: Adaptation, start: Start, policy: FailurePolicy | None
) -> None:
    plugin = start("10-a", policy, is_silent)
    later = start("20-b")
    with adaptation.until(time.monotonic() + 0.05), pytest.raises(NriError) as caught:
        adaptation.create_container(POD, CONTAINER)
    assert type(caught.value) is NriError
    assert str(caught.value) == "the request ended before plugin 10-a answered CreateContainer"
    assert (adaptation.plugins, adaptation.dropped) == (["10-a", "20-b"], [])
    assert (len(plugin.calls), later.calls) == (1, [])
    with adaptation.until(time.monotonic()), pytest.raises(NriError) as caught:
        adaptation.create_container(POD, CONTAINER)
    assert str(caught.value) == "the request ended before plugin 10-a was asked CreateContainer"
    assert len(plugin.calls) == 1


def test_a_plugin_is_late_by_its_own_time_although_the_caller_would_wait_longer(
    adaptation: Adaptation, start: Start
) -> None:
    start("10-a", FAIL_AND_KEEP, is_silent)
    adaptation.timeouts = SHORT
    with adaptation.until(time.monotonic() + BOUND):
        assert refused(adaptation) == f"{LATE}, so CreateContainer fails"


# --- memory ---------------------------------------------------------------------------------------


def test_what_a_plugin_leaves_unread_is_bounded_and_each_request_fails() -> None:
    ours, theirs = socket.socketpair()
    peer = Peer(ours)
    peer.index, peer.name = "10", "a"
    peer.subscribe(api.ConfigureResponse(failure_policy=FAIL_AND_KEEP), NEWEST)
    request = api.CreateContainerRequest(pod=api.Pod(annotations={"long": "x" * 3_000_000}))
    with theirs:
        for _ in range(8):
            with pytest.raises(NriError, match=f"^{LATE}$"):
                peer.request("CreateContainer", request, api.CreateContainerResponse, 0.01)
        assert peer.lost is None
        theirs.setblocking(False)
        left = 0
        while True:
            peer.ready()
            try:
                left += len(theirs.recv(1 << 20))
            except BlockingIOError:
                break
        # The bound of 8 MiB, one request more, and what the kernel's buffer took before.
        assert 8 << 20 < left < 13 << 20
        peer.close()
