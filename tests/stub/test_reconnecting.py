"""Plugins that dial a runtime's socket, and dial it again."""

from __future__ import annotations

import contextlib
import queue
import socket
from pathlib import Path
from typing import Any

import pytest
from support.stubs import (
    NAME,
    POD,
    TIMEOUT,
    UPDATES,
    Heard,
    Listener,
    Running,
    external,
    plugin,
)

from nri_inject import api
from nri_inject.errors import NriError, RemoteError
from nri_inject.host import watch
from nri_inject.plugin import Plugin
from nri_inject.stub import Stub

pytestmark = pytest.mark.slow


def test_an_external_plugin_comes_back_registers_and_synchronizes_anew(path: Path) -> None:
    told: queue.Queue[Any] = queue.Queue()

    def synchronize(pods: Any, _: object) -> None:
        told.put(pods)

    exists = api.SynchronizeRequest(pods=[POD])
    with Listener(path) as listener, external(plugin(synchronize=synchronize), path) as running:
        for _ in range(3):
            with listener.accept() as peer:
                peer.take_in()
                assert told.get(timeout=TIMEOUT) == []
                assert peer.ask("Synchronize", exists) == api.SynchronizeResponse()
                assert told.get(timeout=TIMEOUT) == [POD]
        running.stub.stop()
        assert running.outcome() is None


