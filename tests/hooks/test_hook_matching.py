"""Hook definitions by value: reading, matching, reasons and order."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.hooks.definition import Annotation, Definition, When
from nri_inject.hooks.hook_file import read
from nri_inject.hooks.match import AS_GO, HookSubject, NoCommand, decide, injection, order
from nri_inject.host.hook_environment import PATH
from nri_inject.text.regex import BadPattern, compiled, remembering

NO_ENV = (
    f"env is empty, so the program gets only {PATH}; CRI-O"
    " and podman read these files, too, and may pass it the container's variables"
)


def document(**changes: Any) -> bytes:
    base = {
        "version": "1.0.0",
        "hook": {"path": "/bin/hook"},
        "when": {"always": True},
        "stages": ["poststop"],
    }
    return json.dumps({**base, **changes}).encode()


def faults(data: bytes) -> list[str]:
    reading = read(data)
    assert (reading.definition is None) is bool(reading.faults)
    return [str(fault) for fault in reading.faults]


def definition(data: bytes) -> Definition:
    reading = read(data)
    assert reading.definition is not None, reading.faults
    return reading.definition


# --- reading ---


@given(st.binary())
def test_any_bytes_are_a_definition_or_faults(data: bytes) -> None:
    faults(data)


def test_all_fields_are_in_the_definition() -> None:
    data = document(
        hook={"path": "/bin/hook", "args": ["hook", ""], "env": ["A=1"], "timeout": 7},
        when={"annotations": {"^a$": "b"}, "commands": ["sh$"], "hasBindMounts": True},
        stages=["prestart", "poststop"],
    )
    assert definition(data) == Definition(
        path="/bin/hook",
        args=("hook", ""),
        env=("A=1",),
        timeout=7,
        when=When(
            has_bind_mounts=True,
            annotations=(Annotation(compiled("^a$"), compiled("b")),),
            commands=(compiled("sh$"),),
        ),
        stages=("prestart", "poststop"),
    )


def test_all_faults_are_told_with_their_places() -> None:
    data = document(
        hook={"path": "", "timeout": 1},
        when={"annotations": {"(": "ok", "ok": "a**"}, "commands": ["x", "[z-a]"]},
        stages=["poststop", "later"],
    )
    known = "createContainer, createRuntime, poststart, poststop, prestart, startContainer"
    assert faults(data) == [
        "hook.path is missing",
        "when.annotations['(']: the key is not a pattern: missing ): (",
        "when.annotations.ok: 'a**' is not a pattern: bad repetition operator: **",
        "when.commands[1]: '[z-a]' is not a pattern: invalid character class range: z-a",
        f"stages[1]: 'later' must be one of {known}",
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": 1}, "version: 1 is not text; put it in quotes"),
        ({"version": "1.0"}, "version: '1.0' must be one of 1.0.0, 0.1.0; did you mean '1.0.0'?"),
        ({"stages": "poststop"}, "stages: 'poststop' is not a list"),
        ({"stages": [1]}, "stages[0]: 1 is not text; put it in quotes"),
        ({"stages": None}, "stages is missing"),
        ({"when": []}, "when: a list is not a map"),
        ({"when": {"always": "yes"}}, "when.always: 'yes' is not true or false"),
        (
            {"hook": {"path": "/x", "timeout": 1.5}},
            "hook.timeout: 1.5 is not an integer",
        ),
        (
            {"hook": {"path": "/x", "timeout": 2**63}},
            f"hook.timeout: {2**63} is not between {-(2**63)} and {2**63 - 1}",
        ),
        ({"hook": {"path": "/x", "timeout": True}}, "hook.timeout: true is not an integer"),
    ],
)
def test_fault_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert faults(document(**changes)) == [sentence]


def test_forgotten_version_is_hinted_at() -> None:
    data = json.dumps({"hook": {"path": "/x"}, "stages": ["poststop"]}).encode()
    assert faults(data) == ['hook: a map is not text; with "version": "1.0.0" it is a map']


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"when": {}}, "the conditions can never match"),
        ({"when": {"always": False}}, "the conditions can never match"),
        (
            {"when": {"always": True, "image": "x"}},
            (
                "when: unknown key 'image'; known: always, annotations, commands, hasBindMounts;"
                " it is ignored"
            ),
        ),
        ({"Stages": ["poststop"]}, "stages is set 2 times"),
        ({"stages": []}, "no stages, so it is never injected"),
        (
            {"stages": ["poststop", "poststop"]},
            "a stage is named twice, and the hook runs twice there",
        ),
        (
            {"stages": ["prestart", "createRuntime"]},
            "prestart and createRuntime are one list, so the hook runs twice there",
        ),
        ({"hook": {"path": "bin/x"}}, "'bin/x' is not an absolute path"),
        (
            {"hook": {"path": "/x", "timeout": 0}},
            "timeout 0: must be more than 0 seconds in OCI",
        ),
        ({"hook": {"path": "/x", "env": ["A"]}}, "env has 'A', which is not NAME=value"),
        ({"hook": {"path": "/x"}}, NO_ENV),
        ({"hook": {"path": "/x", "env": []}}, NO_ENV),
        ({"version": "0.1.0", "hook": "/x"}, NO_ENV),
        (
            {"hook": {"path": "/x", "args": ["--fast"]}},
            "args begins with an option; its first item is argv[0]",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_of(changes: dict[str, Any], warning: str) -> None:
    assert warning in definition(document(**changes)).warnings


def test_sensible_definition_has_no_warnings() -> None:
    hook = {"path": "/bin/hook", "env": ["A=1"]}
    assert definition(document(hook=hook)).warnings == ()


# --- patterns ---


@pytest.mark.parametrize("text", ["(?P<a>x)(?P<a>y)", r"\C", r"\Qa\E\C", "(?=x)", "\ud800"])
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(BadPattern):
        compiled(text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"\\C", "\\C"),
        (r"\Q\C\E", "\\C"),
        (r"^a\.b/c$", "a.b/c"),
        (r"^a\.b", "a.bc"),
        (r"c$", "abc"),
        (r"[(?P<a>](?P<a>x)[\](?P<a>]", "(x("),
        ("", ""),
        ("\\pL{900}", "a" * 900),
    ],
)
def test_what_go_finds_is_found(pattern: str, text: str) -> None:
    assert compiled(pattern).search(text.encode())


@pytest.mark.parametrize(
    ("pattern", "text"), [(r"^a\.b$", "axb"), ("^on$", "on\n"), ("^on$", "off\non"), ("a-b", "a")]
)
def test_what_go_does_not_find_is_not_found(pattern: str, text: str) -> None:
    assert not compiled(pattern).search(text.encode())


@given(st.text("ab./-$^"), st.text("ab./-\n"))
def test_plain_texts_mean_what_they_mean_to_the_engine(pattern: str, text: str) -> None:
    try:
        slow = compiled(f"(?:{pattern})")
    except BadPattern:
        return
    assert compiled(pattern).search(text.encode()) is slow.search(text.encode())


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)*x$", "^(a?){200}a{200}$"])
def test_time_is_linear_whatever_the_text(pattern: str) -> None:
    search = compiled(pattern).search
    begin = time.monotonic()
    search(b"a" * 200_000 + b"!")
    search(b"a" * 200_000)
    assert time.monotonic() - begin < 1.0


# --- matching ---

MATCHING: list[tuple[When, str]] = [
    (When(always=True), "matched because always is true"),
    (When(always=False), "did not match because always is false"),
    (When(), "did not match because it has no conditions"),
    (When(has_bind_mounts=True), "matched because the container has bind mounts"),
    (
        When(has_bind_mounts=False),
        "did not match because hasBindMounts is false, which never matches",
    ),
    (
        When(annotations=(Annotation(compiled("^x$"), compiled("^y")),)),
        "matched because annotation 'x' = 'y\\n1' matches '^x$' = '^y'",
    ),
    (
        When(annotations=(Annotation(compiled("x"), compiled("z")),)),
        "did not match because no annotation matches 'x' = 'z'",
    ),
    (
        When(always=True, commands=(compiled("^sh$"), compiled("sh$"))),
        "matched because always is true and command '/bin/sh' matches 'sh$'",
    ),
    (
        When(commands=(compiled("^a"), compiled("^b"))),
        "did not match because command '/bin/sh' matches none of '^a', '^b'",
    ),
    (
        When(always=False, has_bind_mounts=True, any_of=True),
        "matched because the container has bind mounts",
    ),
    (
        When(has_bind_mounts=False, commands=(compiled("^a"),), any_of=True),
        (
            "did not match because hasBindMounts is false, which never matches"
            " and command '/bin/sh' matches none of '^a'"
        ),
    ),
]


@pytest.mark.parametrize(("when", "because"), MATCHING)
def test_decision_has_its_reason(when: When, because: str) -> None:
    subject = HookSubject({"x": "y\n1", "other": "v"}, ["/bin/sh", "-c"], has_bind_mounts=True)
    decision = decide(when, subject)
    assert decision.because == because
    assert decision.matched is because.startswith("matched")


def test_container_without_a_command_matches_no_command() -> None:
    when = When(commands=(compiled(""),))
    decision = decide(when, HookSubject({}, [], has_bind_mounts=False))
    assert decision.because == "did not match because the container has no command"
    with pytest.raises(NoCommand):
        decide(when, HookSubject({}, [], False, AS_GO))


def test_without_a_process_commands_are_no_condition() -> None:
    subject = HookSubject({}, None, has_bind_mounts=False)
    assert decide(When(always=True, commands=(compiled("x"),)), subject).matched
    assert not decide(When(commands=(compiled("x"),)), subject).matched


def test_no_timeout_and_a_timeout_of_zero_are_not_the_same() -> None:
    definitions = [
        Definition("/a", timeout=timeout, when=When(always=True), stages=("prestart",))
        for timeout in (None, 0)
    ]
    result = injection(definitions, HookSubject({}, [], has_bind_mounts=False))
    hooks = result.hooks.create_runtime
    assert [hook.HasField("timeout") for hook in hooks] == [False, True]
    assert [hook.timeout.value for hook in hooks] == [0, 0]


def test_names_that_differ_in_case_have_a_fixed_order() -> None:
    names = ["b.json", "A.json", "a.json", "a\udcff.json", "\u0130.json", "j.json", "a-b.json"]
    expected = ["a-b.json", "A.json", "a.json", "a\udcff.json", "b.json", "\u0130.json", "j.json"]
    assert sorted(names, key=order) == expected
    names.reverse()
    assert sorted(names, key=order) == expected
    assert order("/z/a.json") == order("/b/a.json")


def test_mounts_are_looked_at_when_a_condition_asks_for_them_and_once() -> None:
    looks = []

    def has_bind_mounts() -> bool:
        looks.append("look")
        return True

    subject = HookSubject({}, [], has_bind_mounts)
    assert decide(When(always=True), subject).matched
    assert looks == []
    assert decide(When(has_bind_mounts=True), subject).matched
    assert decide(When(has_bind_mounts=True), subject).matched
    assert looks == ["look"]


def test_answers_to_short_texts_are_remembered_and_not_without_bound() -> None:
    asked = []

    def length(text: str) -> int:
        asked.append(text)
        return len(text)

    remembered = remembering(length, most=2)
    long = "x" * 257
    assert [remembered(text) for text in ("", "", "ab", "ab", long, long)] == [0, 0, 2, 2, 257, 257]
    assert asked == ["", "ab", long, long]
    remembered("abc")  # no room for it
    remembered("")
    assert asked == ["", "ab", long, long, "abc", ""]
