"""Several plugins at once: their order, what they see of each other, and who is dropped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.children import children

from nri_inject.api import (
    Adjustment,
    Container,
    ContainerUpdate,
    Pod,
)
from nri_inject.capabilities import identify
from nri_inject.errors import ConnectionLost, NriError, RemoteError
from nri_inject.runtime.adaptation import Adaptation
from nri_inject.runtime.launcher import launch
from nri_inject.runtime.owners import Conflict
from nri_inject.runtime.peer import Updater

pytestmark = pytest.mark.slow

POD = Pod(id="p0", name="web", namespace="default")
CONTAINER = Container(id="c0", name="app", env=["HOME=/"])

# `create(pod, container)` and whatever else a test gives goes in the middle.
PLUGIN = """#!{python}
import os, signal, sys
sys.path[:0] = {path!r}
from nri_inject import api, plugin, stub
from nri_inject.errors import NriError

def configure(request):
    pass

def create(pod, container):
    pass

events = None
{body}
made = plugin.Plugin(
    name=os.environ["NRI_PLUGIN_NAME"],
    index=os.environ["NRI_PLUGIN_IDX"],
    configure=configure,
    create_container=create,
)
running = stub.Stub(made, connection=stub.launched_connection(os.environ))
running.run()
"""

NOTHING = ""
SAYS_WHO = """
def create(pod, container):
    env = [api.KeyValue(key=f"SEEN_{made.index}_{made.name}", value=" ".join(container.env))]
    return api.Adjustment(env=env)
"""
WANTS_ARGS = """
def create(pod, container):
    return api.Adjustment(args=["sh"])
"""
REFUSES = """
def create(pod, container):
    raise NriError(f"pod {pod.name} may not")
"""
HANGS = """
def create(pod, container):
    signal.pause()
"""
DIES = """
def create(pod, container):
    os._exit(1)
"""
BAD_CONFIGURATION = """
def configure(request):
    raise NriError(f"cannot use {request.config}")
