"""YAML texts and their values, which are those of Go's sigs.k8s.io/yaml, or their errors."""

from __future__ import annotations

import json
import math
import pickle

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples
from support.yamlwords import refusal

from nri_inject.errors import NriError
from nri_inject.text import yamlevents, yamltext
from nri_inject.text.yamlscalars import as_integer, as_text, float_text
from nri_inject.text.yamltext import ANNOTATION, SPEC_FILE, Value, YamlError


def words(text: str) -> list[str]:
    return text.split()


# A plain scalar, its value, and the text that it has where text is due (None: none).
# The answers are those of sigs.k8s.io/yaml 1.4.0.
PLAIN: list[tuple[str, Value, str | None]] = [
    *((word, True, "true") for word in words("y Y yes Yes YES on On ON true True TRUE")),
    *((word, False, "false") for word in words("n N no No NO off Off OFF false False FALSE")),
    *((word, word, word) for word in words("yEs nO oN tRUE falsE nULL Trueish null-ish")),
    *((word, None, None) for word in ("", "~", "null", "Null", "NULL")),
    ("0", 0, "0"),
    ("12", 12, "12"),
    ("-1", -1, "-1"),
    ("+5", 5, "5"),
    ("0644", 420, "420"),
    ("0o644", 420, "420"),
    ("0O644", 420, "420"),
    ("-010", -8, "-8"),
    ("007", 7, "7"),
    ("0x1F", 31, "31"),
    ("0X1f", 31, "31"),
    ("-0x10", -16, "-16"),
    ("0b11", 3, "3"),
    ("4_20", 420, "420"),
    ("1_000", 1000, "1000"),
    ("1__", 1, "1"),
    ("0x_F", 15, "15"),
    ("9223372036854775808", 2**63, "9223372036854775808"),
    ("18446744073709551615", 2**64 - 1, "18446744073709551615"),
    ("-9223372036854775808", -(2**63), "-9223372036854775808"),
    ("089", 89.0, "89"),
    ("0_8", 8.0, "8"),
    ("5e2", 500.0, "500"),
    ("1e6", 1e6, None),
    ("240.0", 240.0, "240"),
    ("3.0", 3.0, "3"),
    ("2.50", 2.5, None),
    ("1.10", 1.1, None),
    ("5.", 5.0, "5"),
    (".5", 0.5, None),
    (".5_5", 0.55, None),
    ("+.5", 0.5, None),
    ("-0.0", 0.0, None),
    ("123456.7", 123456.7, None),
    ("0.00001", 0.00001, None),
    ("1e39", 1e39, None),
    ("1e-400", 0.0, "0"),
    *(
        (word, word, word)
        for word in words(
            "2024-01-02 2024-01-02T03:04:05Z 12:30 12:30:45 190:20:30.15 0000:01:00.0 1.1.0 0,1 "
            "10.0.0.1 0x 0xg 0b2 0o8 1e 1e+ . + ++1 -. .e5 ._5 .5__5 _1 inf nan Infinity .Inf1 "
            "0x1p2 = << /dev/null ٣ 1٣"
        )
    ),
]


@pytest.mark.parametrize(("plain", "value", "text"), PLAIN, ids=[row[0] for row in PLAIN])
def test_plain_scalar_has_the_value_that_go_gives_it(
    plain: str, value: Value, text: str | None
) -> None:
    loaded = yamltext.load(f"[{plain} ]" if plain and "," not in plain else f"- {plain}\n")
    assert loaded == [value]
    assert isinstance(loaded, list)
    item = loaded[0]
    assert type(item) is type(value)
    if isinstance(item, float):
        assert float_text(item) == text
    elif item is None or isinstance(item, list | dict):
        assert text is None
    else:
        assert as_text(item) == text


@pytest.mark.parametrize("text", ["'yes'", '"yes"', "|-\n  yes", ">-\n  yes"])
def test_quoted_and_block_scalars_are_always_text(text: str) -> None:
    assert yamltext.load(f"a: {text}\n") == {"a": "yes"}


@pytest.mark.parametrize(
    ("value", "integer"),
    [
        (7, 7),
        (-7, -7),
        (420.0, 420),
        (4e2, 400),
        (-0.0, 0),
        (1.2345678901234567e18, 1234567890123456800),
        (1.8446744073709552e19, 18446744073709552000),
        (1e22, 10**22),
        (1.5, None),
        (math.inf, None),
        (math.nan, None),
        (True, None),
        ("7", None),
        (None, None),
        ([7], None),
        ({}, None),
    ],
)
def test_as_integer_takes_whole_numbers_in_any_spelling(value: Value, integer: int | None) -> None:
    assert as_integer(value) == integer
    assert type(as_integer(value)) is type(integer)


