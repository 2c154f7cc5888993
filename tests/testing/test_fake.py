"""The kit for authors of plugins: what its runtime does for a test, and what it notices."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.children import children

from nri_inject.api import Adjustment, Container, KeyValue, Pod
from nri_inject.capabilities import identify
from nri_inject.errors import NriError, RemoteError
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.compose import compose
from nri_inject.injectors.host import Host
from nri_inject.plugin import Plugin
from nri_inject.pytest_plugin import NewRuntime
from nri_inject.runtime import Timeouts
from nri_inject.testing import FakeRuntime, make_container, make_pod
from nri_inject.wire.recording import Recorder, RecordingError

POD = make_pod("web", annotations={"who": "world"})
MAIN = make_container(POD, "main")


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before, threads = children(), set(threading.enumerate())
    yield
    assert children() == before
    assert {each for each in threading.enumerate() if each.is_alive()} <= threads


def greet(pod: Pod, container: Container) -> Adjustment:
    text = f"{pod.annotations['who']}, {container.name}"
    return Adjustment(env=[KeyValue(key="HELLO", value=text)])


GREETER = Plugin(name="greeter", index="10", create_container=greet)


def env_of(runtime: FakeRuntime) -> list[str]:
    runtime.run_pod(POD)
    found: list[str] = runtime.create(MAIN).spec["process"]["env"]
    return found


def test_a_plugin_runs_in_this_process() -> None:
    with FakeRuntime() as runtime:
        stub = runtime.connect(GREETER)
        assert env_of(runtime) == ["HELLO=world, main"]
        assert stub.plugin is GREETER


def test_the_fixtures_come_from_the_installed_package(
    nri_runtime: FakeRuntime, new_nri_runtime: NewRuntime
) -> None:
    nri_runtime.connect(GREETER)
    assert env_of(nri_runtime) == ["HELLO=world, main"]
    old = new_nri_runtime("containerd/1.7.24")
    assert old.adaptation.runtime == identify("containerd", "1.7.24")


def test_the_drop_in_configuration_and_the_runtime_are_told() -> None:
    heard: list[tuple[str, str]] = []
    plugin = Plugin(
        name="a",
        index="10",
        configure=lambda request: heard.append((request.config, request.runtime_version)),
    )
    with FakeRuntime(identify("containerd", "2.1.9")) as runtime:
        runtime.connect(plugin, "some: text")
    assert heard == [("some: text", "2.1.9")]


def test_a_plugin_that_refuses_its_configuration_is_an_error() -> None:
    def refuse(_: object) -> None:
        raise NriError("cannot use that")

    with FakeRuntime() as runtime, pytest.raises(RemoteError) as caught:
        runtime.connect(Plugin(name="a", index="10", configure=refuse))
    assert caught.value.message == "cannot use that"


def test_a_bug_in_a_handler_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with FakeRuntime() as runtime:
        runtime.connect(Plugin(name="a", index="10", create_container=broken))
        runtime.run_pod(POD)
        with pytest.raises(RemoteError, match="plugin a failed in CreateContainer"):
            runtime.create(MAIN)
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_an_injector_needs_no_plugin_and_no_policy() -> None:
    null = DeviceNode("/dev/null", "c", 1, 3, 0o666, 0, 0)

    def inject(_: Pod, __: Container, host: Host) -> Adjustment:
        adjustment = Adjustment()
        node = host.devices["/dev/null"]
        adjustment.linux.devices.add(path=node.path, type=node.type, major=1, minor=node.minor)
        return adjustment

    with FakeRuntime() as runtime:
        runtime.connect_injector(compose(inject), Host(devices={"/dev/null": null}))
        runtime.run_pod(POD)
        made = runtime.create(MAIN)
    (device,) = made.spec["linux"]["devices"]
    assert device == {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}


PROGRAM = f"""#!{sys.executable}
import os, sys
sys.path[:0] = {sys.path!r}
from nri_inject import Adjustment, Plugin, serve

