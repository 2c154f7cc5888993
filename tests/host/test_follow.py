"""The follower of files: which version counts while a file changes, by each kind's rule."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nri_inject.cdi import registry as cdi
from nri_inject.hooks import registry as hooks
from nri_inject.host.follow import Follower, FollowRule, ParsedFile
from nri_inject.policy import source as policy
from nri_inject.service import config_file

KEEP = FollowRule(half_written=True, faulty=True, untrusted=True, gone=True)
DROP = FollowRule(half_written=False, faulty=False, untrusted=False, gone=False)

Open = Callable[..., Follower[str]]


def parse(_: str, data: bytes) -> ParsedFile[str]:
    text = data.decode()
    if text.startswith("bad"):
        return ParsedFile(text, "faulty", "it is bad")
    return ParsedFile(text, "half written") if text.endswith("...") else ParsedFile(text)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    tmp_path.chmod(0o755)
    followers: list[Follower[str]] = []

    def open_(rule: FollowRule = KEEP, **options: Any) -> Follower[str]:
        followers.append(Follower(parse, rule, max_size=100, **options))
        return followers[-1]

    yield open_
    for follower in followers:
        follower.close()


def half_written(file: Path) -> str:
    file.write_text("two...")
    return ""


def faulty(file: Path) -> str:
    file.write_text("bad")
    return "it is bad"


def untrusted(file: Path) -> str:
    file.chmod(0o666)
    return f"{file} can be written by everybody (mode 0666)"


def fifo(file: Path) -> str:
    file.unlink()
    os.mkfifo(file, 0o600)
    return "is a fifo, not a file"


def large(file: Path) -> str:
    os.truncate(file, 101)
    return "has 101 bytes, at most 100 allowed"


def gone(file: Path) -> str:
    file.unlink()
    return "does not exist"


TROUBLES = [
    (half_written, "half written", "half_written"),
    (faulty, "faulty", "faulty"),
    (untrusted, "untrusted", "untrusted"),
    (fifo, "unreadable", "untrusted"),
    (large, "unreadable", "untrusted"),
    (gone, "gone", "gone"),
]


@pytest.mark.parametrize(("spoil", "trouble", "answer"), TROUBLES)
def test_the_rule_says_whether_the_version_before_counts(
    spoil: Callable[[Path], str], trouble: str, answer: str, tmp_path: Path, opened: Open
) -> None:
    file = tmp_path / "file"
    for rule, counts in (
        (KEEP._replace(**{answer: False}), None),
        (DROP._replace(**{answer: True}), "one"),
    ):
        if file.exists() or file.is_fifo():
            file.unlink()
        file.write_text("one")
        file.chmod(0o644)
        follower = opened(rule, files=[str(file)])
        follower.look()
        error = spoil(file)
        assert follower.look()
        found = follower.files[str(file)]
        assert (found.counts, found.trouble, found.error) == (counts, trouble, error)


def test_a_file_that_is_good_again_counts(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    follower = opened(files=[str(file)])
    for text, counts in (("one", "one"), ("bad", "one"), ("two", "two"), ("x...", "two")):
        file.write_text(text)
        follower.look()
        assert follower.files[str(file)].counts == counts
    file.unlink()
    follower.look()
    file.write_text("three")
    assert select.select([follower.fileno()], [], [], 0)[0]
    follower.look()
    assert follower.files[str(file)].counts == "three"
    assert not follower.look()


def test_what_was_untrusted_counts_when_it_is_trusted_again(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    follower = opened(DROP, files=[str(file)])
    for mode, counts in ((0o644, "one"), (0o666, None), (0o600, "one")):
        file.chmod(mode)
        follower.look()
        assert follower.files[str(file)].counts == counts


def test_a_file_that_a_program_still_writes_is_half_written(tmp_path: Path, opened: Open) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    follower = opened(files=[str(file)])
    follower.look()
    with file.open("w") as half:
        half.write("two")
        half.flush()
        follower.look()
        found = follower.files[str(file)]
        assert (found.newest, found.counts, found.sentence) == (
            *("two", "one"),
            f"{file} is being written",
        )
    follower.look()
    assert follower.files[str(file)].counts == "two"


def test_files_of_directories_are_in_their_order_and_come_and_go(
    tmp_path: Path, opened: Open
) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    low.mkdir()
    for name in ("b.x", "a.x", "other"):
        (low / name).write_text(name)
    follower = opened(directories=[str(low), str(high)], suffixes=(".x",))
    follower.look()
    assert [file.counts for file in follower.files.values()] == ["a.x", "b.x"]
    assert follower.names == {str(low): ["a.x", "b.x", "other"]}
    assert {path: fault.trouble for path, fault in follower.faults.items()} == {str(high): "gone"}
    high.mkdir()
    (high / "a.x").symlink_to(low / "other")
    (low / "b.x").unlink()
    follower.look()
    assert [file.counts for file in follower.files.values()] == ["a.x", "other"]
    (low / "other").write_text("changed")
    follower.look()
    assert follower.files[str(high / "a.x")].counts == "changed"
    low.chmod(0o777)
    follower.look()
    assert follower.faults[str(low)].trouble == "untrusted"
    assert [file.error for file in follower.files.values()] == [
        f"{low} can be written by everybody (mode 0777)"
    ]


def test_the_rules_are_those_of_the_table() -> None:
    """The table is in docs/architecture.md."""
    lines = Path("docs/architecture.md").read_text().splitlines()
    start = lines.index("  | | CDI spec | hook file | policy, configuration |")
    rows = [line.strip(" |").split(" | ") for line in lines[start + 2 : start + 6]]
    answers = {row[0]: [cell.startswith("the version before") for cell in row[1:]] for row in rows}
    rules = (cdi.RULE, hooks.RULE, policy.RULE)
    assert config_file.RULE == policy.RULE
    assert answers == {
        "half written": [rule.half_written for rule in rules],
        "faulty": [rule.faulty for rule in rules],
        "writable by others, or unreadable": [rule.untrusted for rule in rules],
        "gone": [rule.gone for rule in rules],
    }


def test_one_look_needs_no_watch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    with closing(
        Follower(parse, KEEP, max_size=9, files=[str(tmp_path / "file")], watched=False)
    ) as one:
        assert one.fileno() == -1
        one.look()
        assert [file.counts for file in one.files.values()] == ["one"]
