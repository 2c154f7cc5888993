"""What happens to a pod and its container from beginning to end."""

from __future__ import annotations

from nri_inject import api
from nri_inject.api import Container, Pod
from nri_inject.testing import FakeRuntime


def live(runtime: FakeRuntime, pod: Pod, container: Container) -> None:
    """Run a pod of one container through all that can happen to it."""
    runtime.run_pod(pod)
    runtime.create(container)
    runtime.start(container.id)
    runtime.update_container(container.id, api.LinuxResources())
    runtime.stop(container.id)
    runtime.stop_pod(pod.id)
    runtime.remove_pod(pod.id)
