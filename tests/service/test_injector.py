"""A service of injectors: what a container waits for, and what is written down when it has that."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nri_inject import api
from nri_inject.errors import RequestError
from nri_inject.host.devices.presence import registration
from nri_inject.plugins import device_injector, hook_injector
from nri_inject.service import config
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.health import mark
from nri_inject.service.health.restart import RestartReport
from nri_inject.service.injector import NO_RESTARTS, InjectorService, service_of
from nri_inject.stub import Stub

CONFIG = """
audit: {{file: {file}}}
on_unsupported: warn
policy:
  rules:
    - {{name: full, who: {{}}, allow: {{devices: [/dev/full], io_priority: [IOPRIO_CLASS_IDLE]}}}}
"""
CONTAINER = api.Container(id="c1", name="main")
IDLE = api.Pod(
    namespace="ns",
    name="p",
    annotations={"io-priority.noderesource.dev/pod": "class: IOPRIO_CLASS_IDLE"},
)


def pod(device: str) -> api.Pod:
    asked = {"devices.noderesource.dev/pod": f"- path: {device}"}
    return api.Pod(namespace="ns", name="p", annotations=asked)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the audit is written."""
    return tmp_path / "audit.jsonl"


@pytest.fixture
def service(file: Path) -> Iterator[InjectorService]:
    """Return a device injector whose policy allows one device."""
    made = service_of(device_injector.PART)(Options(idx="10", name="injector"), Config())
    assert isinstance(made, InjectorService)
    assert made.plugin.configure is not None
    request = api.ConfigureRequest(
        runtime_name="containerd", runtime_version="1.7.24", config=CONFIG.format(file=file)
    )
    made.plugin.configure(request)
    yield made
    made.close()


def audited(file: Path) -> list[tuple[str, str]]:
    lines = map(json.loads, file.read_text().splitlines())
    return [(line["decision"], line["outcome"]) for line in lines]


def test_without_a_stub_it_is_written_down_at_once(service: InjectorService, file: Path) -> None:
    service.create_container(pod("/dev/full"), CONTAINER)
    with pytest.raises(RequestError):
        service.create_container(pod("/dev/null"), CONTAINER)
    assert audited(file) == [("allow", "injected"), ("deny", "failed")]


