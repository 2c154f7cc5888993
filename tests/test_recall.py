"""The values that are kept are the last ones."""

from __future__ import annotations

from nri_inject.recall import Latest


def test_the_latest_are_those_put_last() -> None:
    latest: Latest[str, int] = Latest(2)
    latest.put("a", 1)
    latest.put("b", 2)
    latest.put("a", 3)
    latest.put("c", 4)
    assert latest == {"a": 3, "c": 4}
    assert latest.get("b") is None
