from __future__ import annotations

import pytest

from nri_inject.service.options import translated


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("-idx 10", "--idx 10"),
        ("-idx=10", "--idx=10"),
        ("-name web", "--name web"),
        ("-name=web", "--name=web"),
        ("-socket /run/n.sock", "--socket-path /run/n.sock"),
        ("-socket=/run/n.sock", "--socket-path=/run/n.sock"),
        ("-socket-path /run/n.sock", "--socket-path /run/n.sock"),
        ("-socket-path=/run/n.sock", "--socket-path=/run/n.sock"),
        ("-verbose", "--verbose"),
        ("-verbose=true", "--verbose"),
        ("-verbose=1", "--verbose"),
        ("-verbose=false", ""),
        ("--verbose=T", "--verbose"),
        ("-disableWatch", "--disable-watch"),
        ("-disableWatch=true", "--disable-watch"),
        ("-disableWatch=0", ""),
        ("-verbose -idx 10 -disableWatch", "--verbose --idx 10 --disable-watch"),
    ],
)
def test_each_flag_of_the_go_plugins_becomes_ours(given: str, ours: str) -> None:
    assert translated(given.split()) == ours.split()


@pytest.mark.parametrize(
    "arguments", ["--idx 10 -v -q", "-vv", "--idx=10", "-verbose=perhaps", "-index 10", "-", "-="]
)
def test_a_word_that_go_would_not_know_either_is_left_alone(arguments: str) -> None:
    kept = arguments.replace("-verbose=", "--verbose=")
    assert translated(arguments.split()) == kept.split()


@pytest.mark.parametrize(
    "arguments",
    [
        "--name -idx",
        "--name -verbose",
        "--idx -verbose=true",
        "--config -socket",
        "--policy -name",
        "--cdi-dir -idx",
        "--hooks-dir -idx",
        "--log-format -idx",
        "--socket-path -socket",
        "--name=-verbose",
        "-- -idx 10",
    ],
)
def test_a_value_is_never_taken_for_a_flag(arguments: str) -> None:
    assert translated(arguments.split()) == arguments.split()


def test_a_flag_without_its_value_stays_for_the_parser_to_refuse() -> None:
    assert translated(["-verbose", "-idx"]) == ["--verbose", "--idx"]
