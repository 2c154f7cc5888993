"""A worker that takes over from one that died: the same CPUs, and the others' updates."""

from __future__ import annotations

import pytest
from hardware import container, pod
from test_assigner import BARE, Asked, assigner, create, said

from nri_inject import api
from nri_inject.plugins.resource_assigner.plugin import ResourceAssigner
from nri_inject.service.health.notes import Notes


@pytest.fixture
def notes() -> Notes:
    return Notes()


def resume(tested: ResourceAssigner, notes: Notes) -> None:
    """Let a worker take over as the supervisor does: nothing is told but the configuration."""
    notes.inherit()
    tested.remember(notes, resumes=True)
    tested.configure(api.ConfigureRequest())


def begin(tested: ResourceAssigner, notes: Notes) -> None:
    tested.remember(notes, resumes=False)
    tested.configure(api.ConfigureRequest())
    tested.synchronize([], [])


def test_the_next_worker_knows_who_has_which_cpus(notes: Notes) -> None:
    with assigner(BARE) as (first, _):
        begin(first, notes)
        create(first, "a")
        create(first, "b", 2)
        create(first, "gone", 1)
        first.stop_container(pod("gone"), container("gone"))
    with assigner(BARE) as (second, stub):
        resume(second, notes)
        assert create(second, "c", 1) == ("2", [("id-a", "3")])
        assert said(second.stop_container(pod("b"), container("b"))) == [("id-a", "0-1,3")]
        assert stub.asked == []


def test_a_container_that_is_asked_about_again_gets_the_same_and_so_do_the_others(
    notes: Notes,
) -> None:
    with assigner(BARE) as (first, _):
        begin(first, notes)
        create(first, "a")
        answer = first.create_container(pod("b"), container("b", cpus=2))
    with assigner(BARE) as (second, _):
        resume(second, notes)
        assert second.create_container(pod("b"), container("b", cpus=2)) == answer


def test_updates_that_had_no_answer_are_asked_for_again(notes: Notes) -> None:
    with assigner(BARE) as (first, stub):
        begin(first, notes)
        create(first, "a")
        create(first, "b", 2)
        first.remove_container(pod("b"), container("b"))
        assert stub.asked == [("id-a", "0-3")]
    with assigner(BARE) as (second, stub):
        resume(second, notes)
        assert stub.asked == [("id-a", "0-3")]
        answered(second, stub)
    with assigner(BARE) as (third, stub):
        resume(third, notes)
        assert stub.asked == []


def answered(tested: ResourceAssigner, _: Asked) -> None:
    tested._updated([])


def test_a_new_connection_begins_with_nothing(notes: Notes) -> None:
    with assigner(BARE) as (first, _):
        begin(first, notes)
        create(first, "b", 2)
    with assigner(BARE) as (second, _):
        begin(second, notes)
        assert create(second, "a") == ("0-3", [])
