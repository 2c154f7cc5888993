"""What the options of a mount come to: commas, and what hides where an option ends."""

from __future__ import annotations

import pytest

from nri_inject import api
from nri_inject.policy import mount_options
from nri_inject.policy.mount_entries import read_mount
from nri_inject.text.fields import Fault
from nri_inject.text.glob import pattern


def mount(kind: str, *options: str) -> api.Mount:
    return api.Mount(source="/srv", destination="/in", type=kind, options=options)


def test_an_option_has_as_many_words_as_commas_make() -> None:
    options = ["bind", "size=1m,mode=4777,,uid=0", ",", ""]
    assert mount_options.words(options) == ["bind", "size=1m", "mode=4777", "uid=0"]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("bind", ["ro,bind"], "bind"),
        ("", ["bind", "x,rbind"], "bind"),
        # The runtime would not see it, the kernel or another runtime might.
        ("", ["x,bind"], " with bind"),
        ("none", ["bind,ro"], "none with bind"),
        ("tmpfs", ["size=1m,bind"], "tmpfs with bind"),
        ("tmpfs", ["size=1m,xbind"], "tmpfs"),
    ],
)
def test_a_bind_that_a_comma_hides_makes_no_bind_mount(
    kind: str, options: list[str], expected: str
) -> None:
    assert mount_options.mount_type(mount(kind, *options)) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["ro,noatime"], True),
        (["noatime,ro"], True),
        (["ro", "noatime,rw"], True),
        (["noatime,rrw", "ro"], True),
        (["ro", "x,rbind"], True),
        (["rro", "x,rbind"], False),
        (["ro", "noatime,sync"], False),
        (["ro", "rwx,xrw"], False),
    ],
)
def test_a_comma_can_make_a_mount_writable_and_never_read_only(
    options: list[str], expected: bool
) -> None:
    assert mount_options.writable(mount("bind", *options))[0] is expected


@pytest.mark.parametrize(
    "option",
    ["lowerdir=/a\\", "a\\,b", 'context="a', "a\0,suid", "a\nsuid", "a\u2028b", "\x1b[2J"],
)
def test_what_hides_where_an_option_ends_is_allowed_by_nothing(option: str) -> None:
    assert mount_options.fault(["ro", option]).endswith(
        "contains a quote, a backslash or a control character"
    )


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["a"] * 64, ""),
        (["a"] * 65, "it has more than 64 options"),
        ([",".join("a" * 64)], ""),
        ([",".join("a" * 65)], "it has more than 64 options"),
        (["," * 1_000_000], "it has more than 64 options"),
    ],
)
def test_words_are_counted_and_not_options(options: list[str], fault: str) -> None:
    assert mount_options.fault(options) == fault


@pytest.mark.parametrize(
    ("word", "patterns", "expected"),
    [
        ("size=1m", ["size=*"], True),
        ("lowerdir=/a", ["lowerdir=/a"], True),
        ("lowerdir=/a:/b", ["lowerdir=/a:/b"], True),
        ("lowerdir=/[a]", ["lowerdir=/[[]a]"], True),
        ("lowerdir=/a", ["**"], False),
        ("lowerdir=/a:/etc", ["lowerdir=/a**"], False),
        ("lowerdir=/srv/a/../../etc", ["lowerdir=/srv/**"], False),
        ("lowerdir=/a", ["lowerdir=/?"], False),
    ],
)
def test_a_word_with_a_path_in_it_must_be_in_the_rule_as_it_is(
    word: str, patterns: list[str], expected: bool
) -> None:
    assert mount_options.is_named(word, map(pattern, patterns)) is expected


def test_a_rule_has_no_commas_in_its_options() -> None:
    with pytest.raises(
        Fault, match="'size=1m,mode=755' contains a comma; list each option as a separate item"
    ):
        read_mount({"type": "tmpfs", "options": ["size=1m,mode=755"]})
