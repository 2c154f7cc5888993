"""What holds for every command: help, its short flag, and suggestions for misspelt names."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest

from nri_inject.cli import program
from nri_inject.cli.manual import command_of
from nri_inject.plugins.programs import PROGRAMS, SUITE
from nri_inject.service.options import exit_status

Path = tuple[str, ...]


def below(command: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    """Yield a command and all below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from below(inner, (*path, name))


COMMANDS = dict(below(program))
GROUPS = [path for path, command in COMMANDS.items() if isinstance(command, click.Group)]
PLUGINS = [name for name in PROGRAMS if name != SUITE]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = exit_status(program, arguments)
    output, errors = capsys.readouterr()
    return status, output, errors


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_has_help_with_an_example_by_both_flags(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = shown(capsys, *path, "--help")
    assert (status, errors) == (0, "")
    assert "  -h, --help" in output
    assert f"  Example: nri-inject {' '.join(path)}" in output
    assert shown(capsys, *path, "-h") == (0, output, "")


@pytest.mark.parametrize("name", PLUGINS)
def test_each_plugin_has_help_with_an_example_by_all_flags(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for flag in ("--help", "-h", "-help"):
        assert exit_status(command_of(name), [flag]) == 0
        said.append(capsys.readouterr().out)
    assert f"Example: {name}" in said[0]
    assert said[1:] == said[:1] * 2


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_listing_has_whole_sentences(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing = shown(capsys, *path, "--help")[1].partition("Commands:\n")[2].partition("\n\n")[0]
    assert "..." not in listing
    sentences = " ".join(listing.split()).split(". ")
    assert len(sentences) == len(COMMANDS[path].list_commands(click.Context(program)))  # type: ignore[attr-defined]  # it is a group


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("ty", "no command 'ty'; did you mean 'try'?"),
        ("Doctor", "no command 'Doctor'; did you mean 'doctor'?"),
        ("unistall", "no command 'unistall'; did you mean 'uninstall'?"),
        ("cdi lsit", "no command 'lsit'; did you mean 'list'?"),
        ("hooks mach", "no command 'mach'; did you mean 'match'?"),
        ("devices explian", "no command 'explian'; did you mean 'explain'?"),
        ("policy chek", "no command 'chek'; did you mean 'check'?"),
        ("policy zzz", "no command 'zzz'; known: check"),
        ("'a\x1b[2J'", "no command 'a\\x1b[2J'; known: cdi, devices, doctor"),
        ("install --plugin device-injetor", "'device-injetor'; did you mean 'device-injector'?"),
    ],
)
def test_a_misspelt_name_is_wrong_usage_with_the_nearest(
    words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = shown(capsys, *shlex.split(words))
    assert (status, output) == (2, "")
    assert sentence in errors


def test_a_misspelt_option_is_wrong_usage_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, _, errors = shown(capsys, "try", "--polcy", "x")
    assert status == 2
    assert "Did you mean" in errors.splitlines()[-1]  # in the words of click, which change
    assert "--policy" in errors.splitlines()[-1].rpartition("Did you mean")[2]


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_group_alone_is_wrong_usage_with_its_help(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    help_ = shown(capsys, *path, "--help")[1]
    assert shown(capsys, *path) == (2, "", help_)
