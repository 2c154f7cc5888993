"""The DaemonSet in a cluster, and pods that request devices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e import image
from e2e.archive import REPOSITORY
from e2e.poll import until

from .cluster import SECONDS, Cluster

CHART = REPOSITORY / "deploy" / "chart"
NAMESPACE = "nri-inject"
OURS = f"--namespace={NAMESPACE}"
KEY = "devices.noderesource.dev/pod"
FUSE = "- path: /dev/fuse"
ALLOW_FUSE = "rules: [{name: tests, allow: {devices: [/dev/fuse]}}]"


def pod(name: str, namespace: str, request: str = FUSE) -> dict[str, Any]:
    """Return a pod that requests something for its one container."""
    container = {"name": "main", "image": image.NAME, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": {KEY: request}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


class Suite:
    """The DaemonSet, its policy, and its view of the node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def policy(self) -> str:
        """Return the policy that the cluster keeps."""
        found = self.cluster.get("configmap", f"{NAMESPACE}-policy", OURS)
        return str(found["data"]["policy.yaml"])

    def upgrade(self, values: Any = None) -> None:
        """Upgrade the release to the chart as it is, with these values and no others."""
        given = json.dumps(values or {})
        upgrading = ("upgrade", "nri-inject", CHART, OURS, "--reset-values", "--values=-")
        self.cluster.helm(*upgrading, given=given)

    def change_policy(self, text: str) -> None:
        """Change the policy as `kubectl edit` would, and wait until the plugin has read it."""
        if self.policy == text:
            return
        change = json.dumps({"data": {"policy.yaml": text}})
        patching = ("patch", "configmap", f"{NAMESPACE}-policy", OURS, "--type=merge")
        with self.policy_is_read():
            self.cluster.kubectl(*patching, f"--patch={change}")

    @contextmanager
    def policy_is_read(self) -> Iterator[None]:
        """Wait until the plugin has read the policy that the block writes, with other rules."""
        before = self._readings()
        yield
        until(lambda: self._readings() > before, "the plugin to read its policy", SECONDS)

    def _readings(self) -> int:
        """Count the versions of the policy in the log of the running plugin."""
        log = self.cluster.kubectl("logs", "daemonset/nri-inject", OURS)
        return log.count('"message": "policy ')

    def wait_ready(self) -> None:
        self.cluster.kubectl("rollout", "status", "daemonset/nri-inject", OURS, "--timeout=120s")

    def status(self) -> dict[str, Any]:
        """Return what the plugin says of itself."""
        shown = self.cluster.kubectl(
            *("exec", "daemonset/nri-inject", OURS, "--"),
            *("nri-inject", "status", "--format=json"),
            statuses=(0, 1),  # 1 if something is wrong, which the document says
        )
        said: dict[str, Any] = json.loads(shown)["plugins"][0]
        return said

    def missed(self, namespace: str) -> set[str]:
        """Return the pods of a namespace that the plugin reports, when all have been compared."""
        until(lambda: self.status()["to_compare"] == 0, "the comparison", SECONDS)
        reported = (one["pod"].split("/") for one in self.status()["missed"]["containers"])
        return {name for place, name in reported if place == namespace}

    def lacking(self, namespace: str) -> set[str]:
        """Return the pods of a namespace that run without /dev/fuse."""
        running = self.containers(namespace)
        return {name for name in running if not self.has_fuse(name, namespace)}

    def containers(self, namespace: str) -> dict[str, str]:
        """Return the ids of the containers that are ready, by their pods."""
        pods = self.cluster.get("pods", f"--namespace={namespace}")["items"]
        return {
            pod["metadata"]["name"]: container["containerID"]
            for pod in pods
            for container in pod["status"].get("containerStatuses", [])
            if container["ready"]
        }

    def wait_restarted(self, namespace: str, before: dict[str, str]) -> None:
        """Wait until each pod of a namespace has another container than before."""

        def restarted() -> bool:
            now = self.containers(namespace)
            return now.keys() == before.keys() and not now.items() & before.items()

        until(restarted, f"the containers of {namespace} to start anew", SECONDS)

    def has_fuse(self, name: str, namespace: str) -> bool:
        shown = self.cluster.kubectl(
            *("exec", name, f"--namespace={namespace}", "--"),
            *("find", "/dev", "-name", "fuse", "-type", "c"),
        )
        return shown == "/dev/fuse\n"

    def wait_running(self, namespace: str) -> None:
        """Wait until all pods of a namespace are ready."""
        chosen = ("pod", "--all", f"--namespace={namespace}")
        self.cluster.kubectl("wait", "--for=condition=Ready", *chosen, "--timeout=180s")

    def wait_described(self, name: str, namespace: str, part: str) -> str:
        """Wait until the description of a pod has some words, and return all of it."""

        def described() -> str:
            said = self.cluster.describe(name, namespace)
            return said if part in said else ""

        try:
            return until(described, f"{part!r} in the description of {name}", SECONDS)
        except TimeoutError as error:
            raise AssertionError(self.cluster.describe(name, namespace)) from error
