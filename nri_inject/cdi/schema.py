"""Check a document against the JSON schema of CDI specs that editors can use, too.

Loading does not need it: `nri_inject.cdi.spec` checks more. The package jsonschema is imported
on use, and only `nri-inject cdi validate` uses it.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from nri_inject.text.fields import Problem
from nri_inject.text.words import plain
from nri_inject.text.yamltext import Value


@cache
def schema() -> dict[str, Any]:
    """Return the schema, JSON Schema draft 7."""
    text = files("nri_inject.cdi").joinpath("schema.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def check(value: Value) -> list[Problem]:
    """Return the schema's objections to a document, as warnings: loading decides.

    The schema rejects null, for example, which runtimes read as absent. ImportError without
    jsonschema.
    """
    import jsonschema

    validator = jsonschema.Draft7Validator(schema())
    return [
        Problem("schema", tuple(error.absolute_path), plain(error.message), warning=True)
        for error in validator.iter_errors(value)
    ]
