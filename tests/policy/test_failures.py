"""Which failures are written to the audit, by value; time is a number here."""

from __future__ import annotations

from nri_inject.policy.failures import HOUR, MAX_BYTES, MAX_NAMESPACES, OTHERS, Failures, Unwritten


def test_the_same_failure_is_written_once_an_hour_and_counted() -> None:
    failures = Failures()
    assert [failures.admits("ci", "a", 100, now) for now in (0, 5, 10)] == [True, False, False]
    assert failures.admits("ci", "b", 100, 11) is True
    assert [*failures.ended(HOUR - 1)] == []
    assert [*failures.ended(HOUR)] == [Unwritten("ci", 0, 2)]
    assert failures.admits("ci", "a", 100, HOUR) is True


def test_an_hour_in_which_everything_was_written_ends_without_a_word() -> None:
    failures = Failures()
    failures.admits("ci", "a", 100, 0)
    assert [*failures.ended(HOUR)] == []


def test_a_namespace_of_many_different_failures_writes_so_many_bytes() -> None:
    failures = Failures()
    written = sum(failures.admits("ci", number, 1024, 0) for number in range(10_000))
    assert written == MAX_BYTES // 1024
    assert failures.admits("other", 1, 1024, 0) is True
    assert [*failures.ended(HOUR)] == [Unwritten("ci", 0, 10_000 - written)]


def test_namespaces_beyond_a_number_share_one_hour() -> None:
    failures = Failures()
    for number in range(MAX_NAMESPACES):
        failures.admits(f"n{number}", 1, 100, 0)
    assert [failures.admits(f"more{number}", 1, 100, 0) for number in range(3)] == [
        *(True, False, False)
    ]
    assert failures.admits("n0", 1, 100, 0) is False
    assert [*failures.ended(HOUR)] == [Unwritten("n0", 0, 1), Unwritten(OTHERS, 0, 2)]


def test_a_clock_that_is_set_back_ends_an_hour_as_well() -> None:
    failures = Failures()
    failures.admits("ci", "a", 100, 10 * HOUR)
    assert [*failures.ended(0)] == []
    assert failures.admits("ci", "a", 100, 0) is True
