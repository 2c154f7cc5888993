"""The record of who got what."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nri_inject.api import Container, Pod
from nri_inject.policy import audit
from nri_inject.policy.audit import AuditLog, AuditOutcome
from nri_inject.policy.failures import MAX_BYTES
from nri_inject.policy.rules import Decision, Item
from nri_inject.service.logs import MAX_MESSAGE

POD = Pod(name="build-1", namespace="ci", uid="u-1")
CONTAINER = Container(id="c-1", name="build")
ALLOWED = Decision(
    Item("devices", "/dev/fuse", "device '/dev/fuse' (c 10:229)", (), None, "c 10:229 /dev/fuse"),
    "allow",
    "fuse",
)
DENIED = Decision(
    Item("mounts", "/m", "mount of '/' at '/m'", (), None, "/ bind rw"), "deny", None, "no rule"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(*decisions: Decision, pod: Pod = POD) -> Iterator[str]:
    return audit.lines(
        decisions, pod, CONTAINER, plugin="10-injector", outcome="failed", now=1795499266.0675
    )


def test_a_line_tells_everything_about_one_decision() -> None:
    assert [json.loads(line) for line in lines(ALLOWED, DENIED)] == [
        {
            "time": "2026-11-24T05:47:46.067Z",
            "plugin": "10-injector",
            "namespace": "ci",
            "pod": "build-1",
            "pod_uid": "u-1",
            "container": "build",
            "container_id": "c-1",
            "outcome": "failed",
            "kind": "devices",
            "requested": "device '/dev/fuse' (c 10:229)",
            "resolved": "c 10:229 /dev/fuse",
            "decision": "allow",
            "rule": "fuse",
            "reason": "",
        },
        {
            "time": "2026-11-24T05:47:46.067Z",
            "plugin": "10-injector",
            "namespace": "ci",
            "pod": "build-1",
            "pod_uid": "u-1",
            "container": "build",
            "container_id": "c-1",
            "outcome": "failed",
            "kind": "mounts",
            "requested": "mount of '/' at '/m'",
            "resolved": "/ bind rw",
            "decision": "deny",
            "rule": None,
            "reason": "no rule",
        },
    ]


def test_a_name_cannot_write_a_line_of_its_own_or_move_a_terminals_cursor() -> None:
    name = 'x", "decision": "allow"}\n{"pod": "innocent\x1b[2J\u2028\u202e'
    (line,) = lines(DENIED, pod=Pod(name=name))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["pod"] == name
    assert json.loads(line)["decision"] == "deny"


def test_a_request_writes_256_lines_at_most_and_says_how_many_more_there_were() -> None:
    records = [json.loads(line) for line in lines(*[DENIED] * 1000)]
    assert len(records) == 257
    assert records[-1]["more"] == 744
    assert "kind" not in records[-1]


def test_a_request_with_long_names_writes_fewer_lines() -> None:
    long = Decision(Item("mounts", "/m", "m", (), None, "\u4e00" * 4096), "deny", None, "no rule")
    records = [*lines(*[long] * 100)]
    assert sum(map(len, records)) < 160 * 1024
    assert json.loads(records[-1])["more"] == 100 - len(records) + 1


def test_names_and_values_are_cut_so_that_a_line_has_a_bound() -> None:
    long = "\U0001f600" * (1 << 20)
    item = Item("mounts", "/m", long, (), None, long)
    (line,) = audit.lines(
        [Decision(item, "deny", None, long)],
        Pod(name=long, namespace=long, uid=long),
        Container(id=long, name=long),
        plugin="10-injector",
        outcome="failed",
        now=0,
    )
    assert len(line) < MAX_MESSAGE
    written = json.loads(line)
    assert written["pod"] == "\U0001f600" * audit.MAX_NAME + "…"
    assert written["resolved"] == "\U0001f600" * audit.MAX_VALUE + "…"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1795499266.0

    def __call__(self) -> float:
        return self.now


def attempt(
    log: AuditLog,
    pod: Pod = POD,
    outcome: AuditOutcome = "failed",
    container_id: str = "c",
    decision: Decision = DENIED,
) -> None:
    container = Container(id=container_id, name="build")
    log.record([decision], pod, container, plugin="10-injector", outcome=outcome)


def written(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_pod_that_fails_for_ever_is_written_once_an_hour_and_counted(file: Path) -> None:
    clock = Clock()
    log = AuditLog(str(file), clock)
    for number in range(1000):
        attempt(log, container_id=f"c{number}")  # a runtime makes a new one for each attempt
        clock.now += 4
    log.close()
    first, unwritten, second, rest = written(file)
    assert [one["container_id"] for one in (first, second)] == ["c0", "c900"]
    assert unwritten == {
        "time": "2026-11-24T06:47:46.000Z",
        "plugin": "10-injector",
        "namespace": "ci",
        "outcome": "failed",
        "unwritten": 899,
        "since": "2026-11-24T05:47:46.000Z",
    }
    assert (rest["unwritten"], rest["since"]) == (99, "2026-11-24T06:47:46.000Z")


def test_a_failure_for_another_reason_is_written_at_once(file: Path) -> None:
    log = AuditLog(str(file), Clock())
    attempt(log)
    attempt(log, decision=ALLOWED)
    attempt(log)
    assert [one["decision"] for one in written(file)] == ["deny", "allow"]


def test_what_was_injected_is_always_written(file: Path) -> None:
    log = AuditLog(str(file), Clock())
    for outcome in ("injected", "accepted"):
        for number in range(3):
            attempt(log, outcome=outcome, container_id=f"c{number}")
    log.close()
    assert [one["container_id"] for one in written(file)] == ["c0", "c1", "c2"] * 2


def test_thousands_of_failing_pods_of_one_namespace_write_so_many_bytes(file: Path) -> None:
    log = AuditLog(str(file), Clock())
    for number in range(5000):
        attempt(log, pod=Pod(name=f"evil-{number}", namespace="evil"))
    attempt(log)
    log.close()
    assert file.stat().st_size < MAX_BYTES + 2000
    assert written(file)[-2]["pod"] == "build-1"
    pods = sum(one.get("namespace") == "evil" and "pod" in one for one in written(file))
    assert written(file)[-1]["unwritten"] == 5000 - pods


def test_a_full_file_is_put_aside_so_that_a_disk_is_not_filled(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_FILE", 2000)
    log = AuditLog(str(file), Clock())
    for number in range(100):
        attempt(log, outcome="injected", container_id=f"c{number}")
    log.close()
    old = file.with_name("audit.jsonl.1")
    assert [file.stat().st_size <= 2000, old.stat().st_size <= 2000] == [True, True]
    ids = [one["container_id"] for one in (*written(old), *written(file))]
    assert ids == [f"c{number}" for number in range(100 - len(ids), 100)]
    assert sorted(path.name for path in file.parent.iterdir()) == ["audit.jsonl", "audit.jsonl.1"]


def test_two_plugins_put_one_full_file_aside_once(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_FILE", 10)
    one, other = AuditLog(str(file)), AuditLog(str(file))
    one.write(["12345678"])
    other.write(["abcdefgh"])
    one.write(["87654321"])
    assert file.with_name("audit.jsonl.1").read_text() == "abcdefgh\n"
    assert file.read_text() == "87654321\n"


def test_a_full_file_that_cannot_be_put_aside_is_written_no_more(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit, "MAX_FILE", 10)
    file.with_name("audit.jsonl.1").mkdir()
    log = AuditLog(str(file))
    for _ in range(3):
        log.write(["12345678"])
    assert file.read_text() == "12345678\n"
    assert caplog.messages == [f"cannot write the audit file {file}: Is a directory"]


def test_without_a_file_lines_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    AuditLog().write(iter(["one", "two"]))
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "one"),
        ("INFO", "two"),
    ]


def test_lines_are_appended_and_nobody_else_can_read_them(file: Path) -> None:
    file.write_text("before\n")
    log = AuditLog(str(file))
    log.write(iter(["one", "two"]))
    log.write(iter([]))
    log.write(iter(["three"]))
    log.close()
    assert file.read_text() == "before\none\ntwo\nthree\n"
    file.unlink()
    AuditLog(str(file)).write(iter(["new"]))
    assert file.stat().st_mode & 0o007 == 0


def test_a_file_that_is_moved_away_is_made_again(file: Path) -> None:
    log = AuditLog(str(file))
    log.write(iter(["one"]))
    file.rename(file.with_suffix(".1"))
    log.write(iter(["two"]))
    file.unlink()
    log.write(iter(["three"]))
    log.close()
    assert file.with_suffix(".1").read_text() == "one\n"
    assert file.read_text() == "three\n"


def test_what_cannot_be_written_is_told_once_until_it_can(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(str(file))
    file.mkdir()
    log.write(iter(["one"]))
    log.write(iter(["two"]))
    assert [r.getMessage() for r in caplog.records] == [
        f"cannot write the audit file {file}: Is a directory"
    ]
    file.rmdir()
    log.write(iter(["three"]))
    assert file.read_text() == "three\n"
    file.unlink()
    file.mkdir()
    log.write(iter(["four"]))
    assert len(caplog.records) == 2
    log.close()


def test_a_link_in_the_files_place_is_not_followed(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    victim = file.with_name("victim")
    victim.write_text("mine\n")
    file.symlink_to(victim)
    AuditLog(str(file)).write(iter(["one"]))
    assert victim.read_text() == "mine\n"
    assert "cannot write the audit file" in caplog.text


def test_a_fifo_without_a_reader_keeps_nobody(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(file)
    AuditLog(str(file)).write(iter(["one"]))
    assert "cannot write the audit file" in caplog.text


def test_a_line_that_a_full_disk_cut_off_does_not_take_the_next_one_with_it(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AuditLog(str(file))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
        log.write(iter(["first", "second"]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    log.write(iter(["third"]))
    log.close()
    assert file.read_text() == "first\nse\nthird\n"
    assert [r.getMessage() for r in caplog.records] == [
        f"cannot write the audit file {file}: No space left on device"
    ]
