"""The pages of the manual: made from the commands, so they are current; and readable by man."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nri_inject import cli
from nri_inject.cli.manual import PLACE, command_of, main, page, pages
from nri_inject.plugins.programs import PROGRAMS
from nri_inject.service.base import STATUSES

BOUND = 30


def commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from commands(inner, click.Context(inner, parent=context, info_name=name))


def words(text: str) -> str:
    return " ".join(text.split())


def plain(roff: str) -> str:
    """Return what a page says, without requests and escapes."""
    lines = [line for line in roff.splitlines() if not re.match(r"\.(TP|PP|RS|RE|nf|fi)\b", line)]
    text = "\n".join(lines)
    for escape, shown in (("\\fB", ""), ("\\fR", ""), ("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`")):
        text = text.replace(escape, shown)
    return words(text.replace("\\&", "").replace("\\e", "\\"))


def test_each_program_has_a_page() -> None:
    assert [*pages(PROGRAMS)] == [PLACE.format(name=name) for name in PROGRAMS]
    assert pages(["nri-inject"])["/usr/local/share/man/man1/nri-inject.1"].startswith(
        '.TH "NRI\\-INJECT" 1 "" "nri-inject 0.1.0"\n'
    )


def test_the_page_has_all_that_the_help_of_each_command_has() -> None:
    text = plain(page(cli.program))
    program = click.Context(cli.program, info_name="nri-inject")
    seen = 0
    for context in commands(cli.program, program):
        command = context.command
        assert f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}" in text
        assert words(command.help or "") in text
        assert words((command.epilog or "").removeprefix("Example: ")) in text
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if isinstance(parameter, click.Option) and record:
                seen += 1
                assert f"{record[0]} {words(record[1])}" in text
    assert seen > 100
    assert all(words(sentence) in text for sentence in STATUSES.values())


def test_a_text_cannot_become_a_request_of_roff() -> None:
    odd = click.Command("odd", help=".so /etc/passwd\n\n'br\n\na \\n[x] b")
    lines = page(odd).splitlines()
    assert "\\&.so /etc/passwd" in lines
    assert "\\(aqbr" in lines
    assert "a \\en[x] b" in lines


@pytest.mark.slow
@pytest.mark.program("groff")
@pytest.mark.parametrize("name", PROGRAMS)
def test_groff_has_nothing_to_warn_of(name: str) -> None:
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8"],
        input=page(command_of(name)),
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "EXIT STATUS" in re.sub(r".\x08", "", done.stdout)


@pytest.mark.slow
@pytest.mark.program("man")
def test_man_shows_a_page(tmp_path: Path) -> None:
    main(str(tmp_path / "man"))
    assert sorted(file.stem for file in (tmp_path / "man").iterdir()) == [*PROGRAMS]
    done = subprocess.run(
        ["man", "-l", str(tmp_path / "man/nri-inject.1")],
        env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=True,
    )
    shown = re.sub(r".\x08", "", done.stdout)
    assert "nri-inject try [OPTIONS] [POD.yaml]..." in shown
    assert "--policy FILE" in shown
