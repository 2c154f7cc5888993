"""The vocabulary: every message and enum of NRI under its own name, two of them also shorter.

`Pod` is PodSandbox and `Adjustment` is ContainerAdjustment. There is no second data model
beside these: they compare with `==`, print, and convert to protobuf JSON.
"""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from nri_inject._pb.nri_pb2 import *  # noqa: F403 - every name of the protocol, and no other
from nri_inject._pb.nri_pb2 import Container, ContainerAdjustment, ContainerUpdate, PodSandbox

Pod = PodSandbox
Adjustment = ContainerAdjustment

# The compiler of protobuf writes no docstrings. `help` shows these, and proto/generate.py copies
# them into the stubs, where an editor finds them.
PodSandbox.__doc__ = """A pod, as the runtime reports it; a plugin reads it and never changes it.

- id, name, uid, namespace: texts. `id` is the runtime's, `uid` is Kubernetes'.
- labels, annotations: maps of text to text. Their values are the choice of the pod's author.
- runtime_handler: the handler of the pod's RuntimeClass, "" for the default.
- ips: the addresses (since NRI 0.8), before the pod runs none.
- pid: the process that holds the pod's namespaces, 0 if there is none.
- linux: cgroup_parent, cgroups_path, namespaces, resources, pod_resources, pod_overhead.

`effective_annotation` finds the annotation that counts for one container. The last events of a pod
may report little besides its id, so a plugin that needs more keeps it by id.
"""

Container.__doc__ = """A container, as the runtime and the plugins before this one left it.

- id, pod_sandbox_id, name: texts; `id` stays the same for all of the container's life.
- state: a ContainerState. pid: 0 before it runs. created_at, started_at, finished_at: nanoseconds
  since 1970, 0 before (since NRI 0.10).
- exit_code, status_reason, status_message: of its end (since NRI 0.10).
- labels, annotations: maps of text to text.
- args: the command line. env: texts NAME=value; `env_of` makes a dict of them.
- mounts, hooks, rlimits, CDI_devices: as in an Adjustment.
- linux: devices, namespaces, resources, cgroups_path, oom_score_adj, and more since NRI 0.10.
- user (since NRI 0.11), image (since NRI 0.12.2).

A change of this message has no effect: `create_container` returns an Adjustment.
"""

ContainerAdjustment.__doc__ = """What a plugin changes in a container that is being created.

`nri_inject.adjustments` has a function for each change. The fields are env, args, mounts, hooks,
annotations, rlimits, CDI_devices, and in `linux` devices, resources, namespaces, sysctl,
net_devices, cgroups_path, oom_score_adj, io_priority, scheduler, memory_policy, seccomp_policy and
rdt.

A runtime with an older NRI drops the fields that it does not know, in silence.
"""

ContainerUpdate.__doc__ = """What a plugin changes in a container that exists: its resources.

- container_id: the container; not one that is being created.
- ignore_failure: whether the request goes on if the update fails.
- linux.resources: the new values; `nri_inject.adjustments` sets them.
"""

_M = TypeVar("_M", bound=Message)


def copy_of(message: _M) -> _M:
    """Return a message that is equal to this one and shares nothing with it."""
    same = type(message)()
    same.CopyFrom(message)
    return same


def env_of(container: Container) -> dict[str, str]:
    """Return the variables of a container by name; of a doubled one the last value counts."""
    entries = (entry.partition("=") for entry in container.env)
    return {name: value for name, equals, value in entries if equals}
