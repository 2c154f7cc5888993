"""Whatever a pod's author writes, a request takes a bounded number of steps.

The texts come from benchmarks/hostile.py, which knows what each reader's texts are made of, and
searches for the costliest. A step is an executed line of Python: about 40 ns where a core is not
busy with anything else, so that MAX_LINES are less than 200 ms.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import CodeType

import hostile
import pytest
import samples
from hostile import Reader, Text
from hypothesis import given
from hypothesis import strategies as st
from support.counting import calls_of, lines_of
from support.properties import examples

from nri_inject import api
from nri_inject.api import ConfigureRequest, Container, CreateContainerRequest
from nri_inject.cdi import names
from nri_inject.errors import NriError, RequestError
from nri_inject.injectors import cdi, device
from nri_inject.injectors.host import Host
from nri_inject.plugins import differ, logger, suite
from nri_inject.plugins.policy_validator import ValidatorService
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.injector import InjectorService
from nri_inject.text import yamltext

pytestmark = pytest.mark.slow

MAX_LINES = 3_000_000
EXAMPLES = examples(40)

HOST = Host({})

POLICY = {
    "rules": [
        *(
            {"allow": {"mounts": [f"/*{number}"], "sysctl": [f"*{number}"]}}
            for number in range(1000)
        ),
        {"who": {"pods": {"matchLabels": {"app": "x"}}}, "allow": {"devices": ["/dev/**"]}},
        {
            "allow": {
                "devices": ["/dev/**", "udev:ID_X=y"],
                "mounts": [{"source": "/etc/**", "access": "rw", "options": ["**"]}],
                "sysctl": ["**"],
                "cdi_devices": ["**"],
                "network_devices": ["*"],
            }
        },
    ]
}
CONFIG = json.dumps({"policy": POLICY, "audit": "log"})


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Write CDI specs and hook files, and return the options that name them."""
    directory = tmp_path_factory.mktemp("node")
    samples.write_cdi(directory / "cdi", "json", 2, 200)
    samples.write_hooks(directory / "hooks", 20)
    for number in range(20):
        when = {"annotations": {f"^(any|feature).*{number}?": "gpu.{0,9}true$"}}
        hook = {"version": "1.0.0", "hook": {"path": "/bin/true"}, "when": when}
        text = json.dumps({**hook, "stages": ["poststop"]})
        (directory / "hooks" / f"loose{number}.json").write_text(text)
    return Options(
        idx="20",
        name="nri-inject",
        cdi_dir=(str(directory / "cdi"),),
        hooks_dir=(str(directory / "hooks"),),
        unsafe_files=True,
    )


@pytest.fixture(scope="module")
def service(options: Options) -> Iterator[InjectorService]:
    """Return the suite with a policy of 1,000 rules that are all compared."""
    made = InjectorService(suite.PARTS, options, Config())
    made._environment.configure(ConfigureRequest(config=CONFIG))
    yield made
    made.close()


@pytest.fixture(scope="module")
def validator(options: Options) -> Iterator[ValidatorService]:
    """Return a validator with the same policy."""
    made = ValidatorService(options, Config())
    made.configure(ConfigureRequest(config=CONFIG, runtime_name="containerd"))
    yield made
    made.close()


def serving(service: InjectorService, request: CreateContainerRequest) -> Callable[[], None]:
    def serve() -> None:
        with suppress(NriError):
            service.create_container(request.pod, request.container)

    return serve


def refusal(service: InjectorService, request: CreateContainerRequest) -> str:
    """Return why a container fails, nothing if it does not."""
    try:
        service.create_container(request.pod, request.container)
    except RequestError as error:
        return str(error)
    return ""


def validating(validator: ValidatorService, request: CreateContainerRequest) -> Callable[[], None]:
    """Return what validates that another plugin gives a container all that it asks for."""
    validated = api.ValidateContainerAdjustmentRequest(pod=request.pod, container=request.container)
    with suppress(NriError):
        validated.adjust.CopyFrom(device.inject(request.pod, request.container, HOST))

    def validate() -> None:
        with suppress(NriError):
            validator.validate(validated)

    return validate