def test_half_of_a_split_synchronize_is_forgotten_with_its_connection(path: Path) -> None:
    told: queue.Queue[Any] = queue.Queue()

    def synchronize(pods: Any, _: object) -> None:
        told.put(pods)

    with Listener(path) as listener, external(plugin(synchronize=synchronize), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.configure()
            peer.ask("Synchronize", api.SynchronizeRequest(pods=[POD], more=True))
        with listener.accept() as peer:
            peer.take_in()
            assert told.get(timeout=TIMEOUT) == []


def test_a_missing_socket_is_logged_and_tried_again(path: Path, heard: Heard) -> None:
    with external(plugin(), path):
        for _ in range(3):
            cause = f"cannot connect to {path}: No such file or directory"
            assert heard.line().startswith(f"{cause}; reconnecting in 0.")
        with Listener(path) as listener, listener.accept() as peer:
            peer.take_in()


def test_a_socket_that_appears_is_dialled_at_once(path: Path, heard: Heard) -> None:
    with external(plugin(), path, first_pause=1000.0, max_pause=1000.0):
        assert heard.line().startswith(f"cannot connect to {path}: No such file or directory")
        with Listener(path) as listener, listener.accept() as peer:
            peer.take_in()


def test_a_runtime_that_comes_back_is_dialled_at_once(path: Path, heard: Heard) -> None:
    with external(plugin(), path, first_pause=1000.0, max_pause=1000.0):
        heard.line()
        for _ in range(3):
            with Listener(path) as listener, listener.accept() as peer:
                peer.take_in()
            # Before that the socket may have been refused: it is bound before it listens.
            while not heard.line().startswith(f"lost the connection to {path}; reconnecting"):
                pass
            path.unlink()


def test_a_directory_that_appears_with_the_socket_is_seen(path: Path, heard: Heard) -> None:
    socket_path = path.parent / "nri" / "nri.sock"
    with external(plugin(), socket_path, first_pause=1000.0, max_pause=1000.0):
        heard.line()
        socket_path.parent.mkdir()
        with Listener(socket_path) as listener, listener.accept() as peer:
            peer.take_in()


def test_without_inotify_the_pauses_are_waited_for(
    path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_open", lambda: None)
    with external(plugin(), path):
        assert heard.line().startswith("cannot connect to ")
        with Listener(path) as listener, listener.accept() as peer:
            peer.take_in()


def test_a_lost_connection_is_logged(path: Path, heard: Heard) -> None:
    with Listener(path) as listener, external(plugin(), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
        assert heard.line() == "the runtime closed the connection before it configured the plugin"
        assert heard.line().startswith(f"lost the connection to {path}; reconnecting in 0.")
        with listener.accept() as peer:
            peer.take_in()


def test_a_runtime_that_stays_silent_is_dialled_again(path: Path) -> None:
    with (
        Listener(path) as listener,
        external(plugin(), path, handshake_timeout=0.05),
        listener.accept() as silent,
        listener.accept() as second,
    ):
        silent.called("RegisterPlugin")
        assert silent.sees_the_end()
        second.called("RegisterPlugin")


def test_a_runtime_that_never_synchronizes_is_dialled_again(path: Path) -> None:
    with Listener(path) as listener, external(plugin(), path, handshake_timeout=0.5):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.configure()
            assert peer.sees_the_end()
        with listener.accept() as peer:
            peer.take_in()


def test_a_runtime_that_breaks_the_protocol_is_dialled_again(path: Path, heard: Heard) -> None:
    with Listener(path) as listener, external(plugin(), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.connection.sendall(b"HTTP/1.1")
            assert heard.line().startswith("multiplexer frame of 791752241 bytes")
            assert peer.sees_the_end()
        with listener.accept() as peer:
            peer.take_in()


@pytest.mark.parametrize("abruptly", [False, True], ids=["closed", "broken"])
def test_pauses_stay_short_after_connections_that_had_served(
    path: Path, heard: Heard, abruptly: bool
) -> None:
    with Listener(path) as listener, external(plugin(), path, max_pause=30.0):
        for _ in range(6):
            with listener.accept() as peer:
                peer.take_in()
                if abruptly:  # a socket that is closed with unread bytes breaks the other end
                    peer.call("Shutdown", api.Empty())
                    assert peer.connection.recv(1, socket.MSG_PEEK)
            if abruptly:
                assert (
                    heard.line() == "the connection to the runtime broke: Connection reset by peer"
                )
            assert heard.line() == f"lost the connection to {path}; reconnecting in 0.0 s"


def test_a_plugin_that_failed_to_synchronize_comes_back(path: Path) -> None:
    faults = [NriError("not now")]

    def synchronize(*_: object) -> None:
        if faults:
            raise faults.pop()

    with Listener(path) as listener, external(plugin(synchronize=synchronize), path):
        with listener.accept() as peer:
            peer.called("RegisterPlugin")
            peer.configure()
            assert peer.fail("Synchronize", api.SynchronizeRequest()).text == "not now"
            assert peer.sees_the_end()
        with listener.accept() as peer:
            peer.take_in()


def test_a_refusal_after_having_served_is_outlived(path: Path, heard: Heard) -> None:
    with Listener(path) as listener, external(plugin(), path):
        with listener.accept() as peer:
            peer.take_in()
        assert heard.line().startswith("lost the connection")
        with listener.accept() as peer:
            peer.refuse(peer.called("RegisterPlugin"), "not now")
            assert heard.line() == "the runtime refused the registration: not now (status 2)"
        with listener.accept() as peer:
            peer.take_in()


def test_a_runtime_that_accepts_nobody_is_tried_again(path: Path, heard: Heard) -> None:
    with Listener(path), contextlib.ExitStack() as crowd:
        with contextlib.suppress(BlockingIOError):
            while True:
                client = crowd.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        with external(plugin(), path, connect_timeout=0.05):
            for _ in range(2):
                assert heard.line().startswith(f"cannot connect to {path}: ")


def test_a_refused_external_plugin_does_not_try_again(path: Path) -> None:
    with Listener(path) as listener, external(plugin(), path) as running:
        with listener.accept() as peer:
            peer.refuse(peer.called("RegisterPlugin"), "no")
        assert isinstance(running.outcome(), RemoteError)


def test_an_update_waits_for_the_next_connection(path: Path) -> None:
    with external(plugin(), path) as running:
        running.stub.update(UPDATES)
        with Listener(path) as listener, listener.accept() as peer:
            peer.answer(peer.called("RegisterPlugin"), api.Empty())
            peer.configure()
            call = peer.called("UpdateContainers")
            assert call.request == api.UpdateContainersRequest(update=UPDATES)


def test_stop_ends_an_external_plugin_while_it_pauses(path: Path, heard: Heard) -> None:
    with external(plugin(), path, first_pause=1000.0, max_pause=1000.0) as running:
        heard.line()
        running.stub.stop()
        assert running.outcome() is None


def together(path: Path, *plugins: Plugin) -> Running:
    first, *others = plugins
    running = external(first, path)
    for other in others:
        running.stub.add_plugin(other)
    return running


def named(index: str, calls: queue.Queue[str]) -> Plugin:
    return Plugin(name=NAME, index=index, run_pod_sandbox=lambda _: calls.put(index))


def test_several_plugins_are_served_in_one_loop_each_on_its_own_connection(path: Path) -> None:
    calls: queue.Queue[str] = queue.Queue()
    plugins = named("00", calls), named("99", calls)
    with (
        Listener(path) as listener,
        together(path, *plugins),
        listener.accept() as low,
        listener.accept() as high,
    ):
        for peer in (low, high):
            peer.take_in()
        for peer in (high, low, high):
            peer.ask("RunPodSandbox", api.RunPodSandboxRequest(pod=POD))
    assert [calls.get(timeout=TIMEOUT) for _ in range(3)] == ["99", "00", "99"]


def test_with_one_connection_all_are_lost_and_dialled_again(path: Path) -> None:
    with Listener(path) as listener, together(path, plugin(), plugin()):
        with listener.accept() as low, listener.accept() as high:
            low.take_in()
            high.take_in()
            low.close()
            assert high.sees_the_end()
        with listener.accept() as low, listener.accept() as high:
            low.take_in()
            high.take_in()


def test_a_launched_plugin_has_one_connection_only() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tested = Stub(plugin(), connection=theirs)
        assert tested.launched
        with pytest.raises(ValueError, match="a launched plugin has one connection"):
            tested.add_plugin(plugin())
        tested.stop()
        tested.run()
