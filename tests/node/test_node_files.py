"""A host's files below a root: where they are, and how they are written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nri_inject.errors import ConfigError
from nri_inject.node import files


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/run/nri/nri.sock", "run/nri/nri.sock"),
        ("/var/run", "run"),
        ("/../../etc/x", "etc/x"),
        ("/var/./run/../a", "a"),
        ("/", ""),
        ("/none/of/it", "none/of/it"),
    ],
)
def test_links_are_followed_inside_of_the_root(host: Path, path: str, place: str) -> None:
    assert files.resolve(str(host), path) == host / place


def test_a_link_to_what_is_not_there_stays_inside_too(host: Path) -> None:
    (host / "etc").symlink_to("/nowhere/../else")
    assert files.resolve(str(host), "/etc/passwd") == host / "else/passwd"


def test_a_loop_of_links_is_an_error(host: Path) -> None:
    (host / "a").symlink_to("b")
    (host / "b").symlink_to("a")
    with pytest.raises(ConfigError, match=r"^/a/c leads through too many links$"):
        files.resolve(str(host), "/a/c")


def test_the_last_part_can_be_meant_itself(host: Path) -> None:
    assert files.resolve_parent(str(host), "/var/run") == host / "var/run"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.mkdir(), "cannot read /etc/x: Is a directory"),
        (lambda path: os.mkfifo(path), "/etc/x is not a regular file"),
        (lambda path: path.write_bytes(b"x" * (files.MAX_BYTES + 1)), "/etc/x has more than"),
    ],
    ids=["directory", "fifo", "long"],
)
def test_what_is_no_file_to_read_is_an_error(host: Path, make: object, sentence: str) -> None:
    (host / "etc").mkdir()
    assert callable(make)
    make(host / "etc/x")
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        files.read(str(host), "/etc/x")


def test_a_file_is_replaced_as_one_step_and_leaves_nothing_beside(host: Path) -> None:
    target = host / "file"
    target.write_text("before")
    with target.open() as reader:
        files.write(target, b"after", 0o640)
        assert reader.read() == "before"
    assert target.read_text() == "after"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert sorted(path.name for path in host.iterdir()) == ["file", "run", "var"]


def test_a_write_that_fails_leaves_what_was_there(host: Path) -> None:
    (host / "full").mkdir()
    with pytest.raises(OSError, match="directory"):
        files.write(host / "full", b"text", 0o644)
    assert sorted(path.name for path in host.iterdir()) == ["full", "run", "var"]


def test_a_link_is_replaced_from_above_where_no_runtime_looks_for_plugins(host: Path) -> None:
    plugins = host / "run" / "plugins"
    plugins.mkdir()
    plugins.joinpath("10-a").symlink_to("one")
    files.link(plugins / "10-a", "two")
    assert plugins.joinpath("10-a").readlink() == Path("two")
    assert [path.name for path in plugins.iterdir()] == ["10-a"]
    assert [path.name for path in plugins.parent.iterdir()] == ["plugins"]