def create(pod, container):
    adjustment = Adjustment()
    adjustment.env.add(key="HELLO", value=os.environ["NRI_PLUGIN_NAME"])
    return adjustment

serve(Plugin(name="whatever", index="00", create_container=create))
"""


@pytest.mark.slow
def test_an_executable_is_launched(tmp_path: Path) -> None:
    for file_name, title in (("30-own", ""), ("any.py", "40-given")):
        path = tmp_path / file_name
        path.write_text(PROGRAM)
        path.chmod(0o755)
        with FakeRuntime() as runtime:
            runtime.launch(path, title=title)
            expected = (title or file_name).partition("-")[2]
            assert env_of(runtime) == [f"HELLO={expected}"]
            assert runtime.adaptation.plugins == [title or file_name]


@pytest.mark.slow
def test_a_handler_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nri_inject.testing.fake._FAREWELL", 0.1)
    release = threading.Event()
    runtime = FakeRuntime(timeouts=Timeouts(request=0.2))

    def hang(*_: object) -> None:
        release.wait(10)

    runtime.connect(Plugin(name="slow", index="10", create_container=hang))
    runtime.run_pod(POD)
    runtime.create(MAIN)
    assert runtime.adaptation.dropped == ["plugin 10-slow did not answer CreateContainer in time"]
    with pytest.raises(RuntimeError, match=r"^still in a handler: 10-slow$"):
        runtime.close()
    (thread,) = [each for each in threading.enumerate() if each.name == "10-slow"]
    release.set()
    thread.join(10)


# --- record and replay ----------------------------------------------------------------------------


def record(path: Path, plugin: Plugin = GREETER) -> None:
    with path.open("w", encoding="utf-8") as file, FakeRuntime() as runtime:
        runtime.connect(plugin, tap=Recorder(file.write))
        env_of(runtime)


def test_a_recorded_session_is_answered_the_same(tmp_path: Path) -> None:
    record(tmp_path / "session.jsonl")
    with FakeRuntime() as runtime:
        assert runtime.replay(GREETER, tmp_path / "session.jsonl") == []


def test_a_plugin_that_answers_otherwise_is_told_apart(tmp_path: Path) -> None:
    record(tmp_path / "session.jsonl")

    def other(*_: object) -> Adjustment:
        return Adjustment(args=["x"])

    def fails(*_: object) -> Adjustment:
        raise NriError("no")

    was = '{"adjust": {"env": [{"key": "HELLO", "value": "world, main"}]}}'
    with FakeRuntime() as runtime:
        for handler, answer in ((other, '{"adjust": {"args": ["x"]}}'), (fails, 'status 2 "no"')):
            plugin = Plugin(name="greeter", index="10", create_container=handler)
            assert runtime.replay(plugin, tmp_path / "session.jsonl") == [
                f"4. CreateContainer web main: answered {answer}, recorded is {was}"
            ]


def test_other_subscriptions_are_a_difference(tmp_path: Path) -> None:
    record(tmp_path / "session.jsonl")
    plugin = Plugin(
        name="greeter", index="10", create_container=greet, stop_container=lambda *_: None
    )
    with FakeRuntime() as runtime:
        (difference,) = runtime.replay(plugin, tmp_path / "session.jsonl")
    assert difference == '2. Configure: answered {"events": 520}, recorded is {"events": 8}'


@pytest.mark.slow
def test_an_executable_is_replayed_to(tmp_path: Path) -> None:
    record(tmp_path / "session.jsonl")
    path = tmp_path / "10-greeter"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    with FakeRuntime() as runtime:
        (difference,) = runtime.replay(path, tmp_path / "session.jsonl")
    assert difference.startswith('4. CreateContainer web main: answered {"adjust": {"env": ')


def test_a_file_that_is_no_recording_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_text("nothing\n")
    with FakeRuntime() as runtime, pytest.raises(RecordingError, match=r"^line 1: not JSON"):
        runtime.replay(GREETER, path)
