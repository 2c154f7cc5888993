"""How plugins come to a runtime: launched from a directory, or by themselves through a socket."""

from __future__ import annotations

import json
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from nri_inject import api
from nri_inject._pb import ttrpc_pb2
from nri_inject.api import Container, ContainerUpdate, Pod
from nri_inject.capabilities import Runtime, identify
from nri_inject.errors import NriError
from nri_inject.plugin import Plugin
from nri_inject.runtime.adaptation import Adaptation
from nri_inject.runtime.peer import Peer, Timeouts
from nri_inject.stub import Stub
from nri_inject.wire.session import Answer, Call, Role, Session

pytestmark = [pytest.mark.usefixtures("no_process_is_left"), pytest.mark.slow]

BOUND = 10.0
SHORT = Timeouts(registration=0.3, request=0.3)
VECTORS = Path(__file__).parents[1] / "vectors" / "nri" / "wire-runtime.jsonl"
CASES = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]

PROGRAM = """#!{python}
import os, sys
sys.path[:0] = {path!r}
from nri_inject import api, plugin, stub
config = []
{body}
made = plugin.Plugin(
    name=os.environ["NRI_PLUGIN_NAME"],
    index=os.environ["NRI_PLUGIN_IDX"],
    configure=lambda request: config.append(request.config),
    synchronize=synchronize,
    create_container=lambda pod, container: api.Adjustment(
        env=[api.KeyValue(key="BY_" + made.index, value=" ".join(config))]
    ),
)
stub.serve(made)
"""
PLAIN = "synchronize = None"
WANTS_UPDATES = """
def synchronize(pods, containers):
    return [api.ContainerUpdate(container_id=f"{pods[0].id}-{containers[0].id}")]
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    directory = tmp_path / "plugins"
    directory.mkdir()
    return directory


def install(plugins: Path, name: str, body: str = PLAIN) -> Path:
    path = plugins / name
    path.write_text(PROGRAM.format(python=sys.executable, path=sys.path, body=body))
    path.chmod(0o755)
    return path


def env(adaptation: Adaptation) -> dict[str, str]:
    created = adaptation.create_container(Pod(id="p"), Container(id="c", args=["sh"]))
    return {entry.key: entry.value for entry in created.merged.adjust.env}


# --- launched -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_directory_of_plugins_serves_with_its_configuration(
    plugins: Path, tmp_path: Path
) -> None:
    for name in ("20-b", "10-a", "30-c"):
        install(plugins, name)
    (tmp_path / "10-a.conf").write_text("of 10-a")
    (tmp_path / "b.conf").write_text("of b")
    with Adaptation() as adaptation:
        assert adaptation.launch(plugins, tmp_path) == []
        assert adaptation.plugins == ["10-a", "20-b", "30-c"]
        assert env(adaptation) == {"BY_10": "of 10-a", "BY_20": "of b", "BY_30": ""}


@pytest.mark.slow
def test_what_does_not_serve_is_told_and_costs_only_itself(plugins: Path, tmp_path: Path) -> None:
    good = install(plugins, "10-good")
    ends = install(plugins, "20-ends", "sys.exit(1)")
    wrong = install(plugins, "wrong-name")
    module = plugins / "30-module"
    module.write_bytes(b"\0asm\1\0\0\0")
    module.chmod(0o755)
    text = plugins / "40-text"
    text.write_text("no first line\n")
    text.chmod(0o755)
    unreadable = install(plugins, "50-configured")
    (tmp_path / "configured.conf").mkdir()
    with Adaptation() as adaptation:
        faults = adaptation.launch(plugins, tmp_path)
        assert adaptation.plugins == [good.name]
    assert faults == [
        f"plugin {wrong}: a file name such as 10-name expected",
        f"plugin {module}: is a WebAssembly module, which cannot be run here",
        f"cannot start plugin {text}: Exec format error",
        f"cannot read configuration {tmp_path / 'configured.conf'}: Is a directory",
        f"plugin {ends.name} ended",
    ]
    assert unreadable.exists()


def test_without_a_directory_nothing_is_launched(tmp_path: Path) -> None:
    with Adaptation() as adaptation:
        assert adaptation.launch(tmp_path / "none", None) == []
        assert env(adaptation) == {}


@pytest.mark.slow
def test_plugins_are_started_side_by_side(plugins: Path) -> None:
    """Each waits in its configuration until the other has been started."""
    body = """
import socket, time
synchronize = None
own = os.environ["NRI_PLUGIN_NAME"]
folder = os.path.dirname(sys.argv[0])
open(f"{folder}/started-{own}", "w").close()
other = {"a": "b", "b": "a"}[own]
while not os.path.exists(f"{folder}/started-{other}"):
    time.sleep(0.01)
