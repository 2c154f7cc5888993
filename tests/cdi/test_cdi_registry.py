"""What is on disk before a request is what the request sees, whatever stands there."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nri_inject.cdi.registry import CdiRegistry, Snapshot

Open = Callable[..., CdiRegistry]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Give a function that opens a registry, closed after the test."""
    registries: list[CdiRegistry] = []

    def open_(*directories: Path, **options: Any) -> CdiRegistry:
        options.setdefault("patience", 0)
        registries.append(CdiRegistry(map(str, directories), **options))
        return registries[-1]

    yield open_
    for registry in registries:
        registry.close()


def text(value: str = "1", *names: str, kind: str = "vendor.com/device") -> str:
    devices = [
        {"name": name, "containerEdits": {"env": [f"A={value}"]}} for name in names or ("a",)
    ]
    return json.dumps({"cdiVersion": "0.5.0", "kind": kind, "devices": devices})


def value(snapshot: Snapshot, name: str = "a") -> str | None:
    device = snapshot.devices.get(f"vendor.com/device={name}")
    return device.edits.env[0] if device else None


def test_same_snapshot_is_given_while_nothing_changes(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "a.json").write_text(text())
    registry = opened(tmp_path)
    first = registry.current()
    assert registry.current() is first
    (tmp_path / "unrelated.txt").write_text("x")
    assert registry.current() is first


