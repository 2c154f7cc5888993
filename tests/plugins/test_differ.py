"""The container differ: what it says of which changes, and how it comes by them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.launching import BOUND, launched

from nri_inject import api
from nri_inject.errors import ConfigError
from nri_inject.plugins import differ
from nri_inject.plugins.differ import (
    Differ,
    Step,
    Traces,
    as_json,
    as_text,
    checked_indices,
    compared,
    large_of,
)
from nri_inject.plugins.differences import Change
from nri_inject.service.base import Options
from nri_inject.service.config import Config

POD = api.Pod(id="p1", name="web", namespace="shop")
STEP = Step(
    1.5,
    POD,
    api.Container(id="c1", name="app"),
    "request at 00",
    "request at 99",
    [
        Change("env", "A", None, "A=1\n\x1b[2J"),
        Change("linux.resources.cpu.cpus", "", "0-1", "0"),
        Change("mounts", "/x\n", {"destination": "/x\n"}, None),
    ],
)


def test_text_has_a_line_for_each_change_and_no_character_that_a_terminal_obeys() -> None:
    assert as_text(STEP) == (
        "pod shop/web, container app: from request at 00 to request at 99\n"
        '  + env[A] "A=1\\n\\u001b[2J"\n'
        '  ~ linux.resources.cpu.cpus "0-1" -> "0"\n'
        '  - mounts[/x\\n] {"destination": "/x\\n"}\n'
    )


def test_colour_is_for_whole_lines() -> None:
    assert as_text(STEP, colour=True).splitlines()[1:] == [
        '\x1b[32m  + env[A] "A=1\\n\\u001b[2J"\x1b[0m',
        '\x1b[33m  ~ linux.resources.cpu.cpus "0-1" -> "0"\x1b[0m',
        '\x1b[31m  - mounts[/x\\n] {"destination": "/x\\n"}\x1b[0m',
    ]


def test_json_has_the_values() -> None:
    assert json.loads(as_json(STEP)) == {
        "time": "1970-01-01T00:00:01.500Z",
        "pod": "shop/web",
        "container": "app",
        "id": "c1",
        "from": "request at 00",
        "to": "request at 99",
        "changes": [
            {"field": "env", "key": "A", "before": None, "after": "A=1\n\x1b[2J"},
            {"field": "linux.resources.cpu.cpus", "key": "", "before": "0-1", "after": "0"},
            {"field": "mounts", "key": "/x\n", "before": {"destination": "/x\n"}, "after": None},
        ],
        "untold": [],
        "large": [],
    }


def test_a_field_that_what_was_created_has_not_at_all_may_only_not_be_told() -> None:
    limits = [api.POSIXRlimit(type="RLIMIT_CORE")]
    asked = api.Container(env=["A=1", "B=1"], rlimits=limits)
    created = api.Container(env=["B=1"])
    gone = Change("env", "A", "A=1", None)
    assert compared(asked, created, created=True) == ([gone], ["rlimits"])
    changes, untold = compared(asked, created, created=False)
    assert [change.field for change in changes] == ["env", "rlimits"]
    assert untold == []
    step = Step(1.5, POD, asked, "request at 99", "PostCreateContainer", [], ["rlimits"])
    assert as_text(step).splitlines()[1:] == ["  ? rlimits: PostCreateContainer does not report it"]


@pytest.mark.parametrize(
    ("words", "indices"),
    [
        (["00,99"], ["00", "99"]),
        (["0, 99"], ["00", "99"]),
        (["99", "10,5"], ["05", "10", "99"]),
        (["50"], ["50"]),
    ],
)
def test_indices_are_numbers_of_two_digits_in_order(words: list[str], indices: list[str]) -> None:
    assert checked_indices(words) == indices


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("00,x", "index 'x': two digits expected, as in 00,50,99"),
        ("100,", "index '100', '': two digits expected, as in 00,50,99"),
        ("-1", "index '-1': two digits expected, as in 00,50,99"),
        ("²", "index '²': two digits expected, as in 00,50,99"),
        ("00,0", "indices 00, 00: one of them is there twice"),
    ],
)
def test_other_indices_are_errors(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_indices([word])
    assert str(caught.value) == sentence


def test_containers_that_are_never_told_of_again_are_forgotten_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(differ, "_MAX_CONTAINERS", 2)
    traces = Traces()
    for name in ("a", "b", "c"):
        assert traces.look("here", api.Container(id=name), begin=True) is None
    assert len(traces) == 2
    assert traces.look("there", api.Container(id="a"), begin=False) is None
    assert traces.look("there", api.Container(id="c"), begin=False) is not None


def test_what_is_seen_of_containers_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differ, "MAX_TRACED", 3000)
    traces = Traces()
    for name in ("a", "b", "c"):
        traces.look("here", api.Container(id=name, env=["x" * 1000]), begin=True)
    assert len(traces) == 2
    traces.look("there", api.Container(id="c", env=["x" * 2000]), begin=False)
    assert len(traces) == 1
    traces.forget(api.Container(id="c"))
    traces.look("here", api.Container(id="d", env=["x" * 4000]), begin=True)
    assert len(traces) == 0


@contextmanager
def service(**own: object) -> Iterator[tuple[Differ, Path]]:
    given = Differ(Options(idx="99", name="differ", own=own), Config())
    try:
        yield given, Path(str(own["log_file"]))
    finally:
        given.close()


def container(number: str, *env: str) -> api.Container:
    return api.Container(id=number, name=number, env=env)


def steps(file: Path) -> list[tuple[str, str, str, list[str]]]:
    lines = map(json.loads, file.read_text().splitlines())
    return [
        (line["id"], line["from"], line["to"], [change["after"] for change in line["changes"]])
        for line in lines
    ]


def test_requests_are_matched_by_container_whatever_came_between(tmp_path: Path) -> None:
    """A creation that a plugin in between has failed reaches the first place alone."""
    own = {"log_file": str(tmp_path / "out"), "format": "json", "indices": ("00,50,99",)}
    with service(**own) as (tested, file):
        tested._asked(0, POD, container("failed"))
        tested._asked(0, POD, container("a"))
        tested._asked(0, POD, container("b"))
        tested._asked(1, POD, container("b", "B=1"))
        tested._asked(1, POD, container("a", "A=1"))
        tested._asked(2, POD, container("a", "A=1"))
        tested._asked(2, POD, container("b", "B=1", "C=1"))
        tested._look_again("PostCreateContainer", POD, container("b", "B=1", "C=1", "D=1"))
        tested._started(POD, container("b", "B=1", "C=1", "D=1"))
    assert steps(file) == [
        ("b", "request at 00", "request at 50", ["B=1"]),
        ("a", "request at 00", "request at 50", ["A=1"]),
        ("b", "request at 50", "request at 99", ["C=1"]),
        ("b", "request at 99", "PostCreateContainer", ["D=1"]),
    ]


def test_what_nobody_changed_is_mentioned_only_when_asked(tmp_path: Path) -> None:
    own = {"log_file": str(tmp_path / "out"), "unchanged": True}
    with service(**own) as (tested, file):
        tested._asked(0, POD, container("a"))
        tested._asked(1, POD, container("a"))
    assert file.read_text() == (
        "pod shop/web, container a: from request at 00 to request at 99\n  no changes\n"
    )


def test_a_long_container_is_not_compared_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with service(log_file=str(tmp_path / "out"), format="json") as (tested, file):
        tested._asked(0, POD, container("a", "x" * (differ.MAX_COMPARED // 2)))
        tested._asked(1, POD, container("a", "y" * (differ.MAX_COMPARED // 2)))
    assert file.read_text() == ""
    (message,) = caplog.messages
    assert message == (
        "pod shop/web, container a: not compared at request at 99, since it has more than"
        " 262144 bytes"
    )


def test_names_write_no_line_and_move_no_cursor(tmp_path: Path) -> None:
    name = "a\nb\x1b[2J\u202e"
    pod = api.Pod(namespace=name, name=name)
    with service(log_file=str(tmp_path / "out")) as (tested, file):
        tested._asked(0, pod, api.Container(id=name, name=name))
        changed = api.Container(
            id=name, name=name, env=[f"{name}={name}"], annotations={name: name}
        )
        tested._asked(1, pod, changed)
    lines = file.read_text().split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


def test_containers_that_started_stopped_or_failed_are_forgotten(tmp_path: Path) -> None:
    with service(log_file=str(tmp_path / "out")) as (tested, file):
        for number, end in (("a", tested._started), ("b", tested._gone)):
            tested._asked(0, POD, container(number))
            end(POD, container(number))
        assert len(tested._traces) == 0
        tested._look_again("PostCreateContainer", POD, container("never asked", "A=1"))
    assert file.read_text() == ""


@pytest.mark.slow
def test_a_launched_differ_compares_the_request_with_what_was_created(tmp_path: Path) -> None:
    file = tmp_path / "changes"
    with launched("nri-differ") as running:
        running.configured(f"differ: {{log_file: {file}}}")
        request = api.CreateContainerRequest(pod=POD, container=container("c1"))
        running.peer.request("CreateContainer", request, api.CreateContainerResponse)
        created = api.PostCreateContainerRequest(pod=POD, container=container("c1", "A=1"))
        running.peer.request("PostCreateContainer", created, api.PostCreateContainerResponse)
        status, _, log = running.end()
    assert status == 0
    assert "launched by the runtime, so it compares only one place, 99" in log
    assert file.read_text() == (
        'pod shop/web, container c1: from request at 99 to PostCreateContainer\n  + env[A] "A=1"\n'
    )


def test_a_wrong_drop_in_configuration_is_refused() -> None:
    with service(log_file="/dev/null") as (tested, _), pytest.raises(ConfigError) as caught:
        tested.configure(api.ConfigureRequest(config="differ: {colour: 1}"))
    assert str(caught.value) == (
        "drop-in configuration: differ: unknown key 'colour';"
        " known: indices, format, log_file, unchanged"
    )


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["-indices", "00,99"], ["-indices=1,2", "-verbose-level", "2"]])
def test_the_go_flags_are_understood(flags: list[str], tmp_path: Path) -> None:
    log_file = str(tmp_path / "out")
    with launched("nri-differ", *flags, "-yaml", "-log-file", log_file) as running:
        assert running.configured().end()[0] == 0


@pytest.mark.slow
def test_a_wrong_index_is_wrong_usage() -> None:
    program = Path(sys.executable).with_name("nri-differ")
    done = subprocess.run(
        [program, "--indices", "a"], capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 2
    assert "index 'a': two digits expected, as in 00,50,99" in done.stderr


def test_a_field_that_is_too_large_on_either_side_is_not_compared() -> None:
    small = api.Container(id="c1", name="app", env=["A=1"], args=["x"])
    large = api.Container(id="c1", name="app", env=["A=1"] * 20_000, args=["y"])
    for old, new in ((small, large), (large, small)):
        fields = large_of(old, new)
        assert fields == ["env"]
        changes, untold = compared(old, new, created=True, large=fields)
        assert [change.field for change in changes] == ["args"]
        assert untold == []
    step = Step(1.5, POD, small, "00", "99", [], (), ["env"])
    assert as_text(step).splitlines()[1:] == ["  ? env: too large to be compared"]


def test_the_marks_of_our_plugins_are_left_out() -> None:
    one = api.Container(id="c1", annotations={"a": "1"})
    two = api.Container(id="c1", annotations={"a": "2", "served.noderesource.dev/nri-inject": "c1"})
    changes, _ = compared(one, two, created=False)
    assert changes == [Change("annotations", "a", "1", "2")]