"""
    install(plugins, "10-a", body)
    install(plugins, "20-b", body)
    with Adaptation() as adaptation:
        assert adaptation.launch(plugins, None) == []
        assert adaptation.plugins == ["10-a", "20-b"]


@pytest.mark.slow
def test_one_that_stays_silent_is_given_up_and_killed(plugins: Path) -> None:
    install(plugins, "10-silent", "import signal; signal.pause()")
    with Adaptation(timeouts=SHORT) as adaptation:
        faults = adaptation.launch(plugins, None)
    assert faults == ["plugin 10-silent did not answer registration in time"]


EXISTING = ([Pod(id="p")], [Container(id="c")])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "wanted"), [("containerd/2.1.9", ["p-c"]), ("containerd/1.7.24", [])]
)
def test_launched_plugins_are_synchronized_since_nri_0_7(
    plugins: Path, runtime: str, wanted: list[str]
) -> None:
    install(plugins, "10-a", WANTS_UPDATES)
    made: list[str] = []

    def update(updates: list[ContainerUpdate]) -> list[ContainerUpdate]:
        made.extend(each.container_id for each in updates)
        return []

    name, _, version = runtime.partition("/")
    known = identify(name, version)
    with Adaptation(known, existing=lambda: EXISTING, update=update) as adaptation:
        assert adaptation.launch(plugins, None) == []
        assert adaptation.plugins == ["10-a"]
    assert made == wanted


# --- through the socket ---------------------------------------------------------------------------


class Served:
    """An adaptation that listens, and plugins of ours that connect to it."""

    def __init__(self, adaptation: Adaptation, path: Path) -> None:
        self.adaptation = adaptation
        self.path = path
        adaptation.listen(path)

    def until(self, condition: Callable[[], bool]) -> None:
        """Serve until something has become true."""
        deadline = time.monotonic() + BOUND
        while not condition():
            assert time.monotonic() < deadline
            self.adaptation.serve(0.01)

    def dial(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self.path))
        connection.setblocking(False)
        return connection


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    with ExitStack() as opened:

        def listen(*args: Any, **options: Any) -> Served:
            adaptation = opened.enter_context(Adaptation(*args, **options))
            return Served(adaptation, tmp_path / "run" / "nri.sock")

        yield listen


def connect(served: Served, plugin: Plugin) -> Stub:
    """Run a plugin in a thread that connects by itself; it ends with its runtime."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(served.path))
    stub = Stub(plugin, connection=connection)

    def run() -> None:
        with suppress(NriError):  # what it says is for other tests
            stub.run()

    threading.Thread(target=run, daemon=True).start()
    return stub


def named(name: str, index: str = "10", **handlers: Any) -> Plugin:
    return Plugin(name=name, index=index, **handlers)


def test_external_plugins_join_while_it_serves(listening: Callable[..., Served]) -> None:
    served = listening()
    connect(served, named("b", "20"))
    connect(served, named("a"))
    served.until(lambda: served.adaptation.plugins == ["10-a", "20-b"])


def test_a_request_takes_in_who_is_waiting(listening: Callable[..., Served]) -> None:
    served = listening()
    greets = api.Adjustment(env=[api.KeyValue(key="A")])
    connect(served, named("a", create_container=lambda *_: greets))
    deadline = time.monotonic() + BOUND
    while env(served.adaptation) != {"A": ""}:
        assert time.monotonic() < deadline


def test_a_silent_connection_keeps_nobody_waiting(listening: Callable[..., Served]) -> None:
    served = listening()
    with served.dial(), served.dial():
        connect(served, named("a"))
        started = time.monotonic()
        served.until(lambda: served.adaptation.plugins == ["10-a"])
        assert time.monotonic() - started < 4


def test_one_of_the_same_name_and_index_is_another_plugin(
    listening: Callable[..., Served],
) -> None:
    served = listening()
    connect(served, named("a"))
    connect(served, named("a"))
    served.until(lambda: served.adaptation.plugins == ["10-a", "10-a"])


def test_an_update_is_made_between_requests(listening: Callable[..., Served]) -> None:
    made: list[str] = []

    def update(updates: list[ContainerUpdate]) -> list[ContainerUpdate]:
        made.extend(each.container_id for each in updates)
        return []

    served = listening(update=update)
    stub = connect(served, named("a"))
    served.until(lambda: bool(served.adaptation.plugins))
    outcomes: list[Any] = []
    stub.update([ContainerUpdate(container_id="x")], outcomes.append)
    served.until(lambda: bool(outcomes))
    assert (made, outcomes) == (["x"], [[]])


def test_a_plugin_that_ends_between_requests_is_dropped(
    listening: Callable[..., Served],
) -> None:
    served = listening()
    stub = connect(served, named("a"))
    served.until(lambda: bool(served.adaptation.plugins))
    stub.stop()
    served.until(lambda: not served.adaptation.plugins)
    assert served.adaptation.dropped == ["plugin 10-a ended"]


def test_the_socket_is_for_its_owner_and_goes_in_the_end(
    listening: Callable[..., Served],
) -> None:
    served = listening()
    assert stat.S_IMODE(served.path.parent.stat().st_mode) == 0o700
    served.adaptation.close()
    assert list(served.path.parent.iterdir()) == []