@pytest.mark.slow
def test_two_changes_within_a_tick_of_the_clock_are_both_seen(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "a.json"
    registry = opened(tmp_path)
    for number in range(100, 1100):
        file.write_text(text(str(number)))
        assert value(registry.current()) == f"A={number}"


@pytest.mark.parametrize("way", ["rename", "move-in", "link", "hard-link", "directory"])
def test_every_way_to_appear_is_noticed(way: str, tmp_path: Path, opened: Open) -> None:
    directory, aside = tmp_path / "cdi", tmp_path / "aside"
    aside.mkdir()
    (aside / "a.json").write_text(text())
    if way != "directory":
        directory.mkdir()
    registry = opened(directory)
    assert registry.current().missing == ((str(directory),) if way == "directory" else ())
    if way == "rename":
        (directory / "tmp").write_text(text())
        (directory / "tmp").rename(directory / "a.json")
    elif way == "move-in":
        (aside / "a.json").rename(directory / "a.json")
    elif way == "link":
        (directory / "a.json").symlink_to(aside / "a.json")
    elif way == "hard-link":
        (directory / "a.json").hardlink_to(aside / "a.json")
    else:
        aside.rename(directory)
    assert value(registry.current()) == "A=1"


def test_change_of_what_a_link_leads_to_is_noticed(tmp_path: Path, opened: Open) -> None:
    directory = tmp_path / "cdi"
    directory.mkdir()
    (tmp_path / "real").write_text(text("1"))
    (directory / "a.json").symlink_to(tmp_path / "real")
    registry = opened(directory)
    assert value(registry.current()) == "A=1"
    (tmp_path / "real").write_text(text("2"))
    assert value(registry.current()) == "A=2"
    (tmp_path / "real").unlink()
    assert value(registry.current()) is None
    (tmp_path / "real").write_text(text("3"))
    assert value(registry.current()) == "A=3"


def test_directory_that_is_replaced_is_read(tmp_path: Path, opened: Open) -> None:
    directory = tmp_path / "cdi"
    directory.mkdir()
    (directory / "a.json").write_text(text("1"))
    registry = opened(directory)
    assert value(registry.current()) == "A=1"
    directory.rename(tmp_path / "old")
    assert value(registry.current()) is None
    directory.mkdir()
    (directory / "a.json").write_text(text("2"))
    assert value(registry.current()) == "A=2"


def test_half_written_file_keeps_its_devices_and_says_so(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "a.json"
    file.write_text(text("1"))
    registry = opened(tmp_path)
    registry.current()
    file.write_text(text("2")[:40])
    snapshot = registry.current()
    assert value(snapshot) == "A=1"
    assert snapshot.files[0].stale
    assert snapshot.warnings[str(file)] == ("the previous version of the file is still in use",)
    assert len(snapshot.errors[str(file)]) == 1
    file.write_text(text("2"))
    snapshot = registry.current()
    assert (value(snapshot), snapshot.errors, snapshot.warnings) == ("A=2", {}, {})


# --- files that are being written ---------------------------------------------------------------


class Waiting:
    """A clock that only waiting moves on, and what happens while somebody waits."""

    def __init__(self, *happening: Callable[[], object]) -> None:
        self.now = 0.0
        self.happening = [*happening]

    def clock(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.happening:
            self.happening.pop(0)()

    def options(self) -> dict[str, Any]:
        return {"patience": 0.1, "clock": self.clock, "wait": self.wait}


def test_half_written_file_is_waited_for(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "a.json"
    file.write_text(text("1"))
    waiting = Waiting(lambda: None, lambda: file.write_text(text("3")))
    registry = opened(tmp_path, **waiting.options())
    registry.current()
    file.write_text(text("2"))
    file.write_text(text("3")[:40])
    assert value(registry.current()) == "A=3"
    assert waiting.now == pytest.approx(0.02)


def test_file_that_is_still_open_is_waited_for_even_if_it_is_sound_so_far(
    tmp_path: Path, opened: Open
) -> None:
    whole = (
        "cdiVersion: 0.5.0\nkind: vendor.com/device\ndevices:\n"
        "- name: b\n  containerEdits:\n    env:\n    - B=1\n"
        "- name: a\n  containerEdits:\n    env:\n    - A=1\n"
    )
    registry = opened(tmp_path, **(waiting := Waiting()).options())
    with (tmp_path / "a.yaml").open("w") as file:
        file.write(whole[: whole.index("- name: a")])
        file.flush()
        waiting.happening = [lambda: file.write(whole[file.tell() :]), file.close]
        assert value(registry.current()) == "A=1"
    assert waiting.now == pytest.approx(0.02)


def test_file_that_stays_half_written_is_waited_for_once(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "a.json"
    file.write_text(text("1"))
    waiting = Waiting()
    registry = opened(tmp_path, **waiting.options())
    registry.current()
    file.write_text(text("2")[:40])
    for _ in range(3):
        assert value(registry.current()) == "A=1"
        assert waiting.now == pytest.approx(0.1)
    with file.open("a") as still_open:
        still_open.write(text("2")[40:50])
        still_open.flush()
        for _ in range(3):
            assert value(registry.current()) == "A=1"
            assert waiting.now == pytest.approx(0.2)
    file.write_text(text("2"))
    assert value(registry.current()) == "A=2"
    assert waiting.now == pytest.approx(0.2)


def test_file_that_has_been_in_error_for_long_is_not_waited_for(
    tmp_path: Path, opened: Open
) -> None:
    (tmp_path / "a.json").write_text("{")
    os.utime(tmp_path / "a.json", ns=(1, 1))
    waiting = Waiting()
    assert opened(tmp_path, **waiting.options()).current().errors
    assert waiting.now == 0


def test_only_what_was_half_written_at_first_is_waited_for(tmp_path: Path, opened: Open) -> None:
    one, other = tmp_path / "a.json", tmp_path / "b.json"

    def turn() -> None:
        one.write_text(text("2"))
        other.write_text("{")

    waiting = Waiting(turn)
    registry = opened(tmp_path, **waiting.options())
    one.write_text("{")
    assert value(registry.current()) == "A=2"
    assert waiting.now == pytest.approx(0.01)


def test_nobody_waits_when_no_request_does(tmp_path: Path, opened: Open) -> None:
    waiting = Waiting()
    registry = opened(tmp_path, **waiting.options())
    (tmp_path / "a.json").write_text("{")
    registry.ready()
    assert waiting.now == 0


def test_waiting_ends_when_the_file_is_whole(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "a.json"
    registry = opened(tmp_path, patience=60)
    file.write_text("{")
    writer = threading.Thread(target=file.write_text, args=(text("2"),))
    writer.start()
    assert value(registry.current()) == "A=2"
    writer.join()


def test_only_a_changed_file_is_read_again(tmp_path: Path, opened: Open) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(text("1", name))
        os.utime(tmp_path / f"{name}.json", ns=(1, 1))
    registry = opened(tmp_path)
    before = {file.path: file for file in registry.current().files}
    # Both have just been made, so both are read once more; then they are known.
    (tmp_path / "c.json").write_text(text("1", "c"))
    registry.current()
    assert {file.path for file in registry.current().files} == {
        *before,
        str(tmp_path / "c.json"),
    }


def test_nothing_that_stands_there_blocks_or_hides_other_files(
    tmp_path: Path, opened: Open
) -> None:
    os.mkfifo(tmp_path / "fifo.json")
    (tmp_path / "null.json").symlink_to("/dev/zero")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "directory.json").symlink_to(tmp_path)
    (tmp_path / "sub.yaml").mkdir()
    with (tmp_path / "huge.json").open("w") as huge:
        huge.truncate(1 << 40)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.json"))
    (tmp_path / "a.json").write_text(text())
    (tmp_path / "b.yml").write_text(text())
    snapshot = opened(tmp_path, unsafe=True).current()
    assert value(snapshot) == "A=1"
    assert {Path(path).name: found for path, found in snapshot.errors.items()} == {
        "dangling.yaml": ("is a dangling link: does not exist",),
        "directory.json": ("is a directory, not a file",),
        "fifo.json": ("is a fifo, not a file",),
        "huge.json": ("has 1099511627776 bytes, at most 16777216 allowed",),
        "loop.json": ("is a loop of links",),
        "null.json": ("is a device, not a file",),
        "socket.json": ("is a socket, not a file",),
    }
    assert snapshot.warnings == {
        str(tmp_path / "b.yml"): ("is ignored: specs end in .json or .yaml",)
    }


def test_file_that_others_can_write_is_not_believed(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "a.json"
    file.write_text(text())
    registry = opened(tmp_path)
    assert value(registry.current()) == "A=1"
    file.chmod(0o666)
    snapshot = registry.current()
    assert value(snapshot) is None
    assert "can be written by everybody" in snapshot.errors[str(file)][0]
    assert value(opened(tmp_path, unsafe=True).current()) == "A=1"


def test_directory_that_others_can_write_is_not_believed(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "a.json").write_text(text())
    tmp_path.chmod(0o777)
    snapshot = opened(tmp_path).current()
    assert (value(snapshot), [*snapshot.errors]) == (None, [str(tmp_path)])


def test_higher_directory_wins_and_the_loser_is_told(tmp_path: Path, opened: Open) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    for directory, word in ((low, "low"), (high, "high")):
        directory.mkdir()
        (directory / "a.json").write_text(text(word))
    snapshot = opened(low, high).current()
    assert value(snapshot) == "A=high"
    assert snapshot.shadowed == {"vendor.com/device=a": (str(low / "a.json"),)}
    assert snapshot.warnings == {
        str(low / "a.json"): (f"'vendor.com/device=a' is overridden by {high}/a.json",)
    }
    assert snapshot.priorities == {str(low): 0, str(high): 1}


def test_conflict_is_told_for_each_file(tmp_path: Path, opened: Open) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.json").write_text(text())
    snapshot = opened(tmp_path).current()
    assert snapshot.devices == {}
    assert snapshot.errors[str(tmp_path / "b.json")] == (
        (
            f"'vendor.com/device=a' is also defined by {tmp_path}/a.json and {tmp_path}/c.json,"
            " so neither is used"
        ),
    )


def test_no_directory_and_odd_ones_raise_nothing(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "file").write_text("x")
    assert opened().current().devices == {}
    assert opened(tmp_path / "none").current().missing == (str(tmp_path / "none"),)
    odd = opened(tmp_path / "file").current()
    assert odd.errors == {str(tmp_path / "file"): ("is not a directory",)}


def test_names_that_are_no_text_are_looked_at(tmp_path: Path, opened: Open) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.json"
    with open(path, "w") as file:  # noqa: PTH123 - bytes
        file.write(text())
    assert value(opened(tmp_path).current()) == "A=1"


def test_descriptor_becomes_readable_on_a_change(tmp_path: Path, opened: Open) -> None:
    import select

    registry = opened(tmp_path)
    registry.ready()
    assert select.select([registry.fileno()], [], [], 0)[0] == []
    (tmp_path / "a.json").write_text(text())
    assert select.select([registry.fileno()], [], [], 5)[0] == [registry.fileno()]
    registry.ready()
    assert select.select([registry.fileno()], [], [], 0)[0] == []


def test_what_is_wrong_is_reported_once_until_it_is_mended(tmp_path: Path) -> None:
    told: list[str] = []
    file = tmp_path / "a.json"
    registry = CdiRegistry([str(tmp_path)], unsafe=True, report=told.append)
    with closing(registry):
        registry.current()
        assert told == []
        file.write_text("{}")
        registry.current()
        first = [*told]
        assert first
        assert all(sentence.startswith(f"{file}: ") for sentence in first)
        (tmp_path / "b.json").write_text(text())
        registry.current()
        assert told == first
        file.write_text(text("1", "b"))
        registry.current()
        assert told == first
        file.write_text("{}")
        registry.current()
        assert len(told) > len(first)