"""

Install = Callable[..., int]


@pytest.fixture(autouse=True)
def before() -> Iterator[set[int]]:
    """Give the processes that were there before, and check that the test adds none to them."""
    found = children()
    yield found
    assert children() == found


@pytest.fixture
def adaptation() -> Iterator[Adaptation]:
    with Adaptation() as opened:
        yield opened


@pytest.fixture
def install(tmp_path: Path, adaptation: Adaptation) -> Install:
    """Give a function that writes a plugin and launches it; returns its process id."""
    number = iter(range(1000))

    def installed(title: str, body: str, config: str = "", update: Updater | None = None) -> int:
        folder = tmp_path / str(next(number))  # so that two may have one name
        folder.mkdir()
        path = folder / title
        path.write_text(PLUGIN.format(python=sys.executable, path=sys.path, body=body))
        path.chmod(0o755)
        peer = launch(path, update)
        assert peer.pid is not None
        pid = peer.pid
        adaptation.add(peer, config)
        return pid

    return installed


def env(adjust: Adjustment) -> list[str]:
    return [f"{entry.key}={entry.value}" for entry in adjust.env]


def test_without_plugins_a_container_is_created_as_it_is(adaptation: Adaptation) -> None:
    created = adaptation.create_container(POD, CONTAINER)
    assert (env(created.merged.adjust), created.merged.updates) == ([], ())
    assert not created.owners.owners


def test_plugins_are_asked_in_the_order_of_their_indexes(
    adaptation: Adaptation, install: Install
) -> None:
    for title in ("50-c", "05-a", "10-b"):
        install(title, SAYS_WHO)
    adjust = adaptation.create_container(POD, CONTAINER).merged.adjust
    assert [entry.key for entry in adjust.env] == ["SEEN_05_a", "SEEN_10_b", "SEEN_50_c"]


def test_plugins_of_one_index_are_asked_in_the_order_in_which_they_came(
    adaptation: Adaptation, install: Install
) -> None:
    for title in ("10-z", "10-m", "10-a", "09-q"):
        install(title, SAYS_WHO)
    adjust = adaptation.create_container(POD, CONTAINER).merged.adjust
    assert [entry.key for entry in adjust.env] == [
        "SEEN_09_q",
        "SEEN_10_z",
        "SEEN_10_m",
        "SEEN_10_a",
    ]


def test_a_later_plugin_sees_what_the_earlier_one_changed(
    adaptation: Adaptation, install: Install
) -> None:
    install("20-b", SAYS_WHO)
    install("10-a", SAYS_WHO)
    created = adaptation.create_container(POD, CONTAINER)
    assert env(created.merged.adjust) == [
        "SEEN_10_a=HOME=/",
        "SEEN_20_b=HOME=/ SEEN_10_a=HOME=/",
    ]
    owners = created.owners.owners["c0"].compound
    assert [dict(compound.owners) for compound in owners.values()] == [
        {"SEEN_10_a": "10-a", "SEEN_20_b": "20-b"}
    ]


def test_one_container_leaves_no_trace_in_the_next(
    adaptation: Adaptation, install: Install
) -> None:
    install("10-a", SAYS_WHO)
    first = adaptation.create_container(POD, CONTAINER)
    assert adaptation.create_container(POD, CONTAINER) == first
    assert list(CONTAINER.env) == ["HOME=/"]


def test_a_conflict_names_both_plugins_and_neither_is_dropped(
    adaptation: Adaptation, install: Install
) -> None:
    install("10-a", WANTS_ARGS)
    install("20-b", WANTS_ARGS)
    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            adaptation.create_container(POD, CONTAINER)
        assert str(caught.value) == 'plugins "20-b" and "10-a" both tried to set Args'
    assert adaptation.dropped == []


def test_a_status_fails_the_container_and_the_plugin_stays(
    adaptation: Adaptation, install: Install
) -> None:
    install("10-a", REFUSES)
    for name in ("web", "db"):
        with pytest.raises(RemoteError) as caught:
            adaptation.create_container(Pod(name=name), CONTAINER)
        assert caught.value.message == f"pod {name} may not"
    assert adaptation.dropped == []


def test_a_plugin_that_dies_is_dropped_and_the_container_goes_on_without_it(
    adaptation: Adaptation, install: Install
) -> None:
    install("10-a", DIES)
    install("20-b", SAYS_WHO)
    for _ in range(2):
        adjust = adaptation.create_container(POD, CONTAINER).merged.adjust
        assert env(adjust) == ["SEEN_20_b=HOME=/"]
    assert adaptation.dropped == [
        "plugin 10-a: the connection ended before the answer to CreateContainer"
    ]


def test_a_plugin_that_does_not_answer_is_dropped_after_two_seconds(
    adaptation: Adaptation, install: Install
) -> None:
    pid = install("10-a", HANGS)
    install("20-b", SAYS_WHO)
    started = time.monotonic()
    adjust = adaptation.create_container(POD, CONTAINER).merged.adjust
    assert 2.0 <= time.monotonic() - started < 4.0
    assert env(adjust) == ["SEEN_20_b=HOME=/"]
    assert adaptation.dropped == ["plugin 10-a did not answer CreateContainer in time"]
    assert not Path(f"/proc/{pid}").exists()  # killed at once, and reaped
    started = time.monotonic()
    adaptation.create_container(POD, CONTAINER)
    assert time.monotonic() - started < 2.0


def test_a_drop_is_logged(
    adaptation: Adaptation, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("10-a", DIES)
    adaptation.create_container(POD, CONTAINER)
    assert [record.getMessage() for record in caplog.records] == [
        "plugin 10-a: the connection ended before the answer to CreateContainer; it is disconnected"
    ]


def test_a_plugin_that_did_not_subscribe_is_not_asked(
    adaptation: Adaptation, install: Install
) -> None:
    install("10-a", "create = None")
    assert env(adaptation.create_container(POD, CONTAINER).merged.adjust) == []
    assert adaptation.dropped == []


def test_a_plugin_that_refuses_its_configuration_is_not_added(
    adaptation: Adaptation, install: Install, before: set[int]
) -> None:
    with pytest.raises(RemoteError) as caught:
        install("10-a", BAD_CONFIGURATION, "a: 1")
    assert caught.value.message == "cannot use a: 1"
    assert children() == before
    assert env(adaptation.create_container(POD, CONTAINER).merged.adjust) == []


def test_a_plugin_that_ends_at_once_is_not_added(
    adaptation: Adaptation, install: Install, before: set[int]
) -> None:
    with pytest.raises(ConnectionLost) as caught:
        install("10-a", "sys.exit(1)")
    assert str(caught.value) == "plugin 10-a ended"
    assert children() == before
    adaptation.create_container(POD, CONTAINER)


def test_a_plugin_that_wants_later_events_is_refused_by_an_older_runtime(
    install: Install, adaptation: Adaptation, before: set[int]
) -> None:
    asks_for_all = """
