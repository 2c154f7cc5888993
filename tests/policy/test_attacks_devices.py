"""What an attacker tries to get devices, and what holds it off; docs/security.md has the table."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attacking import (
    FULL_DENIED,
    IS_DENIED,
    NULL_ALLOWED,
    annotated,
    device,
    permit,
    refusal,
    refused,
)
from support.device_rules import Rule

from nri_inject.host import sight
from nri_inject.host.model import DeviceNode
from nri_inject.host.sight import Mounted, Sight
from nri_inject.injectors.host import Host, real_host


def test_a_fake_number_under_an_allowed_name() -> None:
    text = "[{path: /dev/null, type: c, major: 1, minor: 7}]"
    expected = "the host's '/dev/null' is c 1:3, another device"
    assert refusal("devices", text, NULL_ALLOWED).endswith(expected)
    as_disk = "[{path: /dev/null, type: b, major: 8, minor: 0}]"
    assert refusal("devices", as_disk, NULL_ALLOWED).endswith(expected)


def test_dots_that_climb_out_of_an_allowed_directory(place: Path) -> None:
    (place / "dev").mkdir()
    climbing = f"{place}/dev/../../../../../../../../dev/full"
    rules = f"{{allow: {{devices: ['{place}/**']}}}}"
    assert "contains '..'" in refusal("devices", f"[{{path: {climbing}}}]", rules)
    assert "no rule of policy allows it" in refused(device(climbing, 7), rules)


@pytest.mark.parametrize("path", ["//dev/full", "/dev//full", "/./dev/full", "/dev/../dev/full"])
def test_an_odd_spelling_of_a_denied_device(path: str) -> None:
    assert refused(device(path, 7), FULL_DENIED).endswith(IS_DENIED)


def test_a_link_of_an_allowed_name_to_a_denied_device(place: Path) -> None:
    (place / "harmless").symlink_to("/dev/full")
    asked = f"[{{path: {place}/harmless}}]"
    assert refusal("devices", asked, FULL_DENIED).endswith(IS_DENIED)


def test_a_denied_device_by_its_number_at_another_path(place: Path) -> None:
    asked = f"[{{path: {place}/other, type: c, major: 1, minor: 7}}]"
    assert refusal("devices", asked, FULL_DENIED).endswith(IS_DENIED)


def test_a_link_in_a_directory_that_others_can_write(place: Path) -> None:
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "link").symlink_to("/dev/null")
    rules = f"{{allow: {{devices: [/dev/null, '{place}/**']}}}}"
    asked = f"[{{path: {shared}/link}}]"
    assert refusal("devices", asked, rules).endswith("can be written by everybody (mode 0777)")


def test_a_device_at_a_path_of_the_host_that_the_plugin_does_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a user namespace runc would mount what the host has there."""
    (tmp_path / "dev").mkdir()
    seen = Sight([Mounted("/", "/"), Mounted(f"{tmp_path}/dev", "/")])
    monkeypatch.setattr(sight, "current", lambda: seen)
    host = dataclasses.replace(real_host(root=str(tmp_path)), numbers={("c", 1, 3): ("/dev/null",)})
    rules = "{allow: {devices: ['/**']}}"
    asked = "[{path: /etc/shadow, type: c, major: 1, minor: 3}]"
    expected = "on the host '/etc/shadow' is not visible to the plugin"
    assert expected in refusal("devices", asked, rules, host)
    beside = "[{path: /dev/other, type: c, major: 1, minor: 3}]"
    assert annotated("devices", beside, rules, host).linux.devices[0].path == "/dev/other"


def test_a_block_device_under_a_harmless_name() -> None:
    disk = DeviceNode("/dev/harmless", "b", 8, 0, 0o660, 0, 6, "/dev/harmless")
    host = Host({disk.path: disk}, numbers={disk.number: ("/dev/sda",)})
    rules = "{name: wide, allow: {devices: ['/dev/*']}}"
    told = refusal("devices", "[{path: /dev/harmless}]", rules, host)
    assert "rule 'wide', but it is for type c, and the type is b" in told


