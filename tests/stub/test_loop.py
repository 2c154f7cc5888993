"""What a plugin waits for, what it does after a response, and how it ends."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.stubs import (
    CREATE,
    LONG,
    TIMEOUT,
    UPDATES,
    Asking,
    Peer,
    Running,
    launched,
    plugin,
    raising,
)

from nri_inject import api
from nri_inject.capabilities import identify
from nri_inject.errors import NriError, RemoteError
from nri_inject.runtime.launcher import launch
from nri_inject.stub import Stub


class Afterwards:
    """A plugin whose handler has something done afterwards, and what has been done."""

    def __init__(self, meanwhile: Callable[[], None], then: Callable[[], None]) -> None:
        self.plugin = plugin(create_container=self.create_container)
        self.stub: Stub | None = None
        self.done: list[str] = []
        self.meanwhile = meanwhile
        self._then = then

    def create_container(self, *_: object) -> None:
        assert self.stub is not None
        self.stub.after_response(self._do)
        self.done.append("asked")
        self.meanwhile()

    def _do(self) -> None:
        self.done.append("told")
        self._then()


@contextlib.contextmanager
def following(
    meanwhile: Callable[[], None] = lambda: None, then: Callable[[], None] = lambda: None
) -> Iterator[tuple[Peer, Running, Afterwards]]:
    """Run a plugin that does something afterwards."""
    tested = Afterwards(meanwhile, then)
    with launched(tested.plugin) as (peer, running):
        tested.stub = running.stub
        peer.take_in()
        yield peer, running, tested


def test_what_follows_an_answer_is_done_when_the_runtime_can_have_it() -> None:
    answered = threading.Event()
    waited: list[bool] = []
    with following(then=lambda: waited.append(answered.wait(TIMEOUT))) as (peer, _, _):
        peer.ask("CreateContainer", CREATE)
        answered.set()
        peer.ask("Shutdown", api.Empty())
        assert waited == [True]


def test_what_follows_an_answer_is_done_before_anything_else_is_read() -> None:
    with following() as (peer, _, tested):
        peer.ask("CreateContainer", CREATE)
        peer.ask("CreateContainer", CREATE)
        peer.ask("Shutdown", api.Empty())
        assert tested.done == ["asked", "told", "asked", "told"]


def test_what_follows_an_answer_follows_an_error_too() -> None:
    with following(meanwhile=raising(NriError("no such device"))) as (peer, _, tested):
        assert peer.fail("CreateContainer", CREATE).text == "no such device"
        peer.ask("Shutdown", api.Empty())
        assert tested.done == ["asked", "told"]


def test_what_follows_an_answer_is_done_though_the_stub_is_to_stop() -> None:
    with following() as (peer, running, tested):
        tested.meanwhile = running.stub.stop
        peer.ask("CreateContainer", CREATE)
        assert running.outcome() is None
        assert tested.done == ["asked", "told"]


def test_what_follows_an_answer_is_done_though_nobody_is_there_to_have_it() -> None:
    with following() as (peer, running, tested):
        tested.meanwhile = peer.close
        peer.call("CreateContainer", CREATE)
        running.outcome()
        assert tested.done == ["asked", "told"]


def test_a_bug_in_what_follows_an_answer_is_logged_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with following(then=raising(KeyError("gone"))) as (peer, _, _):
        peer.ask("CreateContainer", CREATE)
        peer.ask("CreateContainer", CREATE)
        peer.ask("Shutdown", api.Empty())
    told = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert told == ["a callback after the response failed"] * 2


def test_stop_ends_a_running_plugin() -> None:
    with launched(plugin()) as (peer, running):
        peer.take_in()
        running.stub.stop()
        assert running.outcome() is None
        assert peer.sees_the_end()


def test_stop_from_a_handler_lets_the_handler_answer() -> None:
    asked = Asking()
    with launched(asked.plugin) as (peer, running):
        asked.ask = running.stub.stop
        peer.take_in()
        response = peer.ask("CreateContainer", CREATE)
        assert response == api.CreateContainerResponse(adjust=api.Adjustment(args=["created"]))
        assert running.outcome() is None


def test_stop_before_run_and_after_it_does_no_harm() -> None:
    ours, theirs = socket.socketpair()
    with Peer(ours):
        tested = Stub(plugin(), connection=theirs)
        tested.stop()
        tested.run()
        tested.stop()
        tested.update(UPDATES)


class Bell:
    """Something else that a plugin watches."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.rung: queue.Queue[bytes] = queue.Queue()

    def fileno(self) -> int:
        return self.end.fileno()

    def ready(self) -> None:
        self.rung.put(self.end.recv(100))


