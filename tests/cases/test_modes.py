"""Case 03: the mode of a device, written in decimal and meant in octal."""

from __future__ import annotations

import pytest
from annotating import ask, faults
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.text.modes import decimal_mode

DECIMAL = ["666", "660", "644", "664", "640", "600", "444", "440", "777", "622", "1666", "2660"]


@pytest.mark.parametrize("text", DECIMAL)
def test_a_decimal_that_is_meant_in_octal_is_refused(text: str) -> None:
    assert faults("devices", f"- {{path: /dev/a, file_mode: {text}}}") == [
        f"item 1: file_mode: {text} is decimal (0{int(text):o}); write 0{text}"
    ]


@pytest.mark.parametrize(
    ("text", "mode"), [("'666'", "0666"), ("'0660'", "0660"), ("'0o644'", "0644")]
)
def test_a_text_is_told_without_quotes(text: str, mode: str) -> None:
    assert faults("devices", f"- {{path: /dev/a, file_mode: {text}}}") == [
        f"item 1: file_mode: {text} is text; write {mode} without quotes"
    ]


def test_letters_of_ls_are_told_in_octal() -> None:
    assert faults("devices", "- {path: /dev/a, file_mode: crw-rw----}") == [
        "item 1: file_mode: 'crw-rw----' is text; write 0660 without quotes"
    ]


RIGHT = {"0666": 0o666, "0o666": 0o666, "438": 0o666, "420": 0o644, "0777": 0o777, "0": 0}
RIGHT |= {"0620": 0o620, "432": 0o660, "0x1b6": 0o666, "0770": 0o770, "0000": 0}


@pytest.mark.parametrize("text", RIGHT)
def test_a_mode_that_is_right_is_taken(text: str) -> None:
    (device,) = ask("devices", f"- {{path: /dev/a, file_mode: {text}}}").linux.devices
    assert device.file_mode.value == RIGHT[text]


@given(st.integers(0, 0o777))
def test_every_mode_that_is_written_in_octal_is_taken_unless_it_lets_nobody_read(
    mode: int,
) -> None:
    """Of the modes without x none is refused; of those with x few, which no device has."""
    if mode & 0o111 == 0:
        assert decimal_mode(mode) is None


@given(st.sampled_from([o for o in range(0o100, 0o1000) if not o & 0o111]))
def test_a_usual_mode_as_decimal_is_refused_or_means_a_usual_mode(octal: int) -> None:
    number = int(f"{octal:o}")
    meant = decimal_mode(number)
    assert meant == octal if meant is not None else not number & 0o7111
