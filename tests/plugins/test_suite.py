"""The suite answers as its plugins do one after the other, and a clash of two is one error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import NriError, RequestError
from nri_inject.injectors.compose import combine
from nri_inject.plugins import cdi_injector, device_injector, hook_injector, suite
from nri_inject.runtime import manifests
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.injector import InjectorService

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/vectors"
PARTS = (device_injector.main, cdi_injector.main, hook_injector.main)
SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "example.com/part",
    "devices": [
        {"name": "null", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}},
        {"name": "other", "containerEdits": {"deviceNodes": [{"path": "/dev/null", "uid": 7}]}},
        {"name": "env", "containerEdits": {"env": ["PART=1"]}},
    ],
}
HOOK = {
    "version": "1.0.0",
    "hook": {"path": "/bin/true"},
    "when": {"annotations": {"^example.com/hook$": "^on$"}},
    "stages": ["createRuntime"],
}
CDI = "cdi-devices.noderesource.dev/pod"
DEVICES = "devices.noderesource.dev/pod"


@pytest.fixture
def options(tmp_path: Path) -> Options:
    """Return options with a CDI spec and a hook that only the tests have."""
    for name, document in (("cdi/part.json", SPEC), ("hooks/hook.json", HOOK)):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text(json.dumps(document))
    return Options(
        idx="20",
        name="tested",
        cdi_dir=(str(tmp_path / "cdi"),),
        hooks_dir=(str(tmp_path / "hooks"),),
        unsafe_files=True,
    )


OPENED: list[InjectorService] = []


@pytest.fixture(autouse=True)
def services_are_closed() -> Iterator[None]:
    """Close the services that a test opened: their watches count against a limit of the kernel."""
    yield
    while OPENED:
        OPENED.pop().close()


def service(command: Command, options: Options) -> InjectorService:
    made = command.service(options, Config(policy="unrestricted"))
    assert isinstance(made, InjectorService)
    OPENED.append(made)
    configure = made.plugin.configure
    assert configure is not None
    configure(api.ConfigureRequest(runtime_name="containerd", runtime_version="2.3.0"))
    return made


def outcome(services: Sequence[InjectorService], pod: Pod, container: Container) -> Any:
    """Return what one service wants, or all of a row as a runtime joins them; or the faults."""
    adjustments: list[Adjustment] = []
    faults: list[str] = []
    for one in services:
        try:
            adjustments.append(one.expected(pod, container))
        except RequestError as error:
            faults += error.faults
    if faults:
        return faults
    try:
        return combine(adjustments)
    except RequestError as error:
        return list(error.faults)


def requests() -> list[tuple[Pod, Container]]:
    found: list[tuple[Pod, Container]] = []
    for name in ("adjust", "adjust-ulimit"):
        for line in (VECTORS / f"nri/{name}.jsonl").read_text().splitlines():
            asked = json_format.ParseDict(json.loads(line)["request"], api.CreateContainerRequest())
            found.append((asked.pod, asked.container))
    for example in sorted(ROOT.glob("examples/**/pod*.yaml")):
        found += [
            (one.pod, one.container) for one in manifests.read(example.read_text(), "example")
        ]
    texts = [
        {CDI: "[example.com/part=env]"},
        {CDI: "[example.com/part=none]"},
        {CDI: "[example.com/part=null]", DEVICES: "- path: /dev/full"},
        {CDI: "[example.com/part=null]", DEVICES: "- path: /dev/nowhere"},
        {CDI: "[example.com/part=env]", "example.com/hook": "on", DEVICES: "- path: /dev/full"},
        {CDI: "{", DEVICES: "{"},
    ]
    annotations = [dict(text) for text in texts]
    found += [(Pod(name="p", annotations=one), Container(name="c")) for one in annotations]
    return found


def test_the_suite_answers_as_the_plugins_in_a_row(options: Options) -> None:
    together = service(suite.main, options)
    row = [service(part, options) for part in PARTS]
    asked = requests()
    changed = 0
    for pod, container in asked:
        expected = outcome(row, pod, container)
        assert outcome([together], pod, container) == expected
        changed += isinstance(expected, Adjustment) and expected.ByteSize() > 0
    assert len(asked) > 140
    assert changed > 50


def test_all_three_kinds_are_in_one_answer(options: Options) -> None:
    pod = Pod(
        name="p",
        annotations={
            CDI: "[example.com/part=env]",
            DEVICES: "- path: /dev/full",
            "example.com/hook": "on",
        },
    )
    wanted = service(suite.main, options).expected(pod, Container(name="c"))
    assert [device.path for device in wanted.linux.devices] == ["/dev/full"]
    assert [variable.key for variable in wanted.env] == ["PART"]
    assert [hook.path for hook in wanted.hooks.create_runtime] == ["/bin/true"]


def test_what_two_would_claim_differently_is_one_error(options: Options) -> None:
    pod = Pod(
        namespace="ns",
        name="p",
        annotations={CDI: "[example.com/part=other]", DEVICES: "- path: /dev/null"},
    )
    with pytest.raises(NriError) as caught:
        service(suite.main, options).expected(pod, Container(name="c"))
    assert str(caught.value) == (
        "pod ns/p, container c: conflicting requests for linux.devices '/dev/null'"
    )


def test_faults_of_all_parts_are_told_together(options: Options) -> None:
    pod = Pod(name="p", annotations={CDI: "[example.com/part=none]", DEVICES: "- path: /dev/no"})
    with pytest.raises(RequestError) as caught:
        service(suite.main, options).expected(pod, Container(name="c"))
    assert len(caught.value.faults) == 2
