"""The sentence of what is wrong in an annotation, with the other annotation that requests it."""

from __future__ import annotations

from typing import Final

from nri_inject.text.fields import Fault, Problem
from nri_inject.text.flow import advice, annotation
from nri_inject.text.words import plain, quoted

_ELSEWHERE: Final = "other-annotation"


def elsewhere(text: str, what: str, prefix: str, value: object) -> Problem:
    """Return the problem of a text that is `what`, which the annotation `prefix` requests."""
    sentence = f"{quoted(text)} is {what}, which the annotation {prefix} requests"
    return Problem(_ELSEWHERE, (), sentence, {"prefix": prefix, "value": advice(value)})


def at_key(key: str, problem: Problem) -> str:
    """Return the sentence of what is wrong in an annotation, with the annotation to write."""
    (sentence,) = Fault(problem).sentences
    hint = ""
    if problem.code == _ELSEWHERE:
        scope = key[len(key.partition("/")[0]) :]
        prefix, value = problem.details["prefix"], problem.details["value"]
        hint = f"; write {annotation(f'{prefix}{plain(scope)}', value)}"
    return f"annotation {plain(key)}: {sentence}{hint}"
