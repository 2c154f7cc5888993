"""`nri-inject hooks`: what it prints and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nri_inject.cli.hooks import command
from nri_inject.host.hook_environment import PATH
from nri_inject.service import options


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """Return a hook directory, beside it a program."""
    (tmp_path / "hooks.d").mkdir()
    (tmp_path / "program").write_text("#!/bin/sh\n")
    (tmp_path / "program").chmod(0o755)
    return tmp_path / "hooks.d"


def define(hooks: Path, name: str, **changes: Any) -> str:
    hook = {"path": str(hooks.parent / "program"), "env": ["A=1"]}
    base = {"version": "1.0.0", "hook": hook, "when": {"always": True}, "stages": ["prestart"]}
    file = hooks / name
    file.write_text(json.dumps({**base, **changes}))
    return str(file)


def run(*arguments: str) -> tuple[int, str]:
    """Return exit status and output, as the program nri-inject has them."""
    statuses = []
    runner = CliRunner()
    with runner.isolation() as (output, *_):
        statuses.append(options.exit_status(command, arguments))
        return statuses[0], output.getvalue().decode()


def run_json(*arguments: str) -> tuple[int, Any]:
    status, output = run(*arguments, "--format", "json")
    return status, json.loads(output)


def test_list_has_the_hooks_in_order_and_the_errors(hooks: Path) -> None:
    when = {"annotations": {"^a$": "b"}, "commands": ["sh$"], "hasBindMounts": True}
    second = define(hooks, "b.json", when=when, stages=["prestart", "poststop"])
    first = define(hooks, "A.json")
    bad = define(hooks, "c.json", stages="x")
    program = str(hooks.parent / "program")
    assert run_json("list", "--hooks-dir", str(hooks)) == (
        0,
        {
            "hooks": [
                {"file": first, "stages": ["prestart"], "path": program, "when": {"always": True}},
                {"file": second, "stages": ["prestart", "poststop"], "path": program, "when": when},
            ],
            "errors": {bad: ["stages: 'x' is not a list"]},
        },
    )


def test_list_for_people_has_warnings(hooks: Path) -> None:
    file = define(hooks, "a.json", stages=[])
    assert run("list", "--hooks-dir", str(hooks)) == (
        0,
        (
            f"{file}: {hooks.parent}/program at no stage\n"
            "  warning: no stages, so it is never injected\n"
        ),
    )


def test_later_directory_wins(hooks: Path) -> None:
    define(hooks, "a.json")
    other = hooks.parent / "other"
    other.mkdir()
    winner = define(other, "a.json")
    _, result = run_json("list", "--hooks-dir", str(hooks), "--hooks-dir", str(other))
    assert [hook["file"] for hook in result["hooks"]] == [winner]


def test_file_that_others_can_write_is_an_error_unless_told(hooks: Path) -> None:
    file = define(hooks, "a.json")
    (hooks / "a.json").chmod(0o666)
    _, result = run_json("list", "--hooks-dir", str(hooks))
    assert result == {
        "hooks": [],
        "errors": {file: [f"{file} can be written by everybody (mode 0666)"]},
    }
    _, result = run_json("list", "--hooks-dir", str(hooks), "--unsafe-files")
    assert [hook["file"] for hook in result["hooks"]] == [file]
    assert run("validate", file)[0] == 1
    assert run("validate", "--unsafe-files", file)[0] == 0


def test_validate_says_nothing_of_a_good_file(hooks: Path) -> None:
    assert run("validate", define(hooks, "a.json")) == (0, "")


def test_validate_has_a_line_for_each_fault(hooks: Path) -> None:
    bad = define(hooks, "a.json", when={"commands": ["("]}, hook={"path": "/none"}, stages=["x"])
    broken = str(hooks / "b.json")
    Path(broken).write_text('{\n"version" "1.0.0"}')
    status, output = run("validate", bad, broken, "/no/such.json")
    known = "createContainer, createRuntime, poststart, poststop, prestart, startContainer"
    assert (status, output.splitlines()) == (
        1,
        [
            f"{bad}: hook.path: program /none does not exist",
            f"{bad}: when.commands[0]: '(' is not a pattern: missing ): (",
            f"{bad}: stages[0]: 'x' must be one of {known}",
            f"{broken}: line 2, column 11: not JSON: expecting ':' delimiter",
            "/no/such.json: /no/such.json does not exist: there is no '/no'",
        ],
    )


def test_validate_warns_and_ends_well(hooks: Path) -> None:
    file = define(hooks, "a.json", extra=1)
    sentence = "unknown key 'extra'; known: version, hook, when, stages; it is ignored"
    assert run("validate", file) == (0, f"{file}: warning: {sentence}\n")
    assert run_json("validate", file) == (
        0,
        {
            "errors": {},
            "warnings": {file: [sentence]},
        },
    )


def test_validate_warns_of_a_hook_without_env(hooks: Path) -> None:
    file = define(hooks, "a.json", hook={"path": str(hooks.parent / "program")})
    sentence = (
        f"env is empty, so the program gets only {PATH}; CRI-O and podman"
        " read these files, too, and may pass it the container's variables"
    )
    assert run("validate", file) == (0, f"{file}: warning: {sentence}\n")


def test_match_has_the_environment_that_a_hook_without_env_gets(hooks: Path) -> None:
    define(hooks, "a.json", hook={"path": str(hooks.parent / "program")})
    _, result = run_json("match", "--hooks-dir", str(hooks))
    assert [hook["env"] for hook in result["hooks"]["createRuntime"]] == [[PATH]]


def test_validate_warns_of_a_program_that_does_not_run(hooks: Path) -> None:
    file = define(hooks, "a.json")
    (hooks.parent / "program").chmod(0o644)
    warning = f"program {hooks.parent}/program is not executable"
    assert run("validate", file) == (0, f"{file}: warning: {warning}\n")


def test_match_says_what_a_container_gets_and_why(hooks: Path) -> None:
    program = str(hooks.parent / "program")
    hook = {"path": program, "args": ["p", "x"], "env": ["A=1"], "timeout": 3}
    when = {"annotations": {"^k$": "^v=w$"}, "commands": ["sh$"], "hasBindMounts": True}
    file = define(hooks, "a.json", hook=hook, when=when, stages=["prestart", "poststop"])
    other = define(hooks, "b.json", when={"commands": ["^sleep$"]})
    arguments = ("match", "--hooks-dir", str(hooks), "--annotation", "k=v=w", "--bind-mounts")
    status, output = run(*arguments, "--format", "json", "--", "/bin/sh", "-c", "--help")
    assert (status, json.loads(output)) == (
        0,
        {
            "hooks": {"createRuntime": [hook], "poststop": [hook]},
            "matched": [
                {
                    "file": file,
                    "because": "matched because the container has bind mounts and annotation"
                    " 'k' = 'v=w' matches '^k$' = '^v=w$' and command '/bin/sh' matches 'sh$'",
                }
            ],
            "unmatched": [
                {
                    "file": other,
                    "because": "did not match because command '/bin/sh' matches none of '^sleep$'",
                }
            ],
            "errors": {},
        },
    )


def test_match_for_people_escapes_values(hooks: Path) -> None:
    file = define(hooks, "a.json", when={"annotations": {"k": "."}})
    status, output = run("match", "--hooks-dir", str(hooks), "--annotation", "k=\x1b[2J")
    assert (status, output.splitlines()) == (
        0,
        [
            f"{file}: matched because annotation 'k' = '\\x1b[2J' matches 'k' = '.'",
            f"createRuntime: {hooks.parent}/program",
        ],
    )


def test_match_leaves_out_a_hook_without_its_program(hooks: Path) -> None:
    file = define(hooks, "a.json", hook={"path": "/none"})
    _, result = run_json("match", "--hooks-dir", str(hooks))
    assert result == {
        "hooks": {},
        "matched": [],
        "unmatched": [
            {
                "file": file,
                "because": "matched because always is true, but is not usable:"
                " program /none does not exist",
            }
        ],
        "errors": {file: ["hook.path: program /none does not exist"]},
    }


@pytest.mark.parametrize(
    "arguments",
    [("match", "--annotation", "k"), ("validate",), ("list", "--format", "xml"), ("nothing",)],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


@pytest.mark.parametrize("name", ["list", "validate", "match", "monitor"])
def test_help_has_an_example(name: str) -> None:
    status, output = run(name, "--help")
    assert status == 0
    assert f"Example: nri-inject hooks {name}" in " ".join(output.split())


@pytest.mark.slow
def test_monitor_prints_changes_until_it_is_interrupted(hooks: Path) -> None:
    file = define(hooks, "a.json")
    program = "from nri_inject.cli.hooks import command; command()"
    arguments = ["monitor", "--hooks-dir", str(hooks), "--format", "json"]
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        # A shell has its jobs in the background ignore SIGINT, and so would what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout)
        assert json.loads(next(lines)) == {"event": "added", "file": file}
        define(hooks, "new", stages=["poststop"])
        (hooks / "new").rename(file)
        assert json.loads(next(lines)) == {"event": "changed", "file": file}
        Path(file).unlink()
        assert json.loads(next(lines)) == {"event": "removed", "file": file}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
