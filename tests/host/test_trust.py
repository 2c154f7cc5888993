"""Who could have written a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nri_inject.host.trust import replaceable_by, untrusted
from nri_inject.host.walk import steps

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a host's root directory with one program in it."""
    (tmp_path / "opt/bin").mkdir(parents=True)
    (tmp_path / "opt/bin/hook").write_text("#!/bin/sh\n")
    (tmp_path / "opt/bin/hook").chmod(0o755)
    for directory in ("opt/bin", "opt", "."):
        (tmp_path / directory).chmod(0o755)
    return tmp_path


def verdict(root: Path, path: str = "/opt/bin/hook") -> str | None:
    return untrusted(path, root=str(root))


def test_our_own_file_in_our_own_directories_is_trusted(root: Path) -> None:
    assert verdict(root) is None
    assert untrusted(str(root / "opt/bin/hook")) is None


@pytest.mark.parametrize(
    ("path", "mode", "sentence"),
    [
        ("opt/bin/hook", 0o757, "/opt/bin/hook can be written by everybody (mode 0757)"),
        ("opt/bin/hook", 0o775, "/opt/bin/hook can be written by group {gid} (mode 0775)"),
        ("opt/bin", 0o777, "/opt/bin can be written by everybody (mode 0777)"),
        ("opt", 0o775, "/opt can be written by group {gid} (mode 0775)"),
        (".", 0o777, "/ can be written by everybody (mode 0777)"),
    ],
)
def test_what_others_can_write_is_named(root: Path, path: str, mode: int, sentence: str) -> None:
    (root / path).chmod(mode)
    assert verdict(root) == sentence.format(gid=(root / path).stat().st_gid)


@needs_root
@pytest.mark.parametrize("path", ["opt/bin/hook", "opt/bin", "opt"])
def test_what_belongs_to_another_user_is_named(root: Path, path: str) -> None:
    os.chown(root / path, NOBODY, 0)
    assert verdict(root) == f"/{path} belongs to user {NOBODY}, not to root"


def test_directory_in_a_sticky_directory_is_trusted_and_a_file_is_not(root: Path) -> None:
    (root / "opt").chmod(0o1777)
    assert verdict(root) is None
    (root / "opt/bin").chmod(0o1777)
    expected = "/opt/bin/hook is in /opt/bin, where others can put files"
    assert verdict(root) == expected


@needs_root
def test_another_users_directory_in_a_sticky_directory_is_not_trusted(root: Path) -> None:
    (root / "opt").chmod(0o1777)
    os.chown(root / "opt/bin", NOBODY, 0)
    assert verdict(root) == f"/opt/bin belongs to user {NOBODY}, not to root"


def test_link_is_trusted_if_everything_behind_it_is(root: Path) -> None:
    (root / "link").symlink_to("opt/bin/hook")
    assert verdict(root, "/link") is None
    (root / "opt/bin").chmod(0o777)
    assert verdict(root, "/link") == "/opt/bin can be written by everybody (mode 0777)"


def test_link_in_a_sticky_directory_is_not_trusted(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "tmp/link").symlink_to("/opt/bin/hook")
    assert verdict(root, "/tmp/link") == "/tmp/link is in /tmp, where others can put files"


@needs_root
def test_another_users_link_is_not_trusted(root: Path) -> None:
    (root / "link").symlink_to("opt/bin/hook")
    os.lchown(root / "link", NOBODY, 0)
    assert verdict(root, "/link") == f"/link belongs to user {NOBODY}, not to root"


@pytest.mark.parametrize("target", ["/opt/bin", "../../../opt/bin", "opt/../opt/./bin"])
def test_links_stay_inside_of_the_root(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert [step.path for step in steps("/link/hook", str(root))][-1] == "/opt/bin/hook"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/opt/none", "/opt/none does not exist"),
        ("/none/hook", "/none/hook does not exist: there is no '/none'"),
        ("/dangling", "/dangling does not exist: there is no '/nowhere'"),
        ("/loop", "/loop leads through too many links"),
        ("/opt/bin/hook/x", "/opt/bin/hook/x cannot be inspected: is not a directory"),
        ("/opt/bin/hook/", "/opt/bin/hook/ cannot be inspected: is not a directory"),
        ("/" + "a" * 300, f"/{'a' * 300} cannot be inspected: File name too long"),
        ("/a\0b", r"'/a\x00b' is not a path: it contains a NUL"),
        ("/a\nb", r"/a\nb does not exist"),
    ],
)
def test_path_that_leads_nowhere_is_told(root: Path, path: str, sentence: str) -> None:
    (root / "dangling").symlink_to("/nowhere")
    (root / "loop").symlink_to("loop")
    assert verdict(root, path) == sentence


def test_relative_path_begins_at_the_working_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert untrusted("opt/bin/hook") is None
    assert untrusted("opt/none") == "opt/none does not exist"


@needs_root
def test_place_in_a_sticky_directory_is_its_owners_to_move(root: Path) -> None:
    (root / "tmp/theirs").mkdir(parents=True)
    (root / "tmp/ours").mkdir()
    (root / "tmp").chmod(0o1777)
    os.chown(root / "tmp/theirs", NOBODY, 0)
    assert replaceable_by([*steps("/tmp/theirs", str(root))]) == (
        f"/tmp/theirs belongs to user {NOBODY}, who can rename it"
    )
    assert replaceable_by([*steps("/tmp/ours", str(root))]) is None


@needs_root
def test_dots_do_not_hide_the_directory_that_others_can_write(root: Path) -> None:
    (root / "tmp/theirs").mkdir(parents=True)
    (root / "tmp/ours").mkdir()
    (root / "tmp/file").touch()
    (root / "tmp").chmod(0o1777)
    os.chown(root / "tmp/theirs", NOBODY, 0)
    assert replaceable_by([*steps("/tmp/ours/../theirs", str(root))]) == (
        f"/tmp/theirs belongs to user {NOBODY}, who can rename it"
    )
    in_tmp = "/tmp/file is in /tmp, where others can put files"
    assert replaceable_by([*steps("/tmp/ours/../file", str(root))]) == in_tmp
    assert verdict(root, "/tmp/ours/../file") == in_tmp