import socket
from nri_inject.wire.session import Call, Role, Session

connection, session = socket.socket(fileno=3), Session(Role.PLUGIN)
session.call("RegisterPlugin", api.RegisterPluginRequest())
while True:
    connection.sendall(session.outgoing())
    for event in session.receive(connection.recv(1 << 16)):
        if isinstance(event, Call):
            session.answer(event, api.ConfigureResponse(events=0x3FFF))
"""
    adaptation.runtime = identify("containerd", "2.1.9")
    with pytest.raises(NriError) as caught:
        install("10-a", asks_for_all)
    assert str(caught.value) == "plugin 10-a requests invalid events: 0x3800"
    assert children() == before


ASKS_FOR_UPDATES = """
def create(pod, container):
    running.update([api.ContainerUpdate(container_id="c1"), api.ContainerUpdate(container_id="c2")])
"""


def test_an_update_that_a_plugin_asks_for_reaches_the_runtime(
    adaptation: Adaptation, install: Install
) -> None:
    reached: list[list[str]] = []

    def update(updates: list[ContainerUpdate]) -> list[ContainerUpdate]:
        reached.append([one.container_id for one in updates])
        return []

    install("10-a", ASKS_FOR_UPDATES, update=update)
    adaptation.create_container(POD, CONTAINER)
    adaptation.create_container(POD, CONTAINER)  # while it waits for this, it hears the first one
    assert reached[0] == ["c1", "c2"]


def test_updates_in_an_answer_are_collected(adaptation: Adaptation, install: Install) -> None:
    body = """
def create(pod, container):
    memory = api.LinuxMemory(limit=api.OptionalInt64(value=7))
    linux = api.LinuxContainerUpdate(resources=api.LinuxResources(memory=memory))
    update = api.ContainerUpdate(container_id="other", linux=linux)
    return api.CreateContainerResponse(update=[update])
"""
    install("10-a", body)
    (update,) = adaptation.create_container(POD, CONTAINER).merged.updates
    assert (update.container_id, update.linux.resources.memory.limit.value) == ("other", 7)


def test_an_update_of_the_container_being_created_fails_it(
    adaptation: Adaptation, install: Install
) -> None:
    body = """
def create(pod, container):
    update = api.ContainerUpdate(container_id=container.id)
    return api.CreateContainerResponse(update=[update])
"""
    install("10-a", body)
    with pytest.raises(NriError) as caught:
        adaptation.create_container(POD, CONTAINER)
    assert str(caught.value) == 'plugin "10-a" asked update of "c0" during creation'


def test_close_ends_every_plugin(
    adaptation: Adaptation, install: Install, before: set[int]
) -> None:
    pids = [install(f"{index}-a", NOTHING) for index in (10, 20, 30)]
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    adaptation.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert children() == before
    adaptation.close()


def test_close_reaps_a_plugin_that_died_by_itself(tmp_path: Path, before: set[int]) -> None:
    path = tmp_path / "10-a"
    path.write_text(f"#!{sys.executable} -IS\n")
    path.chmod(0o755)
    with closing(launch(path)) as peer, pytest.raises(ConnectionLost):
        peer.register()
    assert children() == before


def test_an_answer_of_the_wrong_kind_is_a_status(adaptation: Adaptation, install: Install) -> None:
    install("10-a", "def create(pod, container):\n    return 1\n")
    with pytest.raises(RemoteError) as caught:
        adaptation.create_container(POD, CONTAINER)
    assert caught.value.message == "plugin a failed in CreateContainer, see its log"