# Annotations and files that the Go plugins and library accept, and what they make of them.
DOCUMENTS: dict[str, tuple[str, Value]] = {
    "nothing": ("", None),
    "comment only": ("# nothing here\n", None),
    "device": (
        "- path: /dev/null\n  type: c\n  major: 1\n  minor: 3\n  file_mode: 0644\n",
        [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "file_mode": 420}],
    ),
    "json": ('[{"path":"/dev/null","major":1}]', [{"path": "/dev/null", "major": 1}]),
    "json with tabs and a trailing comma": ('{\n\t"a": [1,],\n}', {"a": [1]}),
    "text": ("/dev/null", "/dev/null"),
    "comma list": ("v.com/c=0,v.com/c=1", "v.com/c=0,v.com/c=1"),
    "sysctl": (
        "net.core.somaxconn: 256\nkernel.shm_rmid_forced: yes\nping_group_range: 0 100\n",
        {
            "net.core.somaxconn": 256,
            "kernel.shm_rmid_forced": True,
            "ping_group_range": "0 100",
        },
    ),
    "empty text beside null": ("a: ''\nb:\n", {"a": "", "b": None}),
    "names": ("- path: /dev/名前\n", [{"path": "/dev/名前"}]),
    "CRLF": ("a: 1\r\nb:\r\n- 2\r\n", {"a": 1, "b": [2]}),
    "document markers": ("# generated\n---\na: 1 # one\n...\n", {"a": 1}),
    "a marker with nothing after it": ("a: 1\n---\n# done\n", {"a": 1}),
    "anchor and alias": ("a: &x {b: [1]}\nc: *x\n", {"a": {"b": [1]}, "c": {"b": [1]}}),
    "alias as a key": ("a: &x b\n*x : 1\n", {"a": "b", "b": 1}),
    "anchor of a key": ("&x a: 1\nb: *x\n", {"a": 1, "b": "a"}),
    "inner anchor of the same name": ("a: &x [&x 1]\nb: *x\n", {"a": [1], "b": 1}),
    "merge key": (
        "- &a\n  path: /dev/a\n  major: 1\n- <<: *a\n  path: /dev/b\n",
        [{"path": "/dev/a", "major": 1}, {"path": "/dev/b", "major": 1}],
    ),
    "other keys before the merge key": ("{a: 1, <<: {b: 3}}", {"a": 1, "b": 3}),
    "merge of a list, the first wins": (
        "<<: [{a: 1}, {a: 2, b: 3}]\nc: 4\n",
        {"c": 4, "a": 1, "b": 3},
    ),
    "merged maps merge on": ("- &a {k: 1}\n- &b {<<: *a}\n- {<<: *b}\n", [{"k": 1}] * 3),
    "quoted merge key": ("'<<': 1\n", {"<<": 1}),
    "escaped NUL": ('"\\0"', "\0"),
    "the version that Go takes": ("%YAML 1.1\n---\na: 1\n", {"a": 1}),
}

# What only a file may have.
FILES: dict[str, tuple[str, Value]] = {
    "keys become text": (
        "1: a\ntrue: b\n010: d\n",
        {"1": "a", "true": "b", "8": "d"},
    ),
    "own key before the merge key": ("{a: 1, <<: {a: 2, b: 3}}", {"a": 1, "b": 3}),
    "two merge keys, the first wins": ("{<<: {a: 1}, <<: {a: 2, b: 3}}", {"a": 1, "b": 3}),
    "another version": ("%YAML 1.2\n---\na: 1\n", {"a": 1}),
}


