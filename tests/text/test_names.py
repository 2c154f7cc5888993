"""The rules for names of plugins and of network interfaces."""

from __future__ import annotations

import pytest

from nri_inject.text.names import interface_fault, is_plugin_name, split_plugin


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("eth0", ""),
        ("é" * 7, ""),
        ("", "must have 1 to 15 bytes"),
        ("e" * 16, "must have 1 to 15 bytes"),
        ("é" * 8, "must have 1 to 15 bytes"),
        (".", "is not a name that a network interface can have"),
        ("..", "is not a name that a network interface can have"),
        ("a/b", "is not a name that a network interface can have"),
        ("a:b", "is not a name that a network interface can have"),
        ("a b", "is not a name that a network interface can have"),
    ],
)
def test_names_that_a_network_interface_can_have(name: str, fault: str) -> None:
    assert interface_fault(name) == fault


@pytest.mark.parametrize(
    ("text", "index", "name"),
    [
        ("10-device-injector", "10", "device-injector"),
        ("10-", "10", ""),
        ("00-10-a", "00", "10-a"),
        ("1-a", "", "1-a"),
        ("100-a", "", "100-a"),
        ("\u0661\u0660-a", "", "\u0661\u0660-a"),
        ("10", "", "10"),
        ("", "", ""),
    ],
)
def test_name_of_a_plugins_file_has_an_index(text: str, index: str, name: str) -> None:
    assert split_plugin(text) == (index, name)


@pytest.mark.parametrize(("text", "is_one"), [("a._+-Z9", True), ("", False), ("a b", False)])
def test_names_that_a_plugin_can_have(text: str, is_one: bool) -> None:
    assert is_plugin_name(text) is is_one
