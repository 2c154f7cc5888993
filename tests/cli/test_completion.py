"""Completion: the scripts that `install` writes, and what the program answers them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nri_inject import cli
from nri_inject.cli.completion import PLACES, scripts

BOUND = 30
BIN = Path(sys.executable).parent


def written(root: Path) -> Path:
    for path, text in scripts(cli.program).items():
        (root / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (root / path.lstrip("/")).write_text(text)
    return root


def ran(shell: str, script: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [shell, *(["--norc", "--noprofile"] if shell == "bash" else []), "-c", script],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def completed_by_bash(root: Path, line: str) -> list[str]:
    """Return what bash offers at the end of a line."""
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    script = root / PLACES["bash"].format(name="nri-inject").lstrip("/")
    return ran(
        "bash",
        f"compopt() {{ echo compopt $1 $2; }}; . {shlex.quote(str(script))};"
        f" COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1};"
        " _nri_inject_completion nri-inject; printf '%s\\n' \"${COMPREPLY[@]}\"",
    )


def test_each_shell_finds_its_script_in_its_own_place() -> None:
    found = scripts(cli.program)
    assert [*found] == [
        "/usr/local/share/bash-completion/completions/nri-inject",
        "/usr/local/share/zsh/site-functions/_nri-inject",
        "/usr/local/share/fish/vendor_completions.d/nri-inject.fish",
    ]
    for shell, text in zip(PLACES, found.values(), strict=True):
        assert f"_NRI_INJECT_COMPLETE={shell}_complete" in text
    assert found["/usr/local/share/zsh/site-functions/_nri-inject"].startswith(
        "#compdef nri-inject\n"
    )


@pytest.mark.slow
@pytest.mark.program("bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("nri-inject un", ["uninstall"]),
        ("nri-inject cdi li", ["list"]),
        ("nri-inject try --format ", ["text", "json"]),
        ("nri-inject install --run", ["--runtime", "--runtime-config"]),
        ("nri-inject policy check --policy ", ["compopt -o default", ""]),
        ("nri-inject policy check ", ["compopt -o default", ""]),
        ("nri-inject cdi list --cdi-dir ", ["compopt -o dirnames", ""]),
        ("nri-inject nothing un", ["uninstall"]),
    ],
)
def test_bash_offers_commands_options_values_and_paths(
    tmp_path: Path, line: str, offered: list[str]
) -> None:
    assert completed_by_bash(written(tmp_path), line) == offered


@pytest.mark.slow
@pytest.mark.program("zsh")
def test_zsh_reads_its_script(tmp_path: Path) -> None:
    script = written(tmp_path) / PLACES["zsh"].format(name="nri-inject").lstrip("/")
    assert ran("zsh", f"autoload -U compinit; compinit -D; . {shlex.quote(str(script))}") == []


@pytest.mark.slow
@pytest.mark.program("fish")
def test_fish_offers_commands(tmp_path: Path) -> None:
    script = written(tmp_path) / PLACES["fish"].format(name="nri-inject").lstrip("/")
    offered = ran("fish", f". {shlex.quote(str(script))}; complete -C 'nri-inject un'")
    assert [one.partition("\t")[0] for one in offered] == ["uninstall"]


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_get_a_sentence_for_each_command(shell: str) -> None:
    word = {"zsh": "COMP_CWORD=1", "fish": "COMP_CWORD=un"}[shell].split("=")
    environment = {
        "COMP_WORDS": "nri-inject un",
        word[0]: word[1],
        "_NRI_INJECT_COMPLETE": f"{shell}_complete",
    }
    done = subprocess.run(
        [BIN / "nri-inject"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "uninstall" in done.stdout
    assert "Remove everything that install wrote on a node." in done.stdout


@pytest.mark.slow
def test_offering_commands_imports_none_of_them() -> None:
    program = (
        "import os, sys; os.environ.update(COMP_WORDS='nri-inject ', COMP_CWORD='1',"
        " _NRI_INJECT_COMPLETE='bash_complete'); from nri_inject import cli\n"
        "try: cli.program.main([], prog_name='nri-inject')\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name.startswith('nri_inject.cli.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "['nri_inject.cli.group']"