def test_no_container_waits_until_it_is_written_down(
    service: InjectorService, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = socket.socketpair()
    stub = Stub(service.plugin, connection=theirs)
    service.attach(stub)
    with closing(ours), caplog.at_level(logging.INFO, "nri_inject.service.injector"):
        adjustment = service.create_container(pod("/dev/full"), CONTAINER)
        assert adjustment is not None
        with pytest.raises(RequestError):
            service.create_container(pod("/dev/null"), CONTAINER)
        service.create_container(IDLE, CONTAINER)
        assert not file.exists()
        assert not caplog.messages
        stub.stop()
        stub.run()
    assert audited(file) == [("allow", "injected"), ("deny", "failed"), ("allow", "injected")]
    assert caplog.messages == [
        "pod ns/p, container main: injected 1 devices",
        (
            "pod ns/p, container main: containerd 1.7.24 (NRI 0.6.1) does not apply io_priority:"
            " needs NRI 0.10.0, first in containerd 2.2.0, CRI-O 1.34"
        ),
        "pod ns/p, container main: injected 1 io_priority",
    ]


KEY = mark.PREFIX + "injector"


def test_a_container_that_gets_something_has_the_mark_beside_it(service: InjectorService) -> None:
    adjustment = service.create_container(pod("/dev/full"), CONTAINER)
    assert adjustment is not None
    assert dict(adjustment.annotations) == {
        KEY: f'c1 {{"/dev/full":["c",1,7,{registration(("c", 1, 7))}]}}'
    }
    assert not mark.is_alone(adjustment)


def test_a_container_that_requests_something_and_gets_nothing_has_the_mark_alone(
    service: InjectorService,
) -> None:
    skip = "policy: {on_deny: skip, rules: []}"
    service.configure(
        api.ConfigureRequest(runtime_name="containerd", runtime_version="2.3.0", config=skip)
    )
    adjustment = service.create_container(pod("/dev/full"), CONTAINER)
    assert adjustment is not None
    assert dict(adjustment.annotations) == {KEY: "c1"}
    assert mark.is_alone(adjustment)


def test_a_container_that_requests_nothing_gets_no_mark(service: InjectorService) -> None:
    assert service.create_container(api.Pod(name="p"), CONTAINER) is None


def test_what_is_expected_of_a_container_has_no_mark(service: InjectorService) -> None:
    assert not service.expected(pod("/dev/full"), CONTAINER).annotations


def test_what_the_runtime_does_not_carry_is_not_expected_of_a_container(
    service: InjectorService,
) -> None:
    assert service.create_container(IDLE, CONTAINER) is not None
    assert not service.expected(IDLE, CONTAINER).linux.ListFields()


def test_a_restart_is_written_down(service: InjectorService, file: Path) -> None:
    stopped = RestartReport("missed", "lacks device /dev/full", "stopped")
    service.record_restart(pod("/dev/full"), CONTAINER, stopped)
    excluded = stopped._replace(outcome="excluded", reason="namespace ns is excluded")
    for _ in range(2):  # the second time within an hour it is counted
        service.record_restart(pod("/dev/full"), CONTAINER, excluded)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    about = {
        "plugin": "10-injector",
        "namespace": "ns",
        "pod": "p",
        "pod_uid": "",
        "container": "main",
        "container_id": "c1",
        "kind": "restart",
        "requested": "missed",
        "resolved": "lacks device /dev/full",
        "rule": None,
    }
    assert [{key: value for key, value in line.items() if key != "time"} for line in lines] == [
        {**about, "decision": "allow", "outcome": "stopped", "reason": ""},
        {
            **about,
            "decision": "deny",
            "outcome": "not restarted",
            "reason": "namespace ns is excluded",
        },
    ]


def test_a_plugins_rules_for_restarts_are_those_of_its_configuration(
    service: InjectorService,
) -> None:
    assert not service.has_restarts
    rules = "[{who: {namespaces: [ns], plugins: [10-injector]}, action: restart}]"
    service.reconfigure(config.read(f"missed: {rules}\nrestart: {{cri_socket: /x}}", "here"))
    assert (service.has_restarts, service.restart_config.cri_socket) == (True, "/x")
    assert service.restarts_missed(pod("/dev/full"), CONTAINER)
    assert not service.restarts_missed(api.Pod(namespace="other"), CONTAINER)


ASKS = "- {device: /dev/full, as: /dev/a, on_change: restart}\n- {device: /dev/null, as: /dev/b}"


def asking() -> api.Pod:
    return api.Pod(namespace="ns", name="p", annotations={"devices.noderesource.dev": ASKS})


@pytest.mark.parametrize(
    ("stale", "changed", "restarted"),
    [
        ("report", ["/dev/a"], False),
        ("requested", ["/dev/a", "/dev/b"], True),
        ("requested", ["/dev/b"], False),
        ("restart", ["/dev/b"], True),
        ("[{who: {namespaces: [other]}, action: restart}]", ["/dev/a"], False),
        ("[{who: {namespaces: [ns]}, action: requested}]", ["/dev/a"], True),
    ],
)
def test_a_stale_container_is_restarted_by_the_configuration_or_if_its_item_requests_it(
    service: InjectorService, stale: str, changed: list[str], restarted: bool
) -> None:
    text = f"policy: unrestricted\nstale: {stale}\nrestart: {{cri_socket: /x}}"
    service.reconfigure(config.read(text, "here"))
    assert service.restarts_stale(asking(), CONTAINER, changed) is restarted
    refused = pod("/dev/none")
    assert service.restarts_stale(refused, CONTAINER, changed) is (stale == "restart")


def test_a_request_for_restarts_that_the_configuration_does_not_allow_is_a_warning(
    service: InjectorService, caplog: pytest.LogCaptureFixture
) -> None:
    for stale, warned in (("report", True), ("requested", False), ("restart", False)):
        text = f"policy: unrestricted\nstale: {stale}\nrestart: {{cri_socket: /x}}"
        service.reconfigure(config.read(text, "here"))
        caplog.clear()
        assert service.create_container(asking(), CONTAINER) is not None
        assert any(NO_RESTARTS in message for message in caplog.messages) is warned


def test_an_answer_that_was_too_late_is_written_down_as_that(
    service: InjectorService,
    file: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def create(device: str) -> None:
        with contextlib.suppress(RequestError):
            service.create_container(pod(device), CONTAINER)

    monkeypatch.setattr(service._environment, "delivered", lambda callback: callback(False))
    create("/dev/full")
    create("/dev/null")
    assert audited(file) == [("allow", "too late"), ("deny", "too late")]
    assert caplog.messages == [
        (
            "pod ns/p, container main: too late: the runtime no longer waited for the answer with"
            " 1 devices"
        )
    ]


def test_a_hook_changes_with_its_file(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("")
    program.chmod(0o755)
    text = {"version": "1.0.0", "hook": {"path": str(program)}, "when": {"always": True}}
    hooks = tmp_path / "hooks.d"
    hooks.mkdir()
    (hooks / "one.json").write_text(json.dumps(text | {"stages": ["poststop"]}))
    made = service_of(hook_injector.PART)(
        Options(idx="30", name="hooks", hooks_dir=(str(hooks),), unsafe_files=True),
        Config(policy="unrestricted", unsafe_files=True),
    )
    assert isinstance(made, InjectorService)
    made.configure(api.ConfigureRequest(runtime_name="containerd", runtime_version="2.3.0"))
    assert made.hook_changed(str(program)) == (hooks / "one.json").stat().st_ctime
    assert made.hook_changed("/bin/other") == 0.0
    made.close()
