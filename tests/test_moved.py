"""Old names of modules still import, with a warning that says the new one."""

from __future__ import annotations

import importlib
import sys

import pytest

from nri_inject._moved import MOVED, RENAMED
from nri_inject.text import fields, words
from nri_inject.text.annotations import find


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_name_is_the_module_of_the_new_one(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"^{old} is now {new}$"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__spec__ is not None
    assert module.__spec__.name == new


def test_an_old_module_has_the_names_that_have_gone_to_others() -> None:
    sys.modules.pop("nri_inject.annotations", None)
    with pytest.warns(DeprecationWarning, match="is now nri_inject.text.annotations"):
        old = importlib.import_module("nri_inject.annotations")
    assert (old.Fault, old.map_of) == (fields.Fault, fields.map_of)
    assert (old.quoted, old.find) == (words.quoted, find)


@pytest.mark.parametrize(("module", "names"), RENAMED.items())
def test_an_old_module_has_what_is_called_differently_now(
    module: str, names: dict[str, str]
) -> None:
    sys.modules.pop(module, None)
    with pytest.warns(DeprecationWarning, match=f"^{module} is now "):
        old = importlib.import_module(module)
    for before, now in names.items():
        assert getattr(old, before) is getattr(old, now)
