"""The index over many definitions: it turns away only who cannot match, and never costs a match."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.hooks.definition import Annotation, Definition, When
from nri_inject.hooks.index import HookIndex
from nri_inject.hooks.match import AS_GO, Choices, HookSubject, NoCommand, injection
from nri_inject.text.regex import compiled, utf8, which

TEXTS = (
    "",
    "a",
    "\udc80",
    "key",
    "KEY",
    "team.example.com/key",
    "/usr/bin/server-7",
    "\u00e9",
    "x" * 600,
)
PATTERNS = (
    "",
    "^$",
    "a",
    "^key$",
    "(?i)^key",
    r"^team\.example\.com/(key|other)$",
    "/(?P<name>server|client)-[0-9]+$",
    "^(?P<name>k)",
    "\u00c9|\u00e9",
    r"\bkey\b",
    "x{500}",
)

patterns = st.sampled_from([compiled(text) for text in PATTERNS])
flags = st.sampled_from([None, True, False])
whens = st.builds(
    When,
    always=flags,
    has_bind_mounts=flags,
    annotations=st.lists(st.builds(Annotation, patterns, patterns), max_size=2).map(tuple),
    commands=st.lists(patterns, max_size=2).map(tuple),
    any_of=st.booleans(),
)
texts = st.sampled_from(TEXTS)
subjects = st.builds(
    HookSubject,
    st.dictionaries(texts, texts, max_size=3),
    st.none() | st.lists(texts, max_size=2),
    st.booleans(),
    st.sampled_from([Choices(), AS_GO]),
)


def definitions_of(*whens: When) -> list[Definition]:
    return [
        Definition(f"/bin/{number}", when=when, stages=("poststop",))
        for number, when in enumerate(whens)
    ]


def outcome(definitions: list[Definition] | HookIndex, subject: HookSubject) -> object:
    try:
        return injection(definitions, subject)
    except NoCommand as error:
        return str(error)


@given(st.lists(whens, max_size=6), st.lists(subjects, min_size=1, max_size=3))
def test_an_index_changes_no_answer(all_whens: list[When], asked: list[HookSubject]) -> None:
    plain = definitions_of(*all_whens)
    indexed = HookIndex(plain)
    for subject in asked:
        assert outcome(indexed, subject) == outcome(plain, subject)


@pytest.mark.parametrize(("pattern", "text"), list(itertools.product(PATTERNS, TEXTS[:-1])))
def test_together_patterns_occur_where_they_occur_alone(pattern: str, text: str) -> None:
    together = [compiled(one) for one in PATTERNS]
    data = utf8(text)
    occurs = compiled(pattern).search(data)
    found = which(together)(data)
    assert found is not None
    assert (PATTERNS.index(pattern) in found) is occurs


def test_only_who_could_match_is_a_candidate() -> None:
    def about(key: str, *commands: str) -> When:
        annotation = Annotation(compiled(key), compiled("^true$"))
        return When(annotations=(annotation,), commands=tuple(map(compiled, commands)))

    definitions = HookIndex(
        definitions_of(
            about("^one$"),
            about("^two$", "^/bin/other$"),
            When(commands=(compiled("/sh$"),)),
            When(commands=(compiled("/other$"),)),
            When(always=True),
        )
    )
    found = definitions.candidates(["two", "three"], "/bin/sh")
    assert [definition.path for definition in found] == ["/bin/1", "/bin/2", "/bin/4"]
    without_command = definitions.candidates([], None)
    assert [definition.path for definition in without_command] == ["/bin/2", "/bin/3", "/bin/4"]


def test_of_a_long_text_the_index_cannot_tell() -> None:
    definitions = HookIndex(definitions_of(When(commands=(compiled("a+"),)), When(always=True)))
    assert which([compiled("a")])(b"a" * 513) is None
    assert definitions.candidates([], "b" * 513) == definitions


@pytest.mark.slow
def test_patterns_too_large_together_are_asked_one_by_one() -> None:
    # RE2 takes each of them by itself; together they are over what an index may take.
    large = [compiled(rf"^(?:[\pL{number}]{{1,30}})$") for number in range(40)]
    assert which(large)(b"a") is None
    definitions = HookIndex(definitions_of(*(When(commands=(one,)) for one in large)))
    assert len(injection(definitions, HookSubject({}, ["a"], False)).matched) == 40


def test_a_pattern_that_is_not_there_yet_is_nobodys() -> None:
    assert HookIndex().candidates(["key"], "/bin/sh") == ()
    assert which([])(b"text") == []


def steps_of(patterns: Sequence[str], keys: Sequence[str]) -> int:
    """Return what it costs to find keys among definitions with these patterns."""
    spent: list[int] = []
    whens = [When(annotations=(Annotation(compiled(one), compiled("x")),)) for one in patterns]
    definitions = HookIndex(Definition("/bin/a", when=when) for when in whens)
    definitions.candidates(keys, None, spent.append)
    return sum(spent)


def test_a_key_costs_little_that_no_pattern_can_be_busy_with() -> None:
    usual = [f"app.example.com/{number:048}" for number in range(300)]
    anchored = [rf"^feature{number}\.example\.com/(on|off)$" for number in range(1000)]
    assert steps_of(anchored, usual) == 3 * len(usual)
    busy = [key.replace("app", "feature") for key in usual]
    assert steps_of(anchored, busy) > 100_000


@pytest.mark.parametrize(
    "pattern", ["feature.*x", "^feat|gpu.*x", r"^feat\(|gpu.*x\)", "^feat*ure.*x", "^fe.*x"]
)
def test_a_pattern_that_may_be_busy_with_any_key_counts_for_all(pattern: str) -> None:
    usual = [f"app.example.com/{number:048}" for number in range(300)]
    assert compiled(pattern).beginning == ""
    assert steps_of([pattern], usual) > 4 * len(usual)
