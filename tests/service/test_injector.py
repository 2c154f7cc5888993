"""A service of injectors: what a container waits for, and what is written down when it has that."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nri_inject import api
from nri_inject.errors import RequestError
from nri_inject.plugins import device_injector
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.injector import InjectorService, service_of
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
