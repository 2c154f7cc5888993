"""Slips in JSON of hook files and CDI specs: the place of the slip, and the next step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.saying import CASES, said

COMMENT = "JSON has no comments; remove this one"
COMMA = "JSON has no trailing commas; remove this one"
MARK = "the file begins with a byte order mark; save it as UTF-8 without one"
LINE_END = r"the line ends in a text; close its double quotes, or write \n"
SOUND = json.dumps(
    {
        "version": "1.0.0",
        "hook": {"path": sys.executable, "args": ["a", "b"], "env": ["A=1"]},
        "when": {"annotations": {r"^io\.acme\.x$": "^on$"}, "commands": [r"\.sh$"]},
        "stages": ["prestart"],
    },
    indent=1,
)
LINES = SOUND.split("\n")


def comments() -> Iterator[tuple[str, int]]:
    for opening in ("// ours", "/* ours */", "# ours"):
        for line in range(len(LINES)):
            yield "\n".join([*LINES[:line], opening, *LINES[line:]]), line + 1
        for line, text in enumerate(LINES[:-1]):
            if not text.rstrip().endswith(("[", "{")):
                yield "\n".join([*LINES[:line], f"{text} {opening}", *LINES[line + 1 :]]), line + 1


def trailing_commas() -> Iterator[tuple[str, int]]:
    for line, text in enumerate(LINES[1:], 1):
        if text.strip()[:1] in ("}", "]"):
            before = LINES[line - 1]
            yield "\n".join([*LINES[: line - 1], f"{before},", *LINES[line:]]), line


def single_backslashes() -> Iterator[tuple[str, int]]:
    for at in range(len(SOUND)):
        if SOUND[at : at + 2] == "\\\\":
            yield SOUND[:at] + SOUND[at + 1 :], SOUND.count("\n", 0, at) + 1


@pytest.mark.parametrize(
    ("slips", "sentence"),
    [
        (comments, COMMENT),
        (trailing_commas, COMMA),
        (single_backslashes, r"\. is no escape of JSON; write \\."),
    ],
)
def test_the_line_of_each_slip_in_a_hook_file_is_named(
    slips: type[Iterator[tuple[str, int]]], sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "hook.json"
    texts = [*slips()]
    assert len(texts) > 2
    for text, line in texts:
        file.write_text(text)
        status, lines = said("hooks", "validate", file)
        assert status == 1
        assert lines[0].startswith(f"{file}: line {line}, column ")
        assert lines[0].endswith(f": {sentence}")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\ufeff" + SOUND, f"line 1, column 1: {MARK}"),
        ("", "line 1, column 1: the file is empty"),
        ("\n\n", "line 1, column 1: the file is empty"),
        ("version: 1.0.0\nhook:\n", "line 1, column 1: the file is YAML, and must be JSON"),
        ("---\nversion: 1.0.0\n", "line 1, column 1: the file is YAML, and must be JSON"),
        ("{'version': '1.0.0'}", "line 1, column 2: text stands in \", not in '"),
        ("{\u201cversion\u201d: 1}", 'line 1, column 2: text stands in ", not in \u201c'),
        ("{version: 1}", 'line 1, column 2: a key must stand in double quotes: "version"'),
        ('{"a": True}', "line 1, column 7: True is no value of JSON; write true"),
        ('{"a": None}', "line 1, column 7: None is no value of JSON; write null"),
        ('{"a": x}', 'line 1, column 7: text must stand in double quotes, as in "x"'),
        ('{"a": 1\n "b": 2}', "line 2, column 2: a comma is missing before this"),
        ('{"a" 1}', "line 1, column 6: a colon is missing before this"),
        ('{"a": }', "line 1, column 7: a value is missing before this"),
        ('["a",, "b"]', "line 1, column 6: a value is missing before this"),
        ('{"a": "b\n"}', f"line 1, column 9: {LINE_END}"),
        ('{"a": "b\tc"}', r"line 1, column 9: '\t' cannot stand in a text; write \t"),
        (r'{"a": "\x41"}', r"line 1, column 8: \x is no escape of JSON; write \\x"),
        (r'{"a": "\u12"}', r"line 1, column 9: four hexadecimal digits must follow \u"),
        ('{"a": ["b"', "line 1, column 11: the file ends here, before its brackets are closed"),
        ('{"a": "b}', "line 1, column 7: the text that begins here has no closing double quotes"),
        ('{"a": 1}}', "line 1, column 9: the file goes on after the end of its document"),
    ],
)  # fmt: skip
def test_other_slips_are_told_with_place_and_next_step(
    text: str, sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "hook.json"
    file.write_text(text, encoding="utf-8")
    assert said("hooks", "validate", file) == (1, [f"{file}: {sentence}"])


def test_a_file_in_utf_16_is_told(tmp_path: Path) -> None:
    file = tmp_path / "hook.json"
    file.write_text(SOUND, encoding="utf-16")
    sentence = "line 1, column 1: the file is not UTF-8, perhaps UTF-16; save it as UTF-8"
    assert said("hooks", "validate", file) == (1, [f"{file}: {sentence}"])


def test_the_documentations_own_pattern() -> None:
    file, comment = CASES / "24" / "f.json", CASES / "24" / "comment.json"
    assert said("hooks", "validate", file, comment) == (
        1,
        [
            rf"{file}: line 3, column 31: \. is no escape of JSON; write \\.",
            f"{comment}: line 1, column 1: {COMMENT}",
        ],
    )


SPEC = """\
{
 "cdiVersion": "0.5.0",
 "kind": "acme.com/a",
 "devices": [{"name": "x", "containerEdits": {"env": ["A=b"]}}]
}"""


@pytest.mark.parametrize("opening", ["// ours", "/* ours */"])
def test_a_comment_in_a_spec_of_json_is_told(opening: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    lines = SPEC.split("\n")
    for line in range(len(lines)):
        file.write_text("\n".join([*lines[:line], opening, *lines[line:]]))
        assert said("cdi", "validate", file) == (
            1,
            [f"{file}: line {line + 1}, column 1: {COMMENT}"],
        )


def test_a_single_backslash_in_a_spec_of_json_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(SPEC.replace("A=b", r"A=\d"))
    sentence = r"line 4, column 58: \d is no escape of JSON; write \\d"
    assert said("cdi", "validate", file) == (1, [f"{file}: {sentence}"])


def test_a_spec_may_have_what_the_yaml_parsers_of_runtimes_take(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("\ufeff" + SPEC.replace('"A=b"]', '"A=b",]'), encoding="utf-8")
    assert said("cdi", "validate", file) == (0, [])
