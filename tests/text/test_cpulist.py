from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.text.cpulist import format_cpu_list, read


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", set()),
        ("\n", set()),
        ("0", {0}),
        ("0-3", {0, 1, 2, 3}),
        ("0-1,4,6-7", {0, 1, 4, 6, 7}),
        (" 3 , 1-1,\n", {1, 3}),
        ("2-3,0-2", {0, 1, 2, 3}),
        ("32767", {32767}),
    ],
)
def test_a_list_is_read_as_the_kernel_means_it(text: str, numbers: set[int]) -> None:
    assert read(text) == numbers


@pytest.mark.parametrize(
    "part", ["a", "-1", "3-1", "0-3:2", "1.5", "0x1", "²", "32768", "0-99999", "0-" + "9" * 99]
)
def test_what_is_no_list_is_named(part: str) -> None:
    with pytest.raises(ValueError, match=r" is not a CPU or a range of CPUs, as in 0-3,8$"):
        read(f"0,{part}")


@pytest.mark.parametrize(
    ("numbers", "text"),
    [(set(), ""), ({5}, "5"), ({0, 1}, "0-1"), ({0, 1, 2, 8, 10, 11}, "0-2,8,10-11")],
)
def test_a_list_is_written_as_the_kernel_writes_it(numbers: set[int], text: str) -> None:
    assert format_cpu_list(numbers) == text


@given(st.sets(st.integers(0, 300)))
def test_what_was_written_is_read_again(numbers: set[int]) -> None:
    assert read(format_cpu_list(numbers)) == numbers
