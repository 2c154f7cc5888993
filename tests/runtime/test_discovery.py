"""Which files of a directory are plugins, and which text is their configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nri_inject.errors import NriError
from nri_inject.runtime import discovery
from nri_inject.runtime.discovery import Installed


def program(directory: Path, name: str, mode: int = 0o755) -> Path:
    path = directory / name
    path.write_text("#!/bin/false\n")
    path.chmod(mode)
    return path


def test_plugins_come_in_the_order_of_their_file_names(tmp_path: Path) -> None:
    for name in ("50-c", "05-a", "10-b", "10-B"):
        program(tmp_path, name)
    found, faults = discovery.find(tmp_path)
    assert [each.path.name for each in found] == ["05-a", "10-B", "10-b", "50-c"]
    assert faults == []


@pytest.mark.parametrize(
    ("name", "index", "base"),
    [("10-web", "10", "web"), ("00-", "00", ""), ("10-a-b c", "10", "a-b c"), ("10--", "10", "-")],
)
def test_a_name_is_cut_at_its_first_dash(tmp_path: Path, name: str, index: str, base: str) -> None:
    path = program(tmp_path, name)
    assert discovery.find(tmp_path) == ([Installed(path, index, base)], [])


@pytest.mark.parametrize("name", ["web", "1-web", "100-web", "ab-web", "10", "10_web", "١٢-web"])
def test_another_executable_costs_only_itself(tmp_path: Path, name: str) -> None:
    wrong, right = program(tmp_path, name), program(tmp_path, "10-right")
    found, faults = discovery.find(tmp_path)
    assert [each.path for each in found] == [right]
    assert faults == [f"plugin {wrong}: a file name such as 10-name expected"]


@pytest.mark.parametrize("mode", [0o100, 0o010, 0o001, 0o755])
def test_any_execute_bit_makes_a_plugin(tmp_path: Path, mode: int) -> None:
    program(tmp_path, "10-web", mode)
    assert [each.name for each in discovery.find(tmp_path)[0]] == ["web"]


def test_what_cannot_be_executed_and_directories_are_passed_over(tmp_path: Path) -> None:
    program(tmp_path, "10-web", 0o644)
    program(tmp_path, "README", 0o644)
    (tmp_path / "20-folder").mkdir()
    os.mkfifo(tmp_path / "30-pipe", 0o644)
    assert discovery.find(tmp_path) == ([], [])


def test_a_link_counts_whatever_it_leads_to(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for name, target in (("10-file", program(tmp_path, "x", 0o644)), ("20-dir", tmp_path)):
        (plugins / name).symlink_to(target)
    (plugins / "30-nowhere").symlink_to(tmp_path / "nowhere")
    assert [each.name for each in discovery.find(plugins)[0]] == ["file", "dir", "nowhere"]


def test_without_the_directory_there_are_no_plugins(tmp_path: Path) -> None:
    assert discovery.find(tmp_path / "none") == ([], [])


def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    path = program(tmp_path, "file")
    with pytest.raises(NriError) as caught:
        discovery.find(path)
    assert str(caught.value) == f"cannot read plugin directory {path}: Not a directory"


def test_the_configuration_with_the_index_goes_first(tmp_path: Path) -> None:
    assert discovery.configuration(tmp_path, "10", "web") == ""
    (tmp_path / "web.conf").write_text("plain: ✓\n", encoding="utf-8")
    assert discovery.configuration(tmp_path, "10", "web") == "plain: ✓\n"
    (tmp_path / "10-web.conf").write_text("")
    assert discovery.configuration(tmp_path, "10", "web") == ""
    assert discovery.configuration(tmp_path, "20", "web") == "plain: ✓\n"
    assert discovery.configuration(None, "20", "web") == ""


def test_a_configuration_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "10-web.conf"
    file.mkdir()
    with pytest.raises(NriError) as caught:
        discovery.configuration(tmp_path, "10", "web")
    assert str(caught.value) == f"cannot read configuration {file}: Is a directory"
    other = tmp_path / "20-web.conf"
    other.write_bytes(b"a: \xff\n")
    with pytest.raises(NriError, match=rf"^cannot read configuration {other}: 'utf-8' codec"):
        discovery.configuration(tmp_path, "20", "web")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\0asm\1\0\0\0rest", True),
        (b"\0asm\1\0\0", False),
        (b"\0asm\2\0\0\0", False),
        (b"", False),
    ],
)
def test_a_webassembly_module_is_known_by_its_first_bytes(
    tmp_path: Path, content: bytes, expected: bool
) -> None:
    path = tmp_path / "10-web"
    path.write_bytes(content)
    assert discovery.is_webassembly(path) is expected
    assert not discovery.is_webassembly(tmp_path / "missing")
