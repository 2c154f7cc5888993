"""A plugin seen from the runtime, over real sockets and as a real process."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.peers import BOUND, SHORT, connected, create, next_call, served

from nri_inject import api
from nri_inject.api import ContainerUpdate, CreateContainerRequest, CreateContainerResponse, Pod
from nri_inject.capabilities import NEWEST, Runtime, identify
from nri_inject.errors import ConnectionLost, NriError, RemoteError
from nri_inject.plugin import Plugin
from nri_inject.runtime.peer import Peer, wait
from nri_inject.wire.session import Role, Session
from nri_inject.wire.ttrpc import Code

OLD = identify("containerd", "v1.7.24")
EVENT = api.Event


@contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=action)
    thread.start()
    try:
        yield
    finally:
        thread.join(BOUND)
        assert not thread.is_alive()


def test_a_plugin_says_who_it_is() -> None:
    with served(Plugin(name="web", index="07")) as (peer, _):
        peer.register(BOUND)
        assert (peer.index, peer.name, peer.title) == ("07", "web", "07-web")


def test_what_a_launched_plugin_calls_itself_does_not_count() -> None:
    with served(Plugin(name="other", index="99")) as (peer, _):
        peer.index, peer.name = "10", "web"
        peer.register(BOUND)
        assert peer.title == "10-web"


def told(runtime: Runtime, config: str = "") -> api.ConfigureRequest:
    """Return what a plugin is told when it is configured."""
    requests: list[api.ConfigureRequest] = []
    with served(Plugin(name="web", index="10", configure=requests.append)) as (peer, _):
        peer.register(BOUND)
        peer.configure(runtime, config, BOUND)
    (request,) = requests
    return request


def test_configure_tells_what_the_newest_runtimes_tell() -> None:
    assert told(Runtime("containerd", "v2.4.0", (0, 12, 2)), "a: 1\n") == api.ConfigureRequest(
        config="a: 1\n",
        runtime_name="containerd",
        runtime_version="v2.4.0",
        registration_timeout=5000,
        request_timeout=2000,
        NRI_version="v0.12.2",
    )


def test_configure_tells_no_nri_version_before_0_12() -> None:
    assert told(Runtime("containerd", "v2.1.9", (0, 8, 0))) == api.ConfigureRequest(
        runtime_name="containerd",
        runtime_version="v2.1.9",
        registration_timeout=5000,
        request_timeout=2000,
    )


def test_configure_tells_no_timeouts_before_0_7() -> None:
    assert told(OLD) == api.ConfigureRequest(runtime_name="containerd", runtime_version="v1.7.24")


def test_a_peer_wants_the_events_that_its_plugin_handles() -> None:
    plugin = Plugin(name="web", index="10", create_container=lambda *_: None)
    with served(plugin) as (peer, _):
        peer.register(BOUND)
        peer.configure(NEWEST, timeout=BOUND)
        wanted = [event for event in range(1, 15) if peer.wants(event)]
    assert wanted == [EVENT.CREATE_CONTAINER]


def configured_with(mask: int, runtime: Runtime) -> int:
    """Let a plugin answer Configure with an event mask; return what the peer makes of it."""
    with connected() as (peer, theirs):

        def plugin() -> None:
            session = Session(Role.PLUGIN)
            session.answer(next_call(theirs, session), api.ConfigureResponse(events=mask))
            theirs.sendall(session.outgoing())

        with meanwhile(plugin):
            peer.configure(runtime, timeout=BOUND)
        return peer.events


def test_the_mask_zero_is_every_event_that_the_runtime_knows() -> None:
    assert configured_with(0, NEWEST) == 0x3FFF
    assert configured_with(0, OLD) == 0x7FF


@pytest.mark.parametrize(
    ("mask", "runtime", "wrong"),
    [
        (0x3FFF, OLD, "0x3800"),
        (1 << 11 | 1 << 3, OLD, "0x800"),
        (1 << 14, NEWEST, "0x4000"),
        (1 << 30, NEWEST, "0x40000000"),
    ],
)
def test_an_event_that_the_runtime_does_not_know_is_refused(
    mask: int, runtime: Runtime, wrong: str
) -> None:
    with pytest.raises(NriError) as caught:
        configured_with(mask, runtime)
    assert str(caught.value) == f"plugin 10-web requests invalid events: {wrong}"


def test_a_negative_mask_is_refused() -> None:
    with pytest.raises(NriError, match=r"^plugin 10-web requests invalid events: "):
        configured_with(-1, NEWEST)


def test_synchronize_tells_what_exists_and_returns_the_updates() -> None:
    heard: list[list[str]] = []

    def synchronize(pods: Sequence[Pod], _: object) -> list[ContainerUpdate]:
        heard.append([pod.name for pod in pods])
        return [ContainerUpdate(container_id="c1")]

    with served(Plugin(name="web", index="10", synchronize=synchronize)) as (peer, _):
        peer.register(BOUND)
        peer.configure(NEWEST, timeout=BOUND)
        updates = peer.synchronize([Pod(name="a"), Pod(name="b")], [], BOUND)
    assert (heard, updates) == ([["a", "b"]], [ContainerUpdate(container_id="c1")])


# --- plugins that are late, gone or wrong ---------------------------------------------------------


def test_a_plugin_that_does_not_register_in_time_is_lost() -> None:
    with connected() as (peer, _), pytest.raises(ConnectionLost) as caught:
        peer.register(SHORT)
    assert str(caught.value) == "plugin 10-web did not answer registration in time"


def test_a_plugin_that_does_not_answer_in_time_is_lost() -> None:
    with connected() as (peer, _), pytest.raises(ConnectionLost) as caught:
        create(peer, SHORT)
    assert str(caught.value) == "plugin 10-web did not answer CreateContainer in time"


def test_the_deadline_is_told_to_the_plugin() -> None:
    with connected() as (peer, theirs):
        with pytest.raises(ConnectionLost):
            create(peer, SHORT)
        assert next_call(theirs, Session(Role.PLUGIN)).timeout == int(SHORT * 1e9)


@pytest.mark.slow
def test_a_plugin_that_never_stops_talking_is_late_as_well() -> None:
    # Zeros are empty frames of the channel that is reserved: allowed, and they never end.
    with connected() as (peer, theirs):
        talker = subprocess.Popen(["cat", "/dev/zero"], stdout=theirs.fileno())
        stopped = threading.Timer(BOUND, talker.kill)
        with talker:
            stopped.start()
            with pytest.raises(ConnectionLost) as caught:
                create(peer, 0.5)
            stopped.cancel()
            talker.kill()
    assert str(caught.value) == "plugin 10-web did not answer CreateContainer in time"


def test_a_plugin_that_does_not_read_is_late() -> None:
    request = CreateContainerRequest(pod=Pod(annotations={"long": "x" * 3_000_000}))
    with connected() as (peer, _), pytest.raises(ConnectionLost) as caught:
        peer.request("CreateContainer", request, CreateContainerResponse, SHORT)
    assert str(caught.value) == "plugin 10-web did not answer CreateContainer in time"


def test_a_request_that_is_too_long_is_an_error_and_the_plugin_stays() -> None:
    request = CreateContainerRequest(pod=Pod(annotations={"long": "x" * 5_000_000}))
    plugin = Plugin(name="web", index="10", create_container=lambda *_: None)
    with served(plugin) as (peer, _):
        peer.register(BOUND)
        peer.configure(NEWEST, timeout=BOUND)
        with pytest.raises(NriError) as caught:
            peer.request("CreateContainer", request, CreateContainerResponse, BOUND)
        assert create(peer) == CreateContainerResponse()
    assert not isinstance(caught.value, ConnectionLost)
    assert str(caught.value).startswith("plugin 10-web: CreateContainer request of 50000")
    assert str(caught.value).endswith(" bytes, at most 4194304 can be sent")


def test_a_long_request_arrives_whole() -> None:
    request = CreateContainerRequest(pod=Pod(annotations={"long": "x" * 4_000_000}))
    lengths: list[int] = []

    def measure(pod: Pod, _: api.Container) -> None:
        lengths.append(len(pod.annotations["long"]))

    with served(Plugin(name="web", index="10", create_container=measure)) as (peer, _):
        peer.register(BOUND)
        peer.configure(NEWEST, timeout=BOUND)
        peer.request("CreateContainer", request, CreateContainerResponse, BOUND)
    assert lengths == [4_000_000]


def test_a_plugin_that_closes_the_connection_before_it_registers_is_lost() -> None:
    with connected() as (peer, theirs):
        theirs.close()
        with pytest.raises(ConnectionLost) as caught:
            peer.register(BOUND)
    assert str(caught.value) == "plugin 10-web ended"


def test_a_plugin_that_was_gone_before_the_request_is_lost() -> None:
    with connected() as (peer, theirs):
        theirs.close()
        with pytest.raises(ConnectionLost) as caught:
            create(peer)
    assert str(caught.value) == "plugin 10-web: Broken pipe"


def test_a_plugin_that_dies_with_the_request_unread_is_lost() -> None:
    with connected() as (peer, theirs):

        def die() -> None:
            assert theirs.recv(1)
            theirs.close()

        with meanwhile(die), pytest.raises(ConnectionLost) as caught:
            create(peer)
    assert str(caught.value) == "plugin 10-web: Connection reset by peer"


def test_a_plugin_that_closes_instead_of_answering_is_lost() -> None:
    with connected() as (peer, theirs):

        def hang_up() -> None:
            next_call(theirs, Session(Role.PLUGIN))
            theirs.close()

        with meanwhile(hang_up), pytest.raises(ConnectionLost) as caught:
            create(peer)
    assert str(caught.value) == (
        "plugin 10-web: the connection ended before the answer to CreateContainer"
    )


def test_a_plugin_that_breaks_the_protocol_is_lost() -> None:
    with connected() as (peer, theirs):
        theirs.sendall(b"\0\0\0\x01\xff\xff\xff\xff")
        with pytest.raises(ConnectionLost, match=r"^plugin 10-web: .*4294967295 bytes"):
            create(peer)


def test_a_status_is_the_plugins_own_answer_and_it_stays() -> None:
    def refuse(pod: Pod, _: api.Container) -> None:
        if pod.name == "web":
            raise NriError("no such device")

    with served(Plugin(name="web", index="10", create_container=refuse)) as (peer, _):
        peer.register(BOUND)
        peer.configure(NEWEST, timeout=BOUND)
        with pytest.raises(RemoteError) as caught:
            create(peer)
        request = CreateContainerRequest(pod=Pod(name="db"))
        again = peer.request("CreateContainer", request, CreateContainerResponse, BOUND)
    assert (caught.value.code, caught.value.message) == (Code.UNKNOWN, "no such device")
    assert again == CreateContainerResponse()


def test_an_answer_that_cannot_be_read_fails_the_request_alone() -> None:
    # Stream 1 of the channel Plugin, a response whose data is no message.
    broken = b"\0\0\0\x01\0\0\0\x0b" + b"\0\0\0\x01\0\0\0\x01\x02\0" + b"\xff"
    with connected() as (peer, theirs):
        theirs.sendall(broken)
        with pytest.raises(RemoteError, match=r"^the answer cannot be decoded: "):
            create(peer)


def test_an_answer_to_another_request_is_passed_over() -> None:
    with connected() as (peer, theirs):
        theirs.sendall(b"\0\0\0\x01\0\0\0\x0a" + b"\0\0\0\x07\0\0\0\x00\x02\0")
        with pytest.raises(ConnectionLost, match="in time"):
            create(peer, SHORT)


@pytest.mark.slow
def test_what_exists_is_told_in_parts_where_it_is_long() -> None:
    pods = [Pod(id=str(number), name="x" * 1_000_000) for number in range(9)]
    heard: list[list[str]] = []

    def synchronize(pods: Sequence[Pod], _: object) -> list[ContainerUpdate]:
        heard.append([pod.id for pod in pods])
        return [ContainerUpdate(container_id="c1")]

    with served(Plugin(name="web", index="10", synchronize=synchronize)) as (peer, _):
        peer.register(BOUND)
        peer.configure(NEWEST, timeout=BOUND)
        assert peer.synchronize(pods, [], BOUND) == [ContainerUpdate(container_id="c1")]
    assert heard == [[str(number) for number in range(9)]]


@pytest.mark.parametrize(
    "response",
    [
        api.SynchronizeResponse(),
        api.SynchronizeResponse(more=True, update=[ContainerUpdate(container_id="c1")]),
    ],
)
def test_a_plugin_that_does_not_take_parts_is_told_apart(
    response: api.SynchronizeResponse,
) -> None:
    pods = [Pod(name="x" * 3_000_000) for _ in range(2)]
    with connected() as (peer, theirs):

        def plugin() -> None:
            session = Session(Role.PLUGIN)
            session.answer(next_call(theirs, session), response)
            theirs.sendall(session.outgoing())

        with meanwhile(plugin), pytest.raises(NriError) as caught:
            peer.synchronize(pods, [], BOUND)
    assert str(caught.value) == "plugin 10-web does not handle split sync requests"


@pytest.mark.parametrize(
    ("name", "index", "strict", "sentence"),
    [
        ("", "10", False, "invalid plugin name: it is empty"),
        ("a/b", "10", True, "invalid plugin name 'a/b': only letters, digits and . _ + - allowed"),
        ("a b", "10", False, ""),
        (
            "a\nb",
            "10",
            False,
            "invalid plugin name 'a\\nb': only letters, digits and . _ + - allowed",
        ),
        ("a", "1", False, "invalid plugin index '1': two digits expected, as in 10"),
        (
            "a",
            "\u0661\u0662",
            False,
            "invalid plugin index '\u0661\u0662': two digits expected, as in 10",
        ),
        ("aZ0._+-", "00", True, ""),
    ],
)
def test_a_registration_is_refused_for_what_runtimes_refuse(
    name: str, index: str, strict: bool, sentence: str
) -> None:
    ours, theirs = socket.socketpair()
    session = Session(Role.PLUGIN)
    session.call("RegisterPlugin", api.RegisterPluginRequest(plugin_name=name, plugin_idx=index))
    with theirs, closing(Peer(ours, checks_name=strict)) as peer:
        theirs.sendall(session.outgoing())
        pending = peer.registration(BOUND)
        wait(pending)
        (answer,) = session.receive(theirs.recv(1 << 16))
    assert getattr(answer, "text", "") == sentence


@given(st.lists(st.binary(max_size=64), max_size=8), st.booleans())
def test_whatever_a_plugin_says_it_is_understood_or_lost(pieces: list[bytes], asked: bool) -> None:
    with connected() as (peer, theirs):
        if asked:
            peer.begin("CreateContainer", CreateContainerRequest(), BOUND)
        for piece in pieces:
            if peer.lost is None:
                theirs.sendall(piece)
                peer.ready()
        assert peer.lost is None or str(peer.lost).startswith("plugin 10-web")


def test_all_bytes_are_told_to_a_tap() -> None:
    said: list[tuple[Role, bytes]] = []
    ours, theirs = socket.socketpair()
    session = Session(Role.PLUGIN)
    session.call("RegisterPlugin", api.RegisterPluginRequest(plugin_name="a", plugin_idx="10"))
    registration = session.outgoing()

    def tap(sender: Role, data: bytes) -> None:
        said.append((sender, data))

    with theirs, closing(Peer(ours, tap=tap)) as peer:
        theirs.sendall(registration)
        peer.register(BOUND)
        assert said == [(Role.PLUGIN, registration), (Role.RUNTIME, theirs.recv(1 << 16))]