@pytest.mark.parametrize(("text", "value"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_document_has_its_value(text: str, value: Value) -> None:
    assert json.dumps(yamltext.load(text)) == json.dumps(value)
    assert yamltext.load_marked(text)[0] == value
    assert yamltext.load(text.encode(), SPEC_FILE) == value


@pytest.mark.parametrize(("text", "value"), FILES.values(), ids=FILES)
def test_file_may_have_more_than_an_annotation(text: str, value: Value) -> None:
    assert json.dumps(yamltext.load(text, SPEC_FILE)) == json.dumps(value)
    assert yamltext.load_marked(text, SPEC_FILE)[0] == value


# PyYAML's own parser refuses tabs in front of flow text.
WITHOUT_TABS = {name: row for name, row in DOCUMENTS.items() if "\t" not in row[0]}


@pytest.mark.parametrize(("text", "value"), WITHOUT_TABS.values(), ids=WITHOUT_TABS)
def test_document_has_its_value_without_libyaml(
    text: str, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yamlevents, "PARSER", yaml.SafeLoader)
    assert yamltext.load(text) == value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_file_may_have_a_byte_order_mark(encoding: str) -> None:
    assert yamltext.load("a: ü\n".encode(encoding), SPEC_FILE) == {"a": "ü"}


ERRORS: dict[str, tuple[str | bytes, str]] = {
    "syntax": (
        "kind: [",
        "line 2, column 1: did not find expected node content while parsing a flow node",
    ),
    "tab": (
        "a:\n\tb: 1",
        (
            "line 2, column 1: found character that cannot start any token "
            "while scanning for the next token"
        ),
    ),
    "duplicate key": ("- path: /a\n  path: /b\n", "line 2, column 3: duplicate key 'path'"),
    "boolean key": (
        "{a: 1, on: 2}",
        "line 1, column 8: key true is a boolean, not text; put it in quotes",
    ),
    "number as key": (
        "1.10: a",
        "line 1, column 1: key 1.1 is a number, not text; put it in quotes",
    ),
    "alias of a number as key": (
        "a: &x 0x10\n*x : 1\n",
        "line 2, column 1: key 16 is a number, not text; put it in quotes",
    ),
    "merge below an own key": (
        "- path: /a\n  <<: [{b: 1}, {path: /b}]\n",
        "line 2, column 7: '<<' has 'path', which are set above; put '<<' first",
    ),
    "two merge keys": (
        "<<: {a: 1}\n<<: {b: 1}\n",
        "line 2, column 1: '<<' appears twice; use one with a list of the maps",
    ),
    "another version of YAML": (
        "%YAML 1.2\n---\na: 1\n",
        "line 1, column 1: the %YAML line must say 1.1; remove it",
    ),
    "null key": ("a: 1\n~: d\n", "line 2, column 1: null cannot be a key"),
    "list as key": ("[a]: 1", "line 1, column 1: a list cannot be a key"),
    "map as key": ("{a: 1}: 1", "line 1, column 1: a map cannot be a key"),
    "alias of a list as key": ("a: &x []\n*x : 1\n", "line 2, column 1: a list cannot be a key"),
    "tag": ("a: !!str 1", "line 1, column 4: tags are not allowed: 'tag:yaml.org,2002:str'"),
    "local tag of a list": ("!x [a]", "line 1, column 1: tags are not allowed: '!x'"),
    "bare tag": ("a: ! 1", "line 1, column 4: tags are not allowed: '!'"),
    "unknown alias": ("a: *b", "line 1, column 4: alias 'b' has no anchor"),
    "alias inside its anchor": ("&a [*a]", "line 1, column 5: alias 'a' is inside its own anchor"),
    "merge of a scalar": ("<<: 1", "line 1, column 5: '<<' takes a map or a list of maps"),
    "merge of a list of lists": (
        "<<: [[]]",
        "line 1, column 5: '<<' takes a map or a list of maps",
    ),
    "too great": (
        "a: 18446744073709551616",
        (
            "line 1, column 4: number out of range: 18446744073709551616; "
            "put it in quotes if it is meant as text"
        ),
    ),
    "too small": (
        "a: -9223372036854775809",
        (
            "line 1, column 4: number out of range: -9223372036854775809; "
            "put it in quotes if it is meant as text"
        ),
    ),
    "too great a float": (
        "a: 1e400",
        "line 1, column 4: number out of range: 1e400; put it in quotes if it is meant as text",
    ),
    "ten thousand digits": (
        "9" * 10_000,
        (
            f"line 1, column 1: number out of range: {'9' * 77}...; "
            "put it in quotes if it is meant as text"
        ),
    ),
    "infinity": ("a: -.inf", "line 1, column 4: -.inf is not a number that JSON knows"),
    "not a number": (".nan", "line 1, column 1: .nan is not a number that JSON knows"),
    "second document": (
        "a: 1\n---\nb: 2\n",
        "line 2, column 1: a second document begins here; only one is allowed",
    ),
    "many empty documents": (
        "a: 1\n---\n---\n",
        "line 2, column 1: a second document begins here; only one is allowed",
    ),
    "NUL": ("ab\nc\0", "line 2, column 2: control characters are not allowed: #x00"),
    "surrogate": ("a\nbü\ud800", r"line 2, column 3: '\ud800' is half a character"),
    "invalid UTF-8": (b"a: \xc3\xbc\xff", "line 1, column 5: invalid leading UTF-8 octet: #xff"),
    "control characters in the key": (
        '"\\e[2J\\u202e": 1\n"\\e[2J\\u202e": 2\n',
        r"line 2, column 1: duplicate key '\x1b[2J\u202e'",
    ),
    "too long": ("a" * 262145, "more than 262144 bytes of YAML"),
    "too long in UTF-8": ("ü" * 131073, "more than 262144 bytes of YAML"),
    "too deep": ("[" * 33, "line 1, column 33: lists and maps more than 32 deep"),
    "too many": ("-\n" * 20_000, "line 20000, column 2: more than 20000 values, aliases followed"),
    "tag directives": ("%TAG !a! b\n" * 17, "more than 16 %TAG directives"),
}


@pytest.mark.parametrize(("text", "sentence"), ERRORS.values(), ids=ERRORS)
def test_refusal_says_where_and_why(text: str | bytes, sentence: str) -> None:
    assert refusal(text) == sentence


def test_error_has_its_parts() -> None:
    error = YamlError("duplicate key 'a'", 2, 3)
    assert (error.problem, error.line, error.column) == ("duplicate key 'a'", 2, 3)
    assert isinstance(error, NriError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("a: 1\n", None),
        ("a: 1\n---\n", None),
        ("a: 1\n---\nb: 2\n", (2, 1)),
        ("a: 1\n---\n]: not even YAML\n", (2, 1)),
    ],
)
def test_spec_file_may_have_a_second_document_that_stays_unread(
    text: str, second: tuple[int, int] | None
) -> None:
    value, marks = yamltext.load_marked(text, SPEC_FILE)
    assert (value, marks.second) == ({"a": 1}, second)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("# nothing\n", []),
        ("a: 1\n", [{"a": 1}]),
        ("---\n---\n", [None, None]),
        ("a: &x 1\n---\n- b\n...\n---\nc\n", [{"a": 1}, ["b"], "c"]),
    ],
)
def test_all_documents_of_a_file_are_read(text: str, values: list[Value]) -> None:
    assert yamltext.load_all(text, SPEC_FILE) == values


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &x 1\n---\n- *x\n", "line 3, column 3: alias 'x' has no anchor"),
        ("a: 1\n---\n]\n", "line 3, column 1: did not find expected node content"),
    ],
)
def test_each_document_is_checked(text: str, sentence: str) -> None:
    with pytest.raises(YamlError) as caught:
        yamltext.load_all(text, SPEC_FILE)
    assert str(caught.value).startswith(sentence)


