#!/usr/bin/env python3
"""Containers that are running can be changed too: in an answer, or whenever the plugin wants.

This one lets no container have more than half of what is asked for it in an update, gives the
memory of a stopped container to the first one of its pod, and writes down what became of that.
"""

import logging
import os

from nri_inject import Container, ContainerUpdate, NriError, Plugin, Pod, Stub
from nri_inject.adjustments import set_memory_limit
from nri_inject.api import LinuxResources
from nri_inject.stub import launched_connection

log = logging.getLogger("updates")
first_of: dict[str, str] = {}  # a pod's id -> the id of its first container


def limited(container_id: str, limit: int) -> ContainerUpdate:
    # That container may have ended meanwhile.
    update = ContainerUpdate(container_id=container_id, ignore_failure=True)
    set_memory_limit(update, limit)
    return update


def post_create_container(pod: Pod, container: Container) -> None:
    first_of.setdefault(pod.id, container.id)


def update_container(
    _: Pod, container: Container, resources: LinuxResources
) -> list[ContainerUpdate]:
    # What is answered for the container itself takes the place of the request.
    if not resources.memory.HasField("limit"):
        return []
    return [limited(container.id, resources.memory.limit.value // 2)]


def stop_container(pod: Pod, container: Container) -> None:
    limit = container.linux.resources.memory.limit.value
    if limit and first_of.get(pod.id, container.id) != container.id:
        # `update` returns at once and is sent after this answer. To wait for it here would be
        # to wait for ourselves.
        stub.update([limited(first_of[pod.id], limit)], became)


def remove_pod_sandbox(pod: Pod) -> None:
    first_of.pop(pod.id, None)


def became(outcome: list[ContainerUpdate] | NriError) -> None:
    if outcome:
        log.warning("an update failed: %s", outcome)


plugin = Plugin(
    name="updates",
    index="30",
    post_create_container=post_create_container,
    update_container=update_container,
    stop_container=stop_container,
    remove_pod_sandbox=remove_pod_sandbox,
)
stub = Stub(plugin, connection=launched_connection(os.environ))
stub.run()
