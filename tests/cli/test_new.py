"""`nri-inject new`: a project whose tests pass at once, and nothing written over."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nri_inject.cli import new, program
from nri_inject.service import options

BIN = Path(sys.executable).parent
New = Callable[..., tuple[int, str, str]]


@pytest.fixture
def attempt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> New:
    """Give a function that runs `nri-inject new` in an empty folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = options.exit_status(program, ["new", *arguments])
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_project_is_complete_and_its_tests_pass(attempt: New) -> None:
    status, output, errors = attempt("my-greeter", "--idx", "42")
    assert (status, errors) == (0, "")
    command = 'cd my-greeter && python -m pip install -e ".[dev]" && python -m pytest'
    assert output == f"wrote my-greeter; test it: {command}\n"
    folder = Path("my-greeter")
    assert files(folder) == [
        ".gitignore",
        "README.md",
        "deploy/42-my-greeter.conf",
        "deploy/my-greeter.service",
        "my_greeter.py",
        "pod.yaml",
        "pyproject.toml",
        "tests/test_my_greeter.py",
    ]
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tests.returncode, tests.stdout.splitlines()[-1][:8]) == (0, "3 passed")


@pytest.mark.slow
def test_its_plugin_can_be_launched(attempt: New) -> None:
    attempt("greeter")
    plugin = Path("greeter/greeter.py")
    lines = plugin.read_text().splitlines()[1:]
    plugin.write_text("\n".join([f"#!{sys.executable}", *lines, ""]))
    tried = subprocess.run(
        [
            *(BIN / "nri-inject", "try", "--plugin", "./greeter.py", "--idx", "50"),
            *("--name", "greeter", "pod.yaml"),
        ],
        cwd="greeter",
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    assert '  OCI    + process.env "GREETING=good morning, main"' in tried.stdout


@pytest.mark.slow
def test_a_project_is_clean_for_the_usual_checkers(attempt: New) -> None:
    attempt("greeter")
    for command in (["ruff", "check", "greeter"], ["mypy", "--strict", "greeter"]):
        checked = subprocess.run([BIN / command[0], *command[1:]], capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "Greeter",
            "1st",
            "a_b",
            "a--b",
            "-a",
            "a-",
            "a b",
            "é",
            "../a",
            "a/b",
            "/a",
            ".",
            "..",
        ),
        *("a\n", "a\0", "${x}", "a" * 64),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(attempt: New, name: str) -> None:
    status, output, errors = attempt("--", name)
    assert (status, output) == (2, "")
    sentence = "up to 63 lower-case letters, digits and single dashes expected, a letter first"
    assert errors.splitlines()[-1] == f"Error: name {name!r}: {sentence}"
    assert files(Path()) == []


@pytest.mark.parametrize("name", ["json", "class", "pytest", "nri-inject", "tests"])
def test_a_name_that_python_has_already_is_refused(attempt: New, name: str) -> None:
    status, _, errors = attempt(name)
    module = name.replace("-", "_")
    assert status == 2
    assert errors.splitlines()[-1] == (
        f"Error: name {name!r}: {module} is a module or keyword of Python"
    )


@pytest.mark.parametrize("index", ["", "1", "100", "ab", "²2"])
def test_an_index_that_is_none_is_refused(attempt: New, index: str) -> None:
    status, _, errors = attempt("greeter", "--idx", index)
    assert status == 2
    assert errors.splitlines()[-1] == f"Error: index {index!r}: two digits expected, as in 10"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("make", ["directory", "file", "link", "broken link"])
def test_nothing_is_written_over(attempt: New, make: str) -> None:
    there = Path("greeter")
    if make == "directory":
        there.mkdir()
    elif make == "file":
        there.write_text("mine")
    else:
        there.symlink_to("/dev/null" if make == "link" else "/nowhere")
    before = list(Path().iterdir()), there.lstat().st_mtime_ns
    status, _, errors = attempt("greeter")
    assert (status, errors.splitlines()[-1]) == (2, "Error: greeter already exists")
    assert (list(Path().iterdir()), there.lstat().st_mtime_ns) == before


def test_what_cannot_be_written_leaves_nothing_behind(
    attempt: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(new._FILES, "README.md", "README/too/deep")
    status, _, errors = attempt("greeter")
    assert (status, errors) == (1, "Error: cannot write greeter: No such file or directory\n")
    assert list(Path().iterdir()) == []


@pytest.mark.slow
def test_an_author_sees_what_the_plugin_prints_and_its_traceback(attempt: New) -> None:
    attempt("greeter")
    module = Path("greeter/greeter.py")
    assert module.read_text().startswith(f"#!{sys.executable}\n")
    text = module.read_text().replace(
        "    if greeting is None:", '    print("seen", greeting)\n    if greeting:', 1
    )
    module.write_text(text.replace("        return None", '        raise ValueError("mine")', 1))
    command: list[str | Path] = [
        BIN / "nri-inject",
        "try",
        "--plugin",
        "./greeter.py",
        "--idx",
        "50",
    ]
    done = subprocess.run(
        [*command, "--name", "greeter", "pod.yaml"],
        cwd="greeter",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "seen good morning" in done.stderr
    assert "Traceback (most recent call last)" in done.stderr
    assert "ValueError: mine" in done.stderr
    assert "plugin greeter failed in CreateContainer" in done.stdout


@pytest.mark.slow
def test_an_author_sees_why_a_plugin_does_not_start(attempt: New) -> None:
    attempt("greeter")
    module = Path("greeter/greeter.py")
    broken = module.read_text().replace("from nri", "import no_such_module\nfrom nri", 1)
    module.write_text(broken)
    command: list[str | Path] = [
        BIN / "nri-inject",
        "try",
        "--plugin",
        "./greeter.py",
        "--idx",
        "50",
    ]
    done = subprocess.run(
        [*command, "--name", "greeter", "pod.yaml"],
        cwd="greeter",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "ModuleNotFoundError: No module named 'no_such_module'" in done.stderr