def test_the_socket_of_an_ended_runtime_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "nri.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with Adaptation() as adaptation:
        served = Served(adaptation, path)
        connect(served, named("a"))
        served.until(lambda: adaptation.plugins == ["10-a"])


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "nri.sock"
    path.write_text("mine")
    with Adaptation() as adaptation, pytest.raises(NriError) as caught:
        adaptation.listen(path)
    assert str(caught.value) == f"cannot listen on {path}: it exists and is not a socket"
    assert path.read_text() == "mine"


def test_a_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with Adaptation() as adaptation, pytest.raises(NriError, match=rf"^cannot listen on {path}: "):
        adaptation.listen(path)


# --- recorded conversations with the reference ----------------------------------------------------


class Client:
    """A bare client that says what a recording has, and takes what the runtime says."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.connection = served.dial()
        self.heard = b""
        self.closed = False

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)
        self.served.adaptation.serve()

    def listen(self) -> None:
        self.served.adaptation.serve()
        while not self.closed and select.select([self.connection], [], [], 0)[0]:
            with suppress(BlockingIOError):
                data = self.connection.recv(1 << 16)
                self.heard += data
                self.closed = not data


SESSION = {"plugin>runtime": Role.PLUGIN, "runtime>plugin": Role.RUNTIME}
# Our own words for what a registration lacks; the code is the reference's.
OWN_WORDS = ("invalid plugin name", "invalid plugin index")


def meanings(data: bytes) -> list[Any]:
    """Return what the runtime says, message by message, in an order that does not vary."""
    session = Session(Role.PLUGIN)
    for number in range(8):  # so that answers to any of the first calls are understood
        session.call("RegisterPlugin" if number == 0 else "UpdateContainers", request_for(number))
    return sorted(map(str, map(meaning, session.receive(data) if data else ())))


def request_for(number: int) -> Message:
    return api.UpdateContainersRequest() if number else api.RegisterPluginRequest()


def meaning(event: Any) -> Any:
    if isinstance(event, Call):
        return event.stream, event.method, event.request.SerializeToString(deterministic=True)
    if isinstance(event, Answer):
        return event.stream, "ok"
    text = next((words for words in OWN_WORDS if event.text.startswith(words)), event.text)
    return event.stream, event.code, text


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_bare_client_meets_what_it_meets_at_the_reference(
    case: dict[str, Any], listening: Callable[..., Served]
) -> None:
    served = listening(
        Runtime("test-runtime", *recorded_runtime()),
        timeouts=Timeouts(registration=0.7, request=0.4),
        existing=lambda: ([Pod(id="p")], []),
        update=lambda updates: [each for each in updates if each.container_id == "bad"],
    )
    client, expected = Client(served), b""
    with client.connection:
        for step in case["steps"]:
            data = bytes.fromhex(step["hex"])
            if SESSION[step["dir"]] is Role.PLUGIN:
                served.until(lambda: listened(client) >= len(meanings(expected)))  # noqa: B023
                client.say(data)
            else:
                expected += data
        served.until(lambda: listened(client) >= len(meanings(expected)))
        if case["closed"]:
            served.until(lambda: listened(client) >= 0 and client.closed)
        assert meanings(client.heard) == without_text_of_updates(expected)
        assert bool(served.adaptation.plugins) is case["accepted"]


def listened(client: Client) -> int:
    client.listen()
    return len(meanings(client.heard))


def without_text_of_updates(expected: bytes) -> list[Any]:
    """Put our sentence in the place of what the reference's test function said."""
    ours = "NRI update of some containers failed: bad"
    return [text.replace("some updates failed", ours) for text in meanings(expected)]


def recorded_runtime() -> tuple[str, tuple[int, int, int]]:
    """Return the version that the recording runtime told, and that of its NRI."""
    (configure,) = {
        step["hex"]
        for step in CASES[0]["steps"]
        if step["about"].endswith("request 1 Plugin.Configure")
    }
    envelope = ttrpc_pb2.Request.FromString(bytes.fromhex(configure)[18:])
    request = api.ConfigureRequest.FromString(envelope.payload)
    numbers = request.NRI_version.lstrip("v").partition("-")[0].split(".")
    major, minor, patch = map(int, numbers)
    return request.runtime_version, (major, minor, patch)


def test_two_registrations_of_one_connection_are_answered_and_the_first_counts() -> None:
    ours, theirs = socket.socketpair()
    with theirs, closing(Peer(ours)) as peer:
        session = Session(Role.PLUGIN)
        for name in ("first", "second"):
            session.call(
                "RegisterPlugin", api.RegisterPluginRequest(plugin_name=name, plugin_idx="10")
            )
        theirs.sendall(session.outgoing())
        peer.register(BOUND)
        assert peer.title == "10-first"
        assert [type(event) for event in session.receive(theirs.recv(1 << 16))] == [Answer, Answer]
