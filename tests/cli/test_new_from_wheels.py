"""An author's first steps: an empty environment, an index of packages, `nri-inject new demo`."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wheels import Environment

from nri_inject.testing import FakeRuntime, make_container, make_pod

pytestmark = pytest.mark.slow

WRONG = """
def wrong(adjustment: Adjustment, pod: Pod) -> None:
    add_env(adjustment, "AGE", 5)
    adjustment.rlimit.clear()
    pod.nme
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("author"))
    made.run('python -m pip install --quiet ".[dev]"')
    return made


def test_the_tests_of_the_project_pass(environment: Environment) -> None:
    assert environment.run("python -m pytest -q").splitlines()[-1].startswith("3 passed")


def test_an_editable_project_has_the_same_tests(environment: Environment) -> None:
    command = 'python -m pip install --quiet -e ".[dev]" && python -m pytest -q'
    assert environment.run(command).splitlines()[-1].startswith("3 passed")
    environment.run("python -m pip install --quiet .")


def test_the_types_of_the_project_are_sound(environment: Environment) -> None:
    checked = environment.run("python -m mypy")
    assert checked == "Success: no issues found in 2 source files\n"


def test_wrong_types_are_found(environment: Environment) -> None:
    text = (environment.project / "demo.py").read_text()
    (environment.project / "wrong.py").write_text(text + WRONG)
    status, found = environment.attempt("python -m mypy wrong.py")
    assert status == 1
    assert [line.partition(" error: ")[2].partition("  [")[0] for line in found.splitlines()] == [
        'Argument 3 to "add_env" has incompatible type "int"; expected "str"',
        '"ContainerAdjustment" has no attribute "rlimit"; maybe "rlimits"?',
        '"PodSandbox" has no attribute "nme"; maybe "name"?',
        "",
    ]


def test_a_runtime_launches_the_installed_program(
    environment: Environment, nri_runtime: FakeRuntime
) -> None:
    nri_runtime.launch(environment.bin / "demo", title="50-demo")
    pod = make_pod("web", annotations={"demo.example.com/greeting/container.main": "good morning"})
    nri_runtime.run_pod(pod)
    made = nri_runtime.create(make_container(pod, "main"))
    assert made.spec["process"]["env"] == ["GREETING=good morning, main"]
    assert nri_runtime.create(make_container(pod, "other")).adjust.env == []


def test_the_readme_names_what_is_there(environment: Environment) -> None:
    """`nri-inject try` of the project, as its README has it."""
    readme = (environment.project / "README.md").read_text()
    (command,) = [line[2:] for line in readme.splitlines() if line.startswith("$ nri-inject try")]
    assert environment.run(command).splitlines() == [
        "pod default/web, container main",
        "  gets   Env GREETING from 50-demo",
        '  OCI    + process.env "GREETING=good morning, main"',
    ]


def test_the_wheel_is_used_and_no_checkout(environment: Environment) -> None:
    where = environment.run("python -c 'import nri_inject; print(nri_inject.__file__)'")
    assert Path(where.strip()).is_relative_to(environment.bin.parent)
