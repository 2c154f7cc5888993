"""Changes on a running cluster: of the policy, of the release, of the DaemonSet's pod."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from e2e.poll import until

from .cluster import SECONDS, Cluster, Refused
from .conftest import ROOT
from .node import NAME
from .suite import ALLOW_FUSE, NAMESPACE, OURS, Suite, pod

DENY = "rules: []"
MISSPELT = ALLOW_FUSE.replace("allow:", "alow:")


def test_a_policy_that_is_edited_comes_into_force(
    cluster: Cluster, suite: Suite, namespace: str
) -> None:
    suite.change_policy(DENY)
    cluster.apply(pod("early", namespace))
    suite.wait_described("early", namespace, "Reason: CreateContainerError")
    suite.change_policy(ALLOW_FUSE)
    suite.wait_running(namespace)  # the kubelet tries again
    assert suite.lacking(namespace) == set()


def test_an_upgrade_leaves_the_policy_that_was_edited(allowing_suite: Suite) -> None:
    allowing_suite.upgrade()
    allowing_suite.wait_ready()
    assert allowing_suite.policy == ALLOW_FUSE


def test_a_policy_of_values_does_not_replace_one_that_was_edited(allowing_suite: Suite) -> None:
    with pytest.raises(Refused) as refused:
        allowing_suite.upgrade({"policy": {"rules": []}})
    assert (
        "the policy in ConfigMap nri-inject/nri-inject-policy was edited in the cluster,"
        " and the value policy would replace it" in str(refused.value)
    )
    assert allowing_suite.policy == ALLOW_FUSE


@pytest.fixture
def edited_again(cluster: Cluster, suite: Suite) -> Iterator[None]:
    """Have a policy that is edited in the cluster, and no values, after the test."""
    yield
    with suite.policy_is_read():
        cluster.kubectl("delete", "configmap", "nri-inject-policy", OURS)
        suite.upgrade()
    suite.wait_ready()


@pytest.mark.usefixtures("edited_again")
def test_a_policy_of_values_comes_into_force_and_changes_with_them(
    cluster: Cluster, suite: Suite, namespace: str
) -> None:
    cluster.kubectl("delete", "configmap", "nri-inject-policy", OURS)
    suite.upgrade({"policy": {"rules": [{"name": "none", "deny": {"devices": ["/dev/fuse"]}}]}})
    suite.upgrade({"policy": yaml.safe_load(ALLOW_FUSE)})
    assert yaml.safe_load(suite.policy) == yaml.safe_load(ALLOW_FUSE)
    cluster.apply(pod("asks", namespace))
    suite.wait_running(namespace)  # the kubelet tries again
    assert suite.lacking(namespace) == set()


def test_missed_containers_are_restarted_where_values_say_so(
    cluster: Cluster, allowing_suite: Suite, namespace: str
) -> None:
    before = allowing_suite.containers(NAMESPACE)
    cluster.kubectl("label", "node", NAME, "away=yes")
    away = {"nodeSelector": {"away": "no"}}
    allowing_suite.upgrade(away)
    until(lambda: not allowing_suite.containers(NAMESPACE), "the plugin's pod to go", SECONDS)
    cluster.apply(pod("missed", namespace))
    allowing_suite.wait_running(namespace)
    assert allowing_suite.lacking(namespace) == {"missed"}
    missed = allowing_suite.containers(namespace)
    restarting = {"config": {"missed": "restart"}, "criSocket": "/run/containerd/containerd.sock"}
    allowing_suite.upgrade(restarting)
    until(lambda: allowing_suite.containers(NAMESPACE), "the plugin's pod", SECONDS)
    assert not allowing_suite.containers(NAMESPACE).items() & before.items()
    allowing_suite.wait_restarted(namespace, missed)
    assert allowing_suite.lacking(namespace) == set()
    # The budget of a pod must not begin anew with the next pod of the plugin.
    assert allowing_suite.status()["restarts"]["stopped"] == 1
    record = cluster.directory / "upper/var/lib/nri-inject/20-nri-inject.restarts"
    assert len(json.loads(record.read_text())) == 1
    allowing_suite.upgrade()
    allowing_suite.wait_ready()


def test_the_kustomize_base_is_accepted(cluster: Cluster, suite: Suite) -> None:  # noqa: ARG001 - has the namespace
    said = cluster.kubectl(
        "apply", "--dry-run=server", f"--kustomize={ROOT}/deploy/kubernetes/base"
    )
    assert "configmap/nri-inject configured (server dry run)" in said


def test_no_pod_lacks_its_device_during_a_rollout(
    cluster: Cluster, allowing_suite: Suite, namespace: str
) -> None:
    before = allowing_suite.containers(NAMESPACE)
    created: list[str] = []

    def rolled_out() -> bool:
        """Create two pods, and look."""
        names = [f"during-{len(created) + number}" for number in range(2)]
        cluster.apply(*(pod(name, namespace) for name in names))
        created.extend(names)
        now = allowing_suite.containers(NAMESPACE)
        return len(now) == 1 and not now.keys() & before.keys()

    cluster.kubectl("rollout", "restart", "daemonset/nri-inject", OURS)
    until(rolled_out, "the rollout", SECONDS)
    allowing_suite.wait_running(namespace)
    assert allowing_suite.containers(namespace).keys() == {*created}
    assert allowing_suite.lacking(namespace) == set()


def test_a_faulty_policy_never_takes_over_and_the_pod_is_not_ready(
    cluster: Cluster, allowing_suite: Suite, namespace: str
) -> None:
    allowing_suite.change_policy(MISSPELT)
    cluster.apply(pod("late", namespace))
    allowing_suite.wait_running(namespace)
    assert allowing_suite.lacking(namespace) == set()
    policy = allowing_suite.status()["policy"]
    assert policy["in_force"] == "before"
    assert policy["error"].endswith("rules: rule 1: unknown key 'alow'; did you mean 'allow'?")

    def ready() -> int:
        status = cluster.get("daemonset/nri-inject", OURS)["status"]
        return int(status["numberReady"])

    until(lambda: ready() == 0, "the pod not to be ready", SECONDS)
    allowing_suite.change_policy(ALLOW_FUSE)
    until(lambda: ready() == 1, "the pod to be ready again", SECONDS)
