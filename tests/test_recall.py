"""What was worked out counts again only while all looks show the same."""

from __future__ import annotations

import contextlib

import pytest

from nri_inject.host import NotADevice
from nri_inject.recall import Latest, Noted, Recall


class Unlucky(dict[str, int]):
    """A mapping that says why some things are not there."""

    why = "is a directory"

    def __missing__(self, key: str) -> int:
        if key == "/dev/dir":
            raise NotADevice(key, self.why)
        raise KeyError(key)


def looked(source: dict[str, int], *keys: str) -> Noted[str, int]:
    noted = Noted(source)
    for key in keys:
        with contextlib.suppress(KeyError):
            noted[key]
    return noted


def test_the_latest_are_those_put_last() -> None:
    latest: Latest[str, int] = Latest(2)
    latest.put("a", 1)
    latest.put("b", 2)
    latest.put("a", 3)
    latest.put("c", 4)
    assert latest == {"a": 3, "c": 4}
    assert latest.get("b") is None


def test_a_value_is_found_while_its_looks_show_the_same() -> None:
    source = Unlucky(a=1, b=2)
    recall: Recall[str] = Recall(4)
    assert recall.find("key", source) is None
    recall.keep("key", "value", looked(source, "a", "gone", "/dev/dir"))
    assert recall.find("key", source) == "value"
    assert recall.find("other", source) is None
    source["b"] = 3  # which nobody has looked at
    assert recall.find("key", source) == "value"


@pytest.mark.parametrize("change", [{"a": 2}, {"gone": 1}, {"/dev/dir": 1}])
def test_a_value_is_worked_out_again_when_a_look_shows_something_else(
    change: dict[str, int],
) -> None:
    source = Unlucky(a=1)
    recall: Recall[str] = Recall(4)
    recall.keep("key", "value", looked(source, "a", "gone", "/dev/dir"))
    source.update(change)
    assert recall.find("key", source) is None


def test_what_has_gone_or_is_missing_for_another_reason_is_something_else() -> None:
    source = Unlucky(a=1)
    recall: Recall[str] = Recall(4)
    recall.keep("key", "value", looked(source, "a", "/dev/dir"))
    source.why = "is a regular file"
    assert recall.find("key", source) is None
    source.why = "is a directory"
    assert recall.find("key", source) == "value"
    del source["a"]
    assert recall.find("key", source) is None


def test_each_source_is_looked_at_by_itself() -> None:
    first, second = {"a": 1}, {"a": 2}
    recall: Recall[str] = Recall(4)
    recall.keep("key", "value", looked(first, "a"), looked(second, "a"))
    assert recall.find("key", first, second) == "value"
    assert recall.find("key", second, first) is None


def test_who_goes_through_all_that_is_there_is_told_that_this_cannot_be_noted() -> None:
    noted = Noted({"a": 1})
    with pytest.raises(TypeError, match="cannot be recalled"):
        list(noted)
    assert len(noted) == 0
    assert noted["a"] == 1
    assert len(noted) == 1
