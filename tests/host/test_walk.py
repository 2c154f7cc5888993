"""Where a path leads, and what it leads through."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nri_inject.host.walk import MAX_PARTS, ProcLink, Refused, confirm, steps


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a file tree with /a/b/file."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").touch()
    return tmp_path


def through(path: str, root: Path) -> list[str]:
    return [step.path for step in steps(path, str(root))]


def test_each_thing_on_the_way_is_a_step(root: Path) -> None:
    assert through("/a//b/./file", root) == ["/", "/a", "/a/b", "/a/b/file"]


@pytest.mark.parametrize(
    ("target", "path", "end"),
    [
        ("a/b", "/link", "/a/b"),
        ("a/b", "/link/..", "/a"),
        ("a/b/..", "/link", "/a"),
        ("a/b/../..", "/link", "/"),
        (".", "/link", "/"),
        ("/", "/link/a", "/a"),
        ("/a/b", "/link/file", "/a/b/file"),
        ("../../..", "/link", "/"),
        ("a", "/link/./b/", "/a/b"),
    ],
)
def test_the_last_step_is_where_the_kernel_would_end(
    root: Path, target: str, path: str, end: str
) -> None:
    (root / "link").symlink_to(target)
    assert through(path, root)[-1] == end


def test_a_link_is_a_step_with_its_text(root: Path) -> None:
    (root / "link").symlink_to("a/b")
    walked = [*steps("/link", str(root))]
    assert [(step.path, step.target) for step in walked] == [
        ("/", ""),
        ("/link", "a/b"),
        ("/", ""),
        ("/a", ""),
        ("/a/b", ""),
    ]


def test_a_path_that_ends_in_a_slash_is_a_directorys(root: Path) -> None:
    assert through("/a/b/", root)[-1] == "/a/b"
    with pytest.raises(NotADirectoryError):
        through("/a/b/file/", root)


def test_the_place_where_a_path_does_not_go_on_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        through("/a/none/file", root)
    assert missing.value.filename == "/a/none"
    with pytest.raises(NotADirectoryError) as no_directory:
        through("/a/b/file/x", root)
    assert no_directory.value.filename == "/a/b/file"


def test_a_path_has_a_bounded_number_of_parts(root: Path) -> None:
    assert through("/." * (MAX_PARTS - 2) + "/a", root)[-1] == "/a"
    with pytest.raises(Refused) as refused:
        through("/." * (MAX_PARTS - 1) + "/a", root)
    assert refused.value.why == "has more than 256 parts, links followed"


def test_links_on_procfs_are_refused_wherever_they_lead() -> None:
    for path in ("/proc/self", f"/proc/{os.getpid()}/exe", f"/proc/{os.getpid()}/cwd/etc"):
        with pytest.raises(ProcLink):
            [*steps(path)]
    *_, end = steps(f"/proc/{os.getpid()}/status")
    assert end.on_procfs


def test_a_thing_is_confirmed_if_its_path_has_no_link(root: Path) -> None:
    file = root / "a/b/file"
    confirm("/a/b/file", file.stat(), str(root))
    confirm("/", root.stat(), str(root))
    (root / "a/link").symlink_to("b")
    for path in ("/a/link/file", "/a/link", "/a/b/none", "/a/b"):
        with pytest.raises(OSError, match=r"link|b|none"):
            confirm(path, file.stat(), str(root))


def test_a_thing_that_was_replaced_is_not_confirmed(root: Path) -> None:
    file = root / "a/b/file"
    before = file.stat()
    (root / "a/b/new").touch()
    (root / "a/b/new").rename(file)
    with pytest.raises(OSError, match="was replaced while it was read"):
        confirm("/a/b/file", before, str(root))
    file.unlink()
    file.symlink_to("../../a")
    with pytest.raises(OSError, match="was replaced while it was read"):
        confirm("/a/b/file", before, str(root))