def holds_only_values(value: Value) -> bool:
    if isinstance(value, list):
        return all(holds_only_values(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and holds_only_values(value[key]) for key in value)
    return value is None or isinstance(value, bool | int | float | str)


fragments = st.lists(
    st.sampled_from(
        [
            *words("- : ? [ ] { } , &a *a <<: ' # !x %TAG --- ... 0x 1e9 .5 yes ~ a | > \\"),
            *("- ", ": ", "? ", "&a ", "*a ", "<<: ", '"', " ", "  ", "\n", "---\n", "...\n"),
            *("\t", "\r\n", "\ufeff", "\u2028", "\0"),
        ]
    ),
    max_size=40,
).map("".join)


@examples(400)
@given(st.one_of(st.text(), fragments, st.binary()))
def test_any_text_has_a_value_or_is_refused(text: str | bytes) -> None:
    for limits in (ANNOTATION, SPEC_FILE):
        try:
            value, marks = yamltext.load_marked(text, limits)
        except YamlError as error:
            sentence = str(error)
        else:
            sentence = ""
            assert holds_only_values(value)
            assert yamltext.load(text, limits) == value
            assert all(line >= 1 and column >= 1 for line, column in marks.values())
        assert sentence.isprintable()


@examples(200)
@given(st.one_of(st.text(), fragments))
def test_any_text_has_a_value_or_is_refused_without_libyaml(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yamlevents, "PARSER", yaml.SafeLoader)
        try:
            value = yamltext.load(text)
        except YamlError as error:
            value = str(error)
    assert holds_only_values(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii", exclude_categories=["Cc"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)


@examples(200)
@given(json_values)
def test_json_reads_as_itself(value: Value) -> None:
    assert yamltext.load(json.dumps(value, indent=1)) == value
