"""A policy in a file: what is in force while the file changes."""

from __future__ import annotations

import logging
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nri_inject.policy.rules import Policy
from nri_inject.policy.source import PolicyFile

GOOD = "rules: [{name: one, allow: {hooks: [a]}}]"
OTHER = "rules: [{name: two, allow: {hooks: [a]}}]"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where the policy is going to be; nothing is there yet."""
    tmp_path.chmod(0o755)
    return tmp_path / "policy.yaml"


class Opened:
    """Policy files that the test's end closes."""

    def __init__(self) -> None:
        self.all: list[PolicyFile] = []

    def __call__(
        self,
        file: Path,
        *,
        unsafe: bool = False,
        inherited: bytes = b"",
        note: Callable[[bytes], object] = bool,
    ) -> PolicyFile:
        self.all.append(PolicyFile(str(file), unsafe=unsafe, inherited=inherited, note=note))
        return self.all[-1]


@pytest.fixture
def opened() -> Iterator[Opened]:
    opener = Opened()
    yield opener
    for source in opener.all:
        source.close()


def names(policy: Policy) -> list[str]:
    return [rule.name for rule in policy.rules]


def is_told(source: PolicyFile) -> bool:
    return bool(select.select([source.fileno()], [], [], 0)[0])


def test_a_change_is_told_and_taken_in(
    file: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file.write_text(GOOD)
    source = opened(file)
    assert names(source.current()) == ["one"]
    assert source.current() is source.current()
    file.write_text(OTHER)
    assert is_told(source)
    source.ready()
    assert not is_told(source)
    assert names(source.current()) == ["two"]
    assert caplog.messages == [f"policy {file}: 1 rules are in force"] * 2


def test_a_bad_version_leaves_the_one_before_in_force_and_says_so_once(
    file: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(GOOD)
    source = opened(file)
    source.current()
    file.write_text("rules: [{}]")
    assert names(source.current()) == ["one"]
    fault = f"{file}: rules: rule 1: one of allow, deny, give is required"
    assert source.error == fault
    newer_fault = source.current().newer_fault
    assert newer_fault.startswith(f"{fault}; the version of 20")
    assert newer_fault.endswith("Z is in force")
    os.utime(file)
    source.current()
    front = "policy rejected, the previous version stays in force: "
    assert caplog.messages == [front + fault]
    file.write_text(GOOD)
    assert source.current().newer_fault == ""
    assert source.error == ""


def test_a_version_that_is_being_written_waits_until_it_is_whole(
    file: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text(GOOD)
    source = opened(file)
    with file.open("w") as half:  # which cuts it off: an empty policy would be a good one
        assert names(source.current()) == ["one"]
        assert source.error == f"{file} is being written"
        half.write("rules: [{name: two, allow: {hooks: [a]}}")
        half.flush()
        assert names(source.current()) == ["one"]
        half.write("]")
    assert is_told(source)
    assert (names(source.current()), source.error) == (["two"], "")
    assert caplog.messages == []


def test_a_first_version_that_is_being_written_denies_everything(
    file: Path, opened: Opened
) -> None:
    source = opened(file)
    with file.open("w") as half:
        half.write("rules: [")
        half.flush()
        assert source.current().trouble == (
            f"the policy on this node is not usable: {file} is being written"
        )
        half.write("]")
    assert source.current().trouble == ""


def test_what_is_written_beside_it_does_not_matter(file: Path, opened: Opened) -> None:
    file.write_text(GOOD)
    source = opened(file)
    with (file.parent / "other").open("w") as half:
        half.write("x")
        half.flush()
        file.write_text(OTHER)
        assert names(source.current()) == ["two"]


def test_a_first_version_that_is_bad_denies_everything_and_gives_the_reason(
    file: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("rule: []")
    source = opened(file)
    fault = f"{file}: unknown key 'rule'; did you mean 'rules'?"
    assert source.current().trouble == f"the policy on this node is not usable: {fault}"
    assert caplog.messages == [
        f"policy rejected, and no previous version exists, so everything is denied: {fault}"
    ]
    file.write_text(GOOD)
    assert (source.current().trouble, names(source.current())) == ("", ["one"])


def test_the_next_worker_goes_on_with_the_version_that_was_in_force(
    file: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    noted: list[bytes] = []
    file.write_text(GOOD)
    opened(file, note=noted.append).current()
    file.write_text("rule: []")
    source = opened(file, inherited=noted[-1], note=noted.append)
    fault = f"{file}: unknown key 'rule'; did you mean 'rules'?"
    assert names(source.current()) == ["one"]
    assert source.standing[1:] == ("before", None, fault)
    assert caplog.messages == [f"policy rejected, the previous version stays in force: {fault}"]
    file.write_text(OTHER)
    assert names(source.current()) == ["two"]
    assert noted == [GOOD.encode(), OTHER.encode()]


def test_a_version_of_the_worker_before_that_cannot_be_used_denies(
    file: Path, opened: Opened
) -> None:
    file.write_text("rule: []")
    source = opened(file, inherited=b"rules: [{}]")
    assert (source.standing.in_force, source.current().rules) == ("nothing", ())


def test_a_file_that_comes_later_is_found(file: Path, opened: Opened) -> None:
    later = file.parent / "etc" / file.name
    source = opened(later)
    assert source.current().trouble == (
        f"the policy on this node is not usable: {later} does not exist: there is no"
        f" '{later.parent}'"
    )
    later.parent.mkdir(mode=0o755)
    later.write_text(GOOD)
    assert names(source.current()) == ["one"]
    later.unlink()
    assert names(source.current()) == ["one"]
    assert source.error == f"{later} does not exist"


def test_the_swap_of_a_link_as_kubelet_does_it_for_a_config_map(file: Path, opened: Opened) -> None:
    for version, text in (("..1", GOOD), ("..2", OTHER)):
        (file.parent / version).mkdir(mode=0o755)
        (file.parent / version / file.name).write_text(text)
    (file.parent / "..data").symlink_to("..1")
    file.symlink_to(f"..data/{file.name}")
    source = opened(file)
    assert names(source.current()) == ["one"]
    (file.parent / "..data_tmp").symlink_to("..2")
    (file.parent / "..data_tmp").rename(file.parent / "..data")
    assert is_told(source)
    assert names(source.current()) == ["two"]


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_file_that_others_can_write_is_not_believed(
    file: Path, opened: Opened, mode: int
) -> None:
    file.write_text(GOOD)
    file.chmod(mode)
    source = opened(file)
    assert "can be written by" in source.error
    assert source.error.endswith("; refusing to read it")
    assert source.current().trouble != ""
    assert names(opened(file, unsafe=True).current()) == ["one"]


def test_a_good_file_that_others_can_write_from_now_on_is_not_read_again(
    file: Path, opened: Opened
) -> None:
    file.write_text(GOOD)
    source = opened(file)
    file.chmod(0o666)
    file.write_text(OTHER)
    assert names(source.current()) == ["one"]
    assert source.error.endswith("; refusing to read it")


@needs_root
def test_a_file_of_another_user_is_not_believed(file: Path, opened: Opened) -> None:
    file.write_text(GOOD)
    os.chown(file, 65534, 0)
    assert opened(file).error == f"{file} belongs to user 65534, not to root; refusing to read it"


def test_a_fifo_keeps_nobody(file: Path, opened: Opened) -> None:
    os.mkfifo(file, 0o600)
    assert opened(file).error == f"{file} is a fifo, not a file"


def test_a_directory_is_no_policy(file: Path, opened: Opened) -> None:
    file.mkdir(mode=0o755)
    assert opened(file).error == f"{file} is a directory, not a file"


def test_a_loop_of_links_is_no_policy(file: Path, opened: Opened) -> None:
    file.symlink_to(file.name)
    assert opened(file).error == f"{file} leads through too many links"


def test_a_gigabyte_of_nothing_is_not_read(file: Path, opened: Opened) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    assert opened(file).error == f"{file} has 1073741824 bytes, at most 2097152 allowed"


def test_text_that_is_no_utf_8_is_a_fault(file: Path, opened: Opened) -> None:
    file.write_bytes(b"rules: [\xff]")
    assert opened(file).error.startswith(f"{file}: ")
