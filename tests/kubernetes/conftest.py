"""Fixtures of the tests on a cluster: one cluster, and the DaemonSet as the docs install it."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.conftest import archive, suite_image  # noqa: F401 (fixtures)

from .cluster import Cluster, Refused
from .programs import open_programs
from .suite import ALLOW_FUSE, OURS, Suite

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "kubernetes.md"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("kubernetes")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Keep the one cluster of all tests, with an image for their pods."""
    with closing(Cluster(open_programs())) as made:
        try:
            made.start()
        except (Refused, TimeoutError) as error:
            error.add_note(made.logs())
            raise
        made.load_image()
        yield made


@pytest.fixture(scope="session")
def suite(cluster: Cluster, suite_image: Path) -> Suite:  # noqa: F811 (the fixture above)
    """Install the chart with the commands of the page."""
    cluster.load_archive(suite_image)
    try:
        for program, *arguments in commands():
            {"helm": cluster.helm, "kubectl": cluster.kubectl}[program](*arguments)
    except (Refused, subprocess.TimeoutExpired) as error:
        error.add_note(cluster.kubectl("describe", "pods", OURS))
        error.add_note(cluster.kubectl("logs", "daemonset/nri-inject", OURS, statuses=(0, 1)))
        raise
    return Suite(cluster)


def commands() -> list[list[str]]:
    """Return the commands of the page's first block that need the cluster alone."""
    block = PAGE.read_text().partition("```console\n")[2].partition("```")[0]
    lines = re.findall(r"^\$ ((?:helm|kubectl) .*)$", block, re.MULTILINE)
    typed = [shlex.split(line) for line in lines]
    return [[word.replace("deploy/", f"{ROOT}/deploy/") for word in line] for line in typed]


@pytest.fixture
def namespace(cluster: Cluster, numbers: Iterator[int]) -> Iterator[str]:
    """Make a namespace for a test's pods."""
    name = f"test-{next(numbers)}"
    cluster.kubectl("create", "namespace", name)
    # No pod is admitted before the controller manager has made the account.
    account = ("serviceaccount/default", f"--namespace={name}")
    cluster.kubectl("wait", "--for=create", *account, "--timeout=60s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def numbers() -> Iterator[int]:
    return itertools.count()


@pytest.fixture
def allowing_suite(suite: Suite) -> Suite:
    """Have a policy in force that allows /dev/fuse."""
    suite.change_policy(ALLOW_FUSE)
    return suite
