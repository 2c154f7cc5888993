"""Which annotation counts, and how a container is named in errors."""

import pytest

from nri_inject import api
from nri_inject.text.annotations import (
    candidates,
    container_name,
    effective_annotation,
    find,
    where,
)

KEYS = ("new/container.c", "old/container.c", "new/pod", "old/pod", "new", "old")


def test_the_most_specific_key_comes_first_and_the_old_prefix_after_the_new() -> None:
    assert candidates("new", "old", "c") == KEYS


def test_without_an_old_prefix_there_are_three_keys() -> None:
    assert candidates("new", "", "c") == ("new/container.c", "new/pod", "new")


@pytest.mark.parametrize("first", range(len(KEYS)))
def test_the_first_key_that_exists_counts_even_if_it_is_empty(first: int) -> None:
    annotations = {key: key for key in KEYS[first:]} | {KEYS[first]: ""}
    assert find(annotations, "new", "old", "c") == (KEYS[first], "")


def test_keys_of_other_containers_are_not_found() -> None:
    assert find({"new/container.d": "x", "new/Pod": "x"}, "new", "old", "c") is None


def test_an_empty_name_has_the_key_that_ends_in_a_dot() -> None:
    assert find({"new/container.": "x"}, "new", "old", "") == ("new/container.", "x")


def test_the_effective_annotation_is_that_of_the_container_then_of_the_pod() -> None:
    annotations = {"a/lamp/container.main": "", "a/lamp/pod": "on", "a/lamp": "off", "a/x": "red"}
    pod, main = api.Pod(annotations=annotations), api.Container(name="main")
    assert effective_annotation(pod, main, "a/lamp") == ""
    assert effective_annotation(pod, api.Container(name="other"), "a/lamp") == "on"
    assert effective_annotation(pod, main, "a/x") == "red"
    assert effective_annotation(pod, main, "a/y") is None


def test_the_name_of_a_container_is_its_own_or_that_of_its_label() -> None:
    label = {"io.kubernetes.container.name": "label"}
    assert container_name(api.Container(name="own", labels=label)) == "own"
    assert container_name(api.Container(labels=label)) == "label"
    assert container_name(api.Container()) == ""


def test_a_container_is_named_with_its_pod_and_without_control_characters() -> None:
    pod = api.Pod(name="p\n", namespace="ns")
    assert where(pod, api.Container(name="c")) == "pod ns/p\\n, container c"
