"""The event logger: what it writes of which events, by value and as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.launching import BOUND, launched

from nri_inject import api
from nri_inject.capabilities import NEWEST, identify
from nri_inject.errors import ConfigError
from nri_inject.plugin import EVENTS, subscription
from nri_inject.plugins.logger import (
    MAX_EVENT,
    Chosen,
    Logger,
    as_json,
    as_yaml,
    changes,
    document,
    events_of,
    names_of,
)
from nri_inject.service.base import Options
from nri_inject.service.config import Config
from nri_inject.service.config import LoggerConfig as Settings
from nri_inject.wire import recording
from nri_inject.wire.session import Call, Role, Session

POD = api.Pod(id="p1", name="web", namespace="shop")
CONTAINER = api.Container(id="c1", pod_sandbox_id="p1", name="app", env=["A=1"])
CREATE = api.CreateContainerRequest(pod=POD, container=CONTAINER)

# --- which events ---------------------------------------------------------------------------------


def test_all_are_all_events_and_what_exists_at_the_start() -> None:
    assert events_of(["all"]) == ("synchronize", *EVENTS)


@pytest.mark.parametrize("word", ["pod", "PodSandbox"])
def test_a_group_is_every_event_whose_name_has_it(word: str) -> None:
    assert events_of([word]) == (
        *("run_pod_sandbox", "update_pod_sandbox", "post_update_pod_sandbox"),
        *("stop_pod_sandbox", "remove_pod_sandbox"),
    )


def test_validation_belongs_to_containers() -> None:
    assert "validate_container_adjustment" in events_of(["container"])


@pytest.mark.parametrize(
    "words",
    [
        ["createcontainer,stopcontainer"],
        [" CreateContainer , STOP_CONTAINER "],
        ["stop-container", "create_container", "StopContainer"],
    ],
)
def test_case_spaces_order_and_how_words_are_joined_do_not_count(words: list[str]) -> None:
    assert events_of(words) == ("create_container", "stop_container")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("creatcontainer", "unknown event 'creatcontainer'; did you mean 'CreateContainer'?"),
        ("pods", "unknown event 'pods'; did you mean 'pod'?"),
        ("x\n", "unknown event 'x'; known: all, pod, container, Synchronize, RunPodSandbox, "),
        ("pod,,all", "unknown event ''; known: all, pod, container, "),
        ("allx,podx", "unknown event 'allx'; did you mean 'all'?; unknown event 'podx'; did you "),
    ],
)
def test_an_unknown_word_is_an_error_with_the_nearest(word: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        events_of([word])
    assert str(caught.value).startswith(sentence)


# --- how it is written ----------------------------------------------------------------------------

HOSTILE = "a\nevent: Other\x1b[2J\u202e\u2028é\x7f"


def test_an_event_is_a_time_a_name_and_protobufs_own_json() -> None:
    container = api.Container(id="c1", created_at=5)
    assert document(1.5, "create_container", {"pod": POD, "container": container}) == {
        "time": "1970-01-01T00:00:01.500Z",
        "event": "CreateContainer",
        "pod": {"id": "p1", "name": "web", "namespace": "shop"},
        "container": {"id": "c1", "createdAt": "5"},
    }


def test_the_keys_of_maps_are_in_order_and_fields_in_the_protocols() -> None:
    pod = api.Pod(
        id="p", name="n", annotations={"b": "1", "a": "2", "c": "3"}, labels={"labels": ""}
    )
    told = document(0, "run_pod_sandbox", {"pod": pod})["pod"]
    assert list(told) == ["id", "name", "labels", "annotations"]
    assert list(told["annotations"]) == ["a", "b", "c"]


def test_json_is_one_line_and_has_no_character_that_a_terminal_obeys() -> None:
    written = as_json({"name": HOSTILE})
    assert written.count("\n") == 1
    assert written.strip().isascii()
    assert written.strip().isprintable()
    assert json.loads(written) == {"name": HOSTILE}


def test_yaml_is_a_stream_in_which_no_value_has_a_line_of_its_own() -> None:
    record = {"name": HOSTILE, HOSTILE: "no", "list": ["true", "1", "", "x: y"]}
    lines = as_yaml(record).split("\n")
    assert lines[0] == "---"
    assert len(lines) == 10
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert yaml.safe_load(as_yaml(record)) == record


# --- which pods -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespaces", "pods", "chosen"),
    [
        ([], [], True),
        (["shop"], [], True),
        (["sh*", "x"], ["w?b"], True),
        (["Shop"], [], False),
        (["shop"], ["api"], False),
        (["other"], ["web"], False),
    ],
)
def test_pods_are_chosen_by_patterns(namespaces: list[str], pods: list[str], chosen: bool) -> None:
    assert (POD in Chosen(namespaces, pods)) is chosen


def test_a_pod_that_is_told_by_its_id_alone_is_known_by_then() -> None:
    chosen = Chosen(["other"], [])
    assert POD not in chosen
    assert api.Pod(id="p1") not in chosen
    assert api.Pod(id="never told") in chosen


# --- what it changes ------------------------------------------------------------------------------


def test_nothing_is_changed_unless_asked() -> None:
    assert changes(Settings(), "me") is None


def test_add_sets_and_set_takes_over() -> None:
    settings = Settings(add_annotation="a", set_annotation="b", add_env="C", set_env="D")
    assert changes(settings, "me") == api.Adjustment(
        annotations={"a": "me", "-b": "", "b": "me"},
        env=[
            api.KeyValue(key="C", value="me"),
            api.KeyValue(key="-D"),
            api.KeyValue(key="D", value="me"),
        ],
    )


# --- configuration --------------------------------------------------------------------------------


def events(config: str, **own: object) -> tuple[str, ...]:
    """Return what a logger subscribes to after a drop-in configuration."""
    logger = Logger(Options(idx="90", name="logger", own=own), Config())
    try:
        plugin = logger.configure(api.ConfigureRequest(config=config)) or logger.plugin
        mask = subscription(plugin)
    finally:
        logger.close()
    return tuple(field for field, number in EVENTS.items() if mask >> (number - 1) & 1)


def test_the_drop_in_configuration_is_read() -> None:
    assert events("logger: {events: [stopcontainer]}") == ("stop_container",)
    assert events("logger: {format: json}") == tuple(EVENTS)
    assert events("policy: unrestricted") == tuple(EVENTS)


def test_the_go_loggers_drop_in_file_is_understood() -> None:
    assert events("events: [stopcontainer]\naddEnv: X") == ("create_container", "stop_container")
    assert events("setAnnotation: x") == tuple(EVENTS)


def test_the_command_line_wins_over_the_drop_in_file() -> None:
    own = {"events": ("runpodsandbox",)}
    assert events("logger: {events: [stopcontainer]}", **own) == ("run_pod_sandbox",)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("logger: {events: [x]}", "unknown event 'x'; known: all"),
        ("logger: {event: [x]}", "drop-in configuration: logger: unknown key 'event'; did you"),
        ("logFile: x", "drop-in configuration: logger: log_file: 'x' is not an absolute path"),
        (
            "logFile: /x\nlogger: {}",
            "drop-in configuration: unknown key 'logFile'; did you mean 'log'?",
        ),
        ("logger: {log_file: /no/such}", "cannot write to '/no/such': No such file or directory"),
    ],
)
def test_a_wrong_drop_in_configuration_is_refused(config: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        events(config)
    assert str(caught.value).startswith(sentence)


# --- as a process ---------------------------------------------------------------------------------

PROGRAM = "nri-logger"


@pytest.mark.slow
def test_a_launched_logger_writes_where_its_drop_in_file_says(tmp_path: Path) -> None:
    file = tmp_path / "events"
    with launched(PROGRAM) as running:
        running.configured(f"logger: {{log_file: {file}, format: json}}")
        running.peer.synchronize([POD], [CONTAINER])
        running.peer.request("CreateContainer", CREATE, api.CreateContainerResponse)
        assert running.end()[0] == 0
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(entry["event"], *sorted(entry.keys() - {"time", "event"})) for entry in written] == [
        ("Synchronize", "pod"),
        ("Synchronize", "container"),
        ("CreateContainer", "container", "pod"),
    ]


@pytest.mark.slow
def test_containers_that_come_before_their_pods_are_chosen_by_these() -> None:
    other = api.Pod(id="p2", name="db", namespace="shop")
    containers = [
        api.Container(id="c2", pod_sandbox_id="p2"),
        CONTAINER,
        api.Container(id="c3", pod_sandbox_id="nobody's"),
    ]
    with launched(PROGRAM, "--format", "json", "--pod", "web") as running:
        running.configured()
        for part in (
            api.SynchronizeRequest(containers=containers, more=True),
            api.SynchronizeRequest(pods=[POD, other]),
        ):
            running.peer.request("Synchronize", part, api.SynchronizeResponse)
        output = running.end()[1]
    written = [json.loads(line) for line in output.splitlines()]
    assert [entry.get("pod", entry.get("container"))["id"] for entry in written] == [
        *("p1", "c1", "c3")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["yaml", "json"])
def test_of_a_long_event_the_names_are_written(log_format: str) -> None:
    variables = [f"{number}=" for number in range(MAX_EVENT // 7)]
    long = api.Container(id="c2", pod_sandbox_id="p1", name="n" * 1000, env=variables)
    create = api.CreateContainerRequest(pod=POD, container=long)
    with launched(PROGRAM, "--format", log_format) as running:
        running.configured()
        running.peer.request("CreateContainer", create, api.CreateContainerResponse)
        output = running.end()[1]
    entry = yaml.safe_load(output)
    del entry["time"]
    assert entry == {
        "event": "CreateContainer",
        "pod": {"id": "p1", "name": "web", "namespace": "shop"},
        "container": {"id": "c2", "podSandboxId": "p1", "name": "n" * 320},
        "left_out": POD.ByteSize() + long.ByteSize(),
    }


def test_of_a_long_validation_the_names_are_written() -> None:
    request = api.ValidateContainerAdjustmentRequest(pod=POD, container=CONTAINER)
    assert names_of({"": request}) == {
        "pod": POD,
        "container": api.Container(id="c1", pod_sandbox_id="p1", name="app"),
    }


@pytest.mark.slow
def test_events_that_an_old_runtime_does_not_know_are_not_asked_for() -> None:
    with launched(PROGRAM) as running:
        running.configured(runtime=identify("containerd", "1.7.24"))
        assert running.peer.events == 0x7FF
        running.end()
    with launched(PROGRAM) as running:
        assert running.configured(runtime=NEWEST).peer.events == 0x3FFF
        running.end()


@pytest.mark.slow
def test_a_validation_is_logged_whole_and_allowed() -> None:
    request = api.ValidateContainerAdjustmentRequest(
        pod=POD, container=CONTAINER, plugins=[api.PluginInstance(name="a", index="10")]
    )
    with launched(PROGRAM, "--format", "json") as running:
        running.configured()
        response = running.peer.request(
            "ValidateContainerAdjustment", request, api.ValidateContainerAdjustmentResponse
        )
        status, output, _ = running.end()
    assert (status, response.reject) == (0, False)
    entry = json.loads(output)
    assert (entry["event"], entry["plugins"]) == (
        "ValidateContainerAdjustment",
        [{"name": "a", "index": "10"}],
    )


@pytest.mark.slow
def test_the_go_flags_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "events"
    flags = ["-events", "createcontainer", "-log-file", str(file), "-add-env", "WHO"]
    with launched(PROGRAM, *flags, "-set-annotation=who") as running:
        running.configured()
        adjust = running.peer.request("CreateContainer", CREATE, api.CreateContainerResponse).adjust
        pid = running.process.pid
        running.end()
    me = f"logger-pid-{pid}"
    assert adjust.env == [api.KeyValue(key="WHO", value=me)]
    assert dict(adjust.annotations) == {"-who": "", "who": me}
    assert yaml.safe_load(file.read_text())["container"]["name"] == "app"


@pytest.mark.slow
def test_a_session_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "session"
    with launched(PROGRAM, "--record", str(file)) as running:
        running.configured()
        running.peer.synchronize([], [])
        running.end()
    records = [recording.decode(line) for line in file.read_text().splitlines()]
    assert [record.sender for record in records if not record.data] == [Role.RUNTIME]
    assert records[-1].data == b""
    assert records == sorted(records, key=lambda record: record.seconds)
    session = Session(Role.RUNTIME)
    said = b"".join(record.data for record in records if record.sender is Role.PLUGIN)
    first, *_ = session.receive(said)
    assert isinstance(first, Call)
    assert first.method == "RegisterPlugin"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--events", "pods"], "unknown event 'pods'; did you mean 'pod'?"),
        (["--log-file", "/no/such"], "cannot write to '/no/such': No such file or directory"),
        (["--record", "/no/such"], "cannot write to '/no/such': No such file or directory"),
    ],
)
def test_wrong_options_are_wrong_usage(flags: list[str], sentence: str) -> None:
    program = Path(sys.executable).with_name(PROGRAM)
    done = subprocess.run([program, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert sentence in done.stderr


@pytest.mark.slow
def test_a_logger_ends_when_nobody_reads_any_more() -> None:
    with launched(PROGRAM) as running:
        running.configured()
        assert running.process.stdout is not None
        running.process.stdout.close()
        running.peer.request("CreateContainer", CREATE, api.CreateContainerResponse)
        assert running.process.wait(BOUND) == 0


@pytest.mark.slow
def test_what_is_on_its_way_is_written_before_the_end() -> None:
    many = [api.Container(id=f"c{number}", env=["X" * 1000]) for number in range(500)]
    with launched(PROGRAM, "--format", "json") as running:
        running.configured()
        running.peer.synchronize([], many)
        os.kill(running.process.pid, signal.SIGTERM)
        output, _ = running.process.communicate(timeout=BOUND)
        assert running.process.returncode == 0
    ids = [json.loads(line)["container"]["id"] for line in output.splitlines()]
    assert ids == [container.id for container in many]


def test_fields_that_are_too_large_are_left_out_and_named() -> None:
    large = api.Container(id="c1", args=["x"] * 40_000, annotations={"a": "y" * 40_000})
    record = document(0, "create_container", {"pod": POD, "container": large})
    assert record["container"] == {"id": "c1"}
    assert record["left_out_fields"] == ["container.annotations", "container.args"]
    asked = api.ValidateContainerAdjustmentRequest(pod=POD, container=large)
    validation = document(0, "validate_container_adjustment", {"": asked})
    assert validation["left_out_fields"] == ["container"]
    assert validation["pod"] == {"id": "p1", "name": "web", "namespace": "shop"}