def test_a_file_of_the_host_in_the_place_of_an_allowed_device(place: Path) -> None:
    """In a user namespace runc mounts what the host has at the path, whatever the number."""
    (place / "shadow").touch()
    rules = f"{{allow: {{devices: [/dev/null, '{place}/**']}}}}"
    asked = f"[{{path: {place}/shadow, type: c, major: 1, minor: 3}}]"
    assert refusal("devices", asked, rules).endswith("shadow' is a regular file")


def test_a_path_that_is_filled_after_the_check(place: Path) -> None:
    """The same, by a link that somebody puts there before the runtime looks."""
    shared = place / "shm"
    shared.mkdir()
    shared.chmod(0o1777)
    rules = f"{{allow: {{devices: [/dev/null, '{place}/**']}}}}"
    asked = f"[{{path: {shared}/new, type: c, major: 1, minor: 3}}]"
    assert refusal("devices", asked, rules).endswith(
        f"does not exist, and others can put files in {shared}"
    )


@pytest.fixture
def terminal() -> Iterator[str]:
    """Yield the path of a terminal that any user could have made."""
    ours, theirs = os.openpty()
    yield os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


EVERY_TERMINAL = [
    "{type: c, major: 136}",
    "'/dev/**'",
    "'/dev/pt*/*'",
    "'/**'",
    "{path: '/dev/**', type: c, major: 136}",
]


@pytest.mark.parametrize("entry", EVERY_TERMINAL)
def test_a_terminal_of_the_host_under_a_rule_for_more_than_terminals(
    entry: str, terminal: str
) -> None:
    told = refusal("devices", f"[{{path: {terminal}}}]", f"{{allow: {{devices: [{entry}]}}}}")
    assert "does not name this terminal, which any user of the host can create" in told


@pytest.mark.parametrize("entry", EVERY_TERMINAL)
@pytest.mark.parametrize("major", [2, 3, 136, 143])
def test_a_terminal_that_is_not_there_yet(entry: str, major: int) -> None:
    entry = entry.replace("136", str(major))
    asked = device("/dev/mine", 77, major=major)
    assert "rule that allows it" in refused(asked, f"{{allow: {{devices: [{entry}]}}}}")


def test_a_terminal_is_given_where_a_rule_names_it(terminal: str) -> None:
    for entry in (terminal, "'/dev/pts/*'"):
        rules = f"{{allow: {{devices: [{entry}]}}}}"
        assert annotated("devices", f"[{{path: {terminal}}}]", rules).linux.devices
    rules = "{allow: {devices: [{type: c, major: 136, minor: 77}]}}"
    asked = device("/dev/mine", 77, major=136)
    assert permit(rules).filter(asked, real_host()) is asked


@pytest.mark.parametrize("number", [(136, 999_999), (1, 3)])
def test_a_path_at_which_any_user_can_make_a_terminal_appear(number: tuple[int, int]) -> None:
    """In a user namespace runc mounts what the host has there by then, whatever the number."""
    major, minor = number
    rules = (
        f"{{allow: {{devices: [/dev/pts/999999, {{type: c, major: {major}, minor: {minor}}}]}}}}"
    )
    assert refused(device("/dev/pts/999999", minor, major=major), rules).endswith(
        "does not exist, and any user can create a terminal in /dev/pts"
    )


@pytest.mark.parametrize(
    "beside",
    [
        [Rule(False, "wm", "c", 1, 3)],
        [Rule(False, "rwm", "c", 1, -1)],
        [Rule(False, "rwm", "c", 1, 3), Rule(True, "r", "c", 1, 3), Rule(True, "w", "c", 1, 3)],
        [Rule(False, "rwm", "c", 1, 3), Rule(True, "rw", "c", 1, -1)],
    ],
    ids=["part of the letters", "all minor numbers", "allowed again", "allowed by a wildcard"],
)
def test_rules_that_seem_to_take_writing_away(beside: list[Rule]) -> None:
    """With crun on cgroup v2 O_RDWR passes beside a rule that denies w alone."""
    asked = device("/dev/null", 3)
    asked.linux.resources.devices.extend(rule.message() for rule in beside)
    told = refused(asked, "{name: reading, allow: {devices: [{path: /dev/null, access: r}]}}")
    assert "its access is r, and rw is requested" in told