def logged(request: CreateContainerRequest) -> str:
    told = {"pod": request.pod, "container": request.container}
    return logger.as_yaml(logger.document(0.0, "create_container", told))


def differences(request: CreateContainerRequest) -> str:
    before, after = Container(), request.container
    large = differ.large_of(before, after)
    changes, untold = differ.compared(before, after, created=False, large=large)
    return differ.as_text(differ.Step(0.0, request.pod, after, "00", "99", changes, untold, large))


READERS = (*hostile.DEVICE_READERS, *hostile.CDI_READERS, *hostile.HOOK_READERS)
"""What the suite reads of a pod."""
SEARCHED = (*hostile.MAIN_READERS, *hostile.CDI_READERS, *hostile.HOOK_READERS)


@st.composite
def texts(draw: st.DrawFn) -> tuple[Reader, Text]:
    """Return a text of some fragments, and what reads it."""
    reader = draw(st.sampled_from(READERS))
    fragments = draw(st.lists(st.sampled_from(reader.fragments), min_size=1, max_size=4))
    frame = draw(st.sampled_from(reader.frames))
    return reader, Text(frame, tuple(fragments), draw(st.sampled_from(hostile.SHARES)))


@EXAMPLES
@given(texts())
def test_no_text_of_a_pod_takes_more_than_a_bounded_number_of_steps(
    service: InjectorService, validator: ValidatorService, drawn: tuple[Reader, Text]
) -> None:
    reader, text = drawn
    request = reader.asked(text)
    assert lines_of(serving(service, request)) <= MAX_LINES
    assert lines_of(validating(validator, request)) <= MAX_LINES


@pytest.mark.parametrize("reader", SEARCHED, ids=lambda reader: reader.name)
def test_the_worst_text_that_a_search_finds_takes_a_bounded_number_of_steps(
    service: InjectorService, reader: Reader
) -> None:
    _, text = hostile.worst(
        reader, lambda request: lines_of(serving(service, request)), size=8192, width=6
    )
    for share in hostile.SHARES:
        request = reader.asked(replace(text, share=share))
        assert lines_of(serving(service, request)) <= MAX_LINES


@pytest.mark.parametrize("reader", hostile.REPORT_READERS, ids=lambda reader: reader.name)
def test_a_report_of_a_container_takes_a_bounded_number_of_steps(reader: Reader) -> None:
    for fragment in reader.fragments:
        request = reader.asked(Text(hostile.PLAIN, (fragment,)))
        for report in (logged, differences):
            assert lines_of(partial(report, request)) <= MAX_LINES


@EXAMPLES
@given(texts())
def test_whatever_is_wrong_is_said_in_4_kilobytes(
    service: InjectorService, drawn: tuple[Reader, Text]
) -> None:
    reader, text = drawn
    assert len(refusal(service, reader.asked(text)).encode()) < 4096


@pytest.mark.parametrize(
    ("key", "text", "code", "times"),
    [
        ("devices.noderesource.dev", "- path: /dev/null\n" * 900, yamltext._load.__code__, 1),
        ("devices.noderesource.dev", "- path: /dev/none\n" * 900, yamltext._load.__code__, 1),
        (f"{cdi.PREFIX}", "- v.com/c=d\n" * 900, yamltext._load.__code__, 1),
        ("cdi.k8s.io/a", ",".join(["v.com/c=d"] * 900), names.parse.__code__, 900),
    ],
)
def test_each_text_is_read_once_though_the_container_repeats_it(
    service: InjectorService, key: str, text: str, code: CodeType, times: int
) -> None:
    assert calls_of(code, serving(service, hostile.asking({key: text}))) == times


def test_after_a_hostile_request_the_next_container_has_its_budget(
    service: InjectorService,
) -> None:
    hostile_one = hostile.asking({"sysctl.noderesource.dev": "? a\n" * 60_000})
    for _ in range(3):
        with pytest.raises(RequestError):
            service.create_container(hostile_one.pod, hostile_one.container)
        good = hostile.asking({"devices.noderesource.dev": "- path: /dev/null"})
        adjustment = service.create_container(good.pod, good.container)
        assert adjustment is not None
        assert [device.path for device in adjustment.linux.devices] == ["/dev/null"]
