"""What is reported: written between requests, never waited for, and where the name leads."""

from __future__ import annotations

import logging
import os
import select
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nri_inject.errors import ConfigError
from nri_inject.service import output
from nri_inject.service.output import Output


def put(target: Output, *texts: str) -> None:
    for text in texts:
        target.enqueue(lambda text=text: text, len(text))  # type: ignore[misc]  # a default binds the value


def is_ready(target: Output) -> bool:
    return bool(select.select([target], [], [], 0)[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events"


@pytest.fixture
def to_file(file: Path) -> Iterator[Output]:
    target = Output(str(file))
    yield target
    target.close()


def test_nothing_is_worded_or_written_before_its_turn(to_file: Output, file: Path) -> None:
    assert not is_ready(to_file)
    worded: list[str] = []
    to_file.enqueue(lambda: worded.append("now") or "text\n", 0)  # type: ignore[func-returns-value]
    assert (worded, file.read_text()) == ([], "")
    assert is_ready(to_file)
    to_file.ready()
    assert (worded, file.read_text()) == (["now"], "text\n")
    assert not is_ready(to_file)


def test_a_file_is_appended_to_and_for_its_owner_only(file: Path) -> None:
    for text in ("a\n", "b\n"):
        target = Output(str(file))
        put(target, text)
        target.close()
    assert file.read_text() == "a\nb\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_was_rotated_is_opened_anew(to_file: Output, file: Path) -> None:
    put(to_file, "old\n")
    to_file.ready()
    file.rename(file.with_suffix(".1"))
    put(to_file, "new\n")
    to_file.ready()
    assert file.with_suffix(".1").read_text() == "old\n"
    assert file.read_text() == "new\n"


def test_where_a_file_cannot_be_made_anew_the_old_one_is_written_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, moved = tmp_path / "logs", tmp_path / "moved"
    directory.mkdir()
    target = Output(str(directory / "events"))
    directory.rename(moved)
    put(target, "a\n", "b\n")
    target.close()
    assert (moved / "events").read_text() == "a\nb\n"
    (record,) = caplog.records
    assert record.getMessage() == (
        f"cannot write to '{directory}/events': No such file or directory;"
        " output continues to the old file"
    )


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Output(f"{tmp_path}/no/file")
    assert str(caught.value) == f"cannot write to '{tmp_path}/no/file': No such file or directory"


def test_a_fifo_that_nobody_reads_is_an_error_and_no_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="No such device or address"):
        Output(str(tmp_path / "fifo"))


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[tuple[Output, int]]:
    """Give an output to a pipe, and the end to read it from."""
    os.mkfifo(tmp_path / "fifo")
    end = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    target = Output(str(tmp_path / "fifo"))
    yield target, end
    os.close(end)
    target.close()


def test_a_slow_reader_is_not_waited_for_and_loses_nothing(reader: tuple[Output, int]) -> None:
    target, end = reader
    text = "x" * 999_999 + "\n"
    put(target, text)
    target.ready()
    assert not is_ready(target)  # the pipe is full
    read = b""
    while len(read) < len(text):
        read += os.read(end, 1 << 16)
        if is_ready(target):
            target.ready()
    assert read.decode() == text


def test_what_is_too_much_for_a_reader_is_lost_and_counted(
    reader: tuple[Output, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(output, "MAX_WAITING", 2)
    target, end = reader
    put(target, "a", "b", "c", "d")
    target.ready()
    assert os.read(end, 10) == b"ab"
    assert caplog.records[-1].getMessage() == f"{target!r} is too slow: 2 texts are lost"


def test_what_waits_for_a_reader_is_bounded_in_bytes(
    reader: tuple[Output, int], caplog: pytest.LogCaptureFixture
) -> None:
    target, end = reader
    target.enqueue(lambda: "a", output.MAX_WAITING_BYTES - 1)
    target.enqueue(lambda: "b", 1)
    target.enqueue(lambda: "c", 1)
    target.ready()
    target.enqueue(lambda: "d", output.MAX_WAITING_BYTES)
    target.ready()
    assert os.read(end, 10) == b"abd"
    assert caplog.messages == [f"{target!r} is too slow: 1 texts are lost"]


def test_a_reader_that_has_left_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "fifo")
    end = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    left: list[bool] = []
    target = Output(str(tmp_path / "fifo"), on_reader_gone=lambda: left.append(True))
    os.close(end)
    put(target, "a", "b")
    target.ready()
    assert left == [True, True]
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR
    ] == [f"cannot write to {target!r}: Broken pipe; further output is lost"]
    target.close()


def test_another_file_may_be_aimed_at(to_file: Output, file: Path, tmp_path: Path) -> None:
    put(to_file, "a\n")
    to_file.set_path(str(tmp_path / "other"))
    to_file.ready()
    assert (file.read_text(), (tmp_path / "other").read_text()) == ("", "a\n")