def test_other_things_are_watched_even_while_a_peer_does_not_read() -> None:
    near, far = socket.socketpair()
    bell = Bell(near)
    with near, far, launched(plugin(create_container=lambda *_: LONG), watches=[bell]) as (peer, _):
        far.sendall(b"before")
        assert bell.rung.get(timeout=TIMEOUT) == b"before"
        peer.take_in()
        peer.call("CreateContainer", CREATE)
        assert peer.connection.recv(1, socket.MSG_PEEK)
        far.sendall(b"meanwhile")
        assert bell.rung.get(timeout=TIMEOUT) == b"meanwhile"
        peer.event()


def test_what_a_plugin_watches_may_change_while_it_runs() -> None:
    near, far = socket.socketpair()
    bell = Bell(near)
    asked = Asking()
    with near, far, launched(asked.plugin) as (peer, running):
        peer.take_in()
        asked.ask = lambda: running.stub.watch(bell)
        peer.ask("CreateContainer", CREATE)
        far.sendall(b"heard")
        assert bell.rung.get(timeout=TIMEOUT) == b"heard"
        asked.ask = lambda: running.stub.unwatch(bell)
        peer.ask("CreateContainer", CREATE)
        far.sendall(b"ignore_warning")
        peer.ask("Shutdown", api.Empty())
        assert bell.rung.empty()


class Cracked(Bell):
    """A bell that cannot be heard."""

    def ready(self) -> None:
        raise KeyError("bug")

    def __repr__(self) -> str:
        return "the bell"


def test_a_watch_that_fails_is_logged_once_and_does_no_other_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    near, far = socket.socketpair()
    with near, far, launched(plugin(), watches=[Cracked(near)]) as (peer, _):
        far.sendall(b"ring")
        peer.take_in()
        peer.ask("Shutdown", api.Empty())
    assert caplog.messages.count("the bell failed and is no longer watched") == 1


PROGRAM = textwrap.dedent("""
    from nri_inject.api import Adjustment
    from nri_inject.plugin import Plugin
    from nri_inject.stub import serve

    def create_container(pod, container):
        return Adjustment(args=[container.name])

    serve(Plugin(name="tiny", index="10", create_container=create_container))
""")


LAUNCHER = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])"


@contextlib.contextmanager
def process() -> Iterator[tuple[Peer, subprocess.Popen[bytes]]]:
    """Start a plugin as runtimes do: descriptor 3 and next to no environment."""
    ours, theirs = socket.socketpair()
    with theirs, Peer(ours) as peer:
        number = theirs.fileno()
        child = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, str(number), sys.executable, "-c", PROGRAM],
            env={"PATH": os.environ["PATH"], "NRI_PLUGIN_SOCKET": "3"},
            pass_fds=[number],
            cwd=Path(__file__).parents[1],
        )
        theirs.close()
        with child:
            try:
                yield peer, child
            finally:
                child.kill()


@pytest.mark.slow
def test_sigterm_ends_a_launched_process_well() -> None:
    with process() as (peer, child):
        peer.take_in()
        response = peer.ask("CreateContainer", CREATE)
        assert response == api.CreateContainerResponse(adjust=api.Adjustment(args=["web"]))
        child.terminate()
        assert child.wait(TIMEOUT) == 0


@pytest.mark.slow
def test_a_launched_process_ends_well_with_its_runtime() -> None:
    with process() as (peer, child):
        peer.take_in()
        peer.close()
        assert child.wait(TIMEOUT) == 0


@pytest.mark.slow
def test_a_signal_ends_a_wait_that_has_not_begun_yet(tmp_path: Path) -> None:
    """Without a descriptor that the signal itself writes to, such a signal would be slept over."""
    program = tmp_path / "10-asks"
    program.write_text(
        f"#!{sys.executable}\n"
        "import signal\n"
        "from nri_inject import ConfigError, Plugin, serve\n"
        "def configure(request):\n"
        "    raise ConfigError(f'woken by a descriptor: {signal.set_wakeup_fd(-1) >= 0}')\n"
        "serve(Plugin(name='asks', index='10', configure=configure))\n"
    )
    program.chmod(0o755)
    with contextlib.closing(launch(program)) as peer:
        peer.register()
        with pytest.raises(RemoteError) as caught:
            peer.configure(identify("containerd", "2.1.9"))
    assert caught.value.message == "woken by a descriptor: True"
