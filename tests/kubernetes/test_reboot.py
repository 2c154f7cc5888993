"""A reboot of the node, where the runtime requires the plugin and where it does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cluster import Cluster
from .suite import NAMESPACE, Suite, pod

PODS = 6


@pytest.fixture
def before(cluster: Cluster, allowing_suite: Suite, namespace: str) -> dict[str, str]:
    """Run some pods with their devices, and return their containers."""
    cluster.apply(*(pod(f"pod-{number}", namespace) for number in range(PODS)))
    allowing_suite.wait_running(namespace)
    assert allowing_suite.lacking(namespace) == set()
    return allowing_suite.containers(namespace)


@pytest.fixture
def usual_settings(cluster: Cluster) -> Iterator[None]:
    """Give the runtime its usual settings again."""
    yield
    cluster.reboot()


def reboot(suite: Suite, namespace: str, *, plugin_required: bool = False) -> None:
    """Reboot, and wait until all pods run again."""
    ours, theirs = suite.containers(NAMESPACE), suite.containers(namespace)
    suite.cluster.reboot(plugin_required=plugin_required)
    suite.wait_restarted(NAMESPACE, ours)
    suite.wait_restarted(namespace, theirs)


@pytest.mark.usefixtures("before")
def test_pods_that_start_before_the_plugin_are_reported(
    allowing_suite: Suite, namespace: str
) -> None:
    reboot(allowing_suite, namespace)
    lacking = allowing_suite.lacking(namespace)
    # A container that was refused at its start is reported until the kubelet removes it.
    assert allowing_suite.missed(namespace) >= lacking


@pytest.mark.usefixtures("before", "usual_settings")
def test_no_pod_starts_before_a_plugin_that_is_required(
    allowing_suite: Suite, namespace: str
) -> None:
    reboot(allowing_suite, namespace, plugin_required=True)
    assert allowing_suite.lacking(namespace) == set()
    assert allowing_suite.missed(namespace) == set()
