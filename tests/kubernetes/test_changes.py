"""Changes on a running cluster: of the policy, of the release, of the DaemonSet's pod."""

from __future__ import annotations

from e2e.poll import until

from .cluster import SECONDS, Cluster
from .conftest import commands
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


def test_an_upgrade_leaves_the_policy(cluster: Cluster, allowing_suite: Suite) -> None:
    upgrade, *_ = commands()
    assert "deleted" not in cluster.kubectl(*upgrade)
    allowing_suite.wait_ready()
    assert allowing_suite.policy == ALLOW_FUSE


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
