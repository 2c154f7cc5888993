"""Noticing that something changed in directories, whatever becomes of them."""

from __future__ import annotations

import os
import resource
import select
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nri_inject.host.watch import FileWatch

Change = Callable[[Path], object]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory that holds the watched one, `hooks.d`."""
    (tmp_path / "hooks.d").mkdir()
    (tmp_path / "hooks.d/a.json").write_text("{}")
    return tmp_path


@pytest.fixture
def watch(place: Path) -> Iterator[FileWatch]:
    with closing(FileWatch([str(place / "hooks.d")])) as watch:
        yield watch


CHANGES: dict[str, Change] = {
    "new file": lambda d: (d / "b.json").touch(),
    "written": lambda d: (d / "a.json").write_text("[]"),
    "removed": lambda d: (d / "a.json").unlink(),
    "renamed": lambda d: (d / "a.json").rename(d / "b"),
    "moved out": lambda d: (d / "a.json").rename(d.parent / "a.json"),
    "mode": lambda d: (d / "a.json").chmod(0o600),
    "mode of the directory": lambda d: d.chmod(0o700),
    "link": lambda d: (d / "b.json").symlink_to("a.json"),
    "directory removed": shutil.rmtree,
    "directory moved away": lambda d: d.rename(d.parent / "other"),
    "mode of the parent": lambda d: d.parent.chmod(0o711),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_told_once(name: str, place: Path, watch: FileWatch) -> None:
    assert not watch.changed()
    CHANGES[name](place / "hooks.d")
    assert watch.changed()
    assert not watch.changed()


def test_reading_is_no_change(place: Path, watch: FileWatch) -> None:
    (place / "hooks.d/a.json").read_text()
    list((place / "hooks.d").iterdir())
    assert not watch.changed()


def test_what_happens_beside_the_directory_is_no_change(place: Path, watch: FileWatch) -> None:
    (place / "other").mkdir()
    (place / "other/file").touch()
    assert not watch.changed()


def test_descriptor_can_be_read_when_there_is_something_to_tell(
    place: Path, watch: FileWatch
) -> None:
    assert select.select([watch.fileno()], [], [], 0) == ([], [], [])
    (place / "hooks.d/b.json").touch()
    assert select.select([watch.fileno()], [], [], 10)[0] == [watch.fileno()]
    assert watch.changed()
    assert select.select([watch.fileno()], [], [], 0) == ([], [], [])


def test_writes_after_each_answer_are_all_told(place: Path, watch: FileWatch) -> None:
    for number in range(50):
        (place / "hooks.d/a.json").write_text(str(number))
        assert watch.changed()


def test_directory_that_comes_back_is_watched_again(place: Path, watch: FileWatch) -> None:
    directory = place / "hooks.d"
    for _ in range(3):
        shutil.rmtree(directory)
        assert watch.changed()
        directory.mkdir()
        assert watch.changed()
        (directory / "a.json").touch()
        assert watch.changed()
        assert not watch.changed()


def test_directory_replaced_by_another_is_watched(place: Path, watch: FileWatch) -> None:
    (place / "new").mkdir()
    (place / "hooks.d").rename(place / "old")
    (place / "new").rename(place / "hooks.d")
    assert watch.changed()
    (place / "hooks.d/b.json").touch()
    assert watch.changed()
    (place / "old/b.json").touch()
    assert not watch.changed()


def test_missing_directory_is_watched_from_its_first_file_on(tmp_path: Path) -> None:
    directory = tmp_path / "etc/containers/oci/hooks.d"
    with closing(FileWatch([str(directory)])) as watch:
        assert not watch.changed()
        directory.mkdir(parents=True)
        (directory / "a.json").touch()
        assert watch.changed()
        (directory / "b.json").touch()
        assert watch.changed()
        assert not watch.changed()


def test_link_to_the_directory_may_be_changed(place: Path) -> None:
    (place / "link").symlink_to("hooks.d")
    (place / "other").mkdir()
    with closing(FileWatch([str(place / "link")])) as watch:
        (place / "hooks.d/b.json").touch()
        assert watch.changed()
        (place / "new").symlink_to("other")
        (place / "new").rename(place / "link")
        assert watch.changed()
        (place / "other/b.json").touch()
        assert watch.changed()
        (place / "hooks.d/c.json").touch()
        assert not watch.changed()


def test_absolute_link_stays_inside_of_the_root(place: Path) -> None:
    (place / "link").symlink_to("/hooks.d")
    with closing(FileWatch(["/link"], root=str(place))) as watch:
        (place / "hooks.d/b.json").touch()
        assert watch.changed()


def test_followed_file_may_change_come_and_go(place: Path, watch: FileWatch) -> None:
    (place / "bin").mkdir()
    program = place / "bin/hook"
    watch.follow([str(program)])
    assert watch.changed()  # it may have changed before it was followed
    assert not watch.changed()
    (place / "bin/other").touch()
    assert not watch.changed()
    program.touch()
    assert watch.changed()
    program.chmod(0o755)
    assert watch.changed()
    program.unlink()
    assert watch.changed()
    assert not watch.changed()
    shutil.rmtree(place / "bin")
    assert watch.changed()
    (place / "bin").mkdir()
    assert watch.changed()
    program.touch()
    assert watch.changed()
    watch.follow([])
    watch.changed()
    program.unlink()
    assert not watch.changed()


def test_overflow_of_the_queue_is_a_change_and_the_watch_goes_on(
    place: Path, watch: FileWatch
) -> None:
    longest = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    file = place / "hooks.d/a.json"
    # Events that are equal to the one before are dropped, so they take turns.
    for number in range(longest // 2 + 100):
        file.chmod(0o600 + number % 2 * 0o40)
        os.close(os.open(file, os.O_WRONLY))
    while watch.changed():
        pass
    file.write_text("after")
    assert watch.changed()
    assert not watch.changed()


def test_without_inotify_there_may_always_be_a_change(place: Path) -> None:
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, (path.name for path in Path("/proc/self/fd").iterdir())))
    spare = [os.dup(0) for _ in range(highest)]  # so that no lower number is free
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
    try:
        watch = FileWatch([str(place / "hooks.d")])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in spare:
            os.close(descriptor)
    with closing(watch):
        assert watch.changed()
        assert watch.changed()
        assert select.select([watch.fileno()], [], [], 0) == ([], [], [])


def test_closed_twice_gives_the_descriptor_back_once(place: Path) -> None:
    watch = FileWatch([str(place)])
    watch.close()
    watch.close()
    assert watch.changed()


def test_file_is_being_written_until_it_is_closed(place: Path, watch: FileWatch) -> None:
    with (place / "hooks.d/a.json").open("a") as file:
        assert not watch.changed()
        file.write("x")
        file.flush()
        assert watch.writing() == set()
        assert watch.changed()
        assert watch.writing() == {"a.json"}
    assert watch.changed()
    assert watch.writing() == set()


def test_file_beside_one_that_is_followed_is_not_told_to_be_written(
    place: Path, watch: FileWatch
) -> None:
    (place / "beside").mkdir()
    watch.follow([str(place / "beside/real.json")])
    with (
        (place / "beside/real.json").open("w") as ours,
        (place / "beside/b.json").open("w") as not_ours,
    ):
        for file in (ours, not_ours):
            file.write("x")
            file.flush()
        assert watch.changed()
        assert watch.writing() == {"real.json"}


@pytest.mark.parametrize("name", ["removed", "renamed", "moved out", "directory removed"])
def test_file_that_has_gone_is_not_being_written(name: str, place: Path, watch: FileWatch) -> None:
    with (place / "hooks.d/a.json").open("w"):
        CHANGES[name](place / "hooks.d")
        assert watch.changed()
        assert watch.writing() == set()


def test_waiting_ends_with_a_change(place: Path, watch: FileWatch) -> None:
    (place / "hooks.d/a.json").write_text("[]")
    watch.wait(60)
    assert watch.changed()
    watch.wait(0)
    assert not watch.changed()


def test_a_followed_file_is_being_written_until_it_is_closed_also_behind_a_link(
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to("real")
    link = str(tmp_path / "link")
    with closing(FileWatch(())) as watch:
        watch.follow([link])
        with (tmp_path / "real").open("w") as file:
            file.write("half")
            file.flush()
            watch.changed()
            assert watch.writing() == {"real"}
        watch.changed()
        assert watch.writing() == set()
