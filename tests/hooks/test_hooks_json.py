"""How the shipped hooks read the JSON of runtimes, in which a pod's author has a say."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parents[2] / "hooks/bin/json-text"
NOTHING = (1, b"")


def json_text(document: str, *keys: str) -> tuple[int, bytes]:
    """Return exit status and output; the program has to read all of the document."""
    result = subprocess.run(
        [PROGRAM, *keys],
        input=document.encode("utf-8", "surrogatepass"),
        env={"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    return result.returncode, result.stdout


def test_the_states_of_runc_and_crun_are_read() -> None:
    runc = '{"ociVersion":"1.2.1","id":"c-1","status":"creating","pid":7,"bundle":"/run/b"}'
    crun = """\
{
  "ociVersion": "1.0",
  "id": "c-1",
  "pid": 7,
  "root": "rootfs",
  "bundle": "\\/run\\/b",
  "status": "created",
  "annotations": {
    "a": "x\\/y"
  }
}"""
    for state in (runc, crun):
        assert json_text(state, "bundle") == (0, b"/run/b\n")
        assert json_text(state, "id") == (0, b"c-1\n")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"\/run\/b", "/run/b"),
        (r"a\"b\\c\\", 'a"b\\c\\'),
        (r"\u0041\u00e9\u20AC", "Aé€"),
        (r"\ud83d\ude00\uD83D\uDE00", "😀😀"),
        (r"\ud800\udc00\udbff\udfff", "\U00010000\U0010ffff"),
        (r"\u0080\u07ff\u0800\ud7ff\ue000\uffff", "\x80\u07ff\u0800\ud7ff\ue000\uffff"),
        ("é€😀 {}[]:,", "é€😀 {}[]:,"),
        (" a ", " a "),
        ("/a" * 2000, "/a" * 2000),
    ],
)
def test_every_escape_means_its_character(written: str, meant: str) -> None:
    expected = (0, f"{meant}\n".encode())
    assert json_text(f'{{"bundle": "{written}"}}', "bundle") == expected
    assert json_text(f'{{"root":\n{{\t"path"\r: "{written}"}}}}', "root", "path") == expected


@pytest.mark.parametrize(
    "value",
    [
        *('""', "7", "null", "true", '["/x"]', '{"bundle": "/x"}'),
        # control characters, which neither a path nor an id has
        *(r'"\n"', r'"a\tb"', r'"\u0000"', r'"\u001f"', r'"\u007f"', '"a\nb"', '"\x7f"'),
        # no escapes
        *(r'"\x41"', r'"\u12"', r'"\u12g4"', r'"\U0041"'),
        # halves of a surrogate pair
        *(r'"\ud83d"', r'"\ude00"', r'"\ud83dx"', r'"\ud83d\u0041"', r'"\ude00\ud83d"'),
        f'"{"a" * 40_000}"',
    ],
)
def test_what_no_path_and_no_id_can_be_is_refused(value: str) -> None:
    assert json_text(f'{{"bundle": {value}, "id": "c-1"}}', "bundle") == NOTHING
    assert json_text(f'{{"root": {{"path": {value}}}}}', "root", "path") == NOTHING


@pytest.mark.parametrize(
    "document",
    [
        *("", "{", "}", "[", '"', '"bundle"', "{}", "[]", "null"),
        *('["bundle", "/x"]', '[{"bundle": "/x"}]', '{"a": {"bundle": "/x"}}'),
        *('{"a": "bundle", "b": "/x"}', '{"a": ["bundle"], "b": "/x"}', '{"Bundle": "/x"}'),
        '{"a": [{"bundle": "/x"}], "c": {"d": {"bundle": "/x"}}}',
    ],
)
def test_a_key_counts_in_the_object_itself_alone(document: str) -> None:
    assert json_text(document, "bundle") == NOTHING
    assert json_text(document, "root", "bundle") == NOTHING


def test_a_document_that_is_cut_off_is_refused() -> None:
    document = r'{"bundle": "/x\"", "root": {"path": "/y"}, "z": ["}"]}'
    for length in range(len(document)):
        assert json_text(document[:length], "bundle") == NOTHING
        assert json_text(document[:length], "root", "path") == NOTHING
    assert json_text(document, "root", "path") == (0, b"/y\n")


def test_a_key_may_be_written_with_escapes() -> None:
    assert json_text(r'{"bund\u006ce": "/x"}', "bundle") == (0, b"/x\n")


# Texts that are hostile to a reader of JSON, four times as long as Kubernetes takes them.
SIZE = 1024 * 1024
HOSTILE = {
    "one long word": "a" * SIZE,
    "escaped quotation marks": r"\"" * (SIZE // 2),
    "backslashes": r"\\" * (SIZE // 2),
    "backslashes and quotation marks": r"\\\"" * (SIZE // 4),
    "escaped characters": r"\u0000" * (SIZE // 6),
    "braces": "{" * SIZE,
    "separators": r",\":" * (SIZE // 4),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_long_annotation_costs_little_and_changes_nothing(text: str) -> None:
    state = f'{{"annotations": {{"k": "{text}", "{text}": "v"}}, "bundle": "/b", "id": "c-1"}}'
    assert json.loads(state)["bundle"] == "/b"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json_text(state, "bundle") == (0, b"/b\n")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # At most 1.3 s here; a reader whose time grows with the square of the length takes 12.
    assert after.ru_utime - before.ru_utime < 5


# --- JSON in general ---

names = st.sampled_from(["bundle", "root", "path", "id", 'bundle"', "\\", "é", ""])
strings = names | st.text(max_size=8)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1, 1) | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=12,
)
WRITERS: list[Callable[[Any], str]] = [
    json.dumps,
    lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    lambda value: json.dumps(value, separators=(",", ":")).replace("/", "\\/"),
    lambda value: json.dumps(value, indent="\t").replace('"', '\r\n"', 1),
]


def expected(value: object) -> tuple[int, bytes]:
    """Return what json-text is to make of a value that Python's reader has found."""
    is_plain = (
        isinstance(value, str) and value and all(map(str.isprintable, value.replace(" ", "")))
    )
    return (0, f"{value}\n".encode()) if is_plain else NOTHING


printable = st.text(
    st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=8
)


@examples(60)
@given(
    members=st.dictionaries(strings, values, max_size=4),
    value=printable | st.sampled_from(["", 7, None]),
    place=st.integers(0, 4),
    write=st.sampled_from(WRITERS),
)
def test_what_python_writes_is_read(
    members: dict[str, Any], value: Any, place: int, write: Callable[[Any], str]
) -> None:
    pairs = [(key, item) for key, item in members.items() if key not in ("bundle", "root")]
    pairs.insert(place, ("bundle", value))
    pairs.insert(place, ("root", {**members, "path": value}))
    document = write(dict(pairs))
    assert json_text(document, "bundle") == expected(value)
    assert json_text(document, "root", "path") == expected(value)


@examples(60)
@given(st.lists(st.sampled_from(["bundle", *'{}[]:,"\\ u0x\n']), max_size=40).map("".join))
def test_any_text_ends_in_one_plain_line_or_in_nothing(document: str) -> None:
    status, output = json_text(document, "bundle")
    if status == 0:
        assert output.endswith(b"\n")
        assert output[:-1].decode().isprintable()
    else:
        assert (status, output) == NOTHING
