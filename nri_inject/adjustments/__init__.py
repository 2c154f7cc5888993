"""The changes that a plugin makes to a container: a function for each part of an adjustment.

The functions write into the protocol's own messages. An author needs no field and no protobuf for
them, and may still set any field.

- A value that NRI or a runtime would refuse, or drop in silence, is a RequestError, and the message
  stays as it was. A handler that lets it pass fails its one container, with that sentence.
- `add_...` refuses a second value for the same thing: a runtime takes two for a conflict of the
  plugin with itself. An equal value is fine.
- `set_...` replaces the value of before.
- `remove_...` before `add_...` or `set_...`, in one adjustment, replaces the value of an earlier
  plugin. Without it the runtime reports a conflict of the two (NRI 0.12, pkg/adaptation/result.go).

A text of a pod is the choice of its author. Compare it with a list before it becomes a path.
"""

from nri_inject.adjustments.container import (
    Stage,
    add_hook,
    add_mount,
    remove_annotation,
    remove_mount,
    remove_namespace,
    remove_sysctl,
    set_annotation,
    set_namespace,
    set_sysctl,
)
from nri_inject.adjustments.devices import (
    add_cdi_device,
    add_device,
    add_device_rule,
    add_host_device,
    add_net_device,
    remove_device,
    remove_net_device,
)
from nri_inject.adjustments.process import (
    add_env,
    remove_env,
    set_args,
    set_io_priority,
    set_memory_policy,
    set_oom_score_adj,
    set_rlimit,
    set_scheduler,
)
from nri_inject.adjustments.resources import (
    set_blockio_class,
    set_cgroup_value,
    set_cpu_quota,
    set_cpu_shares,
    set_cpuset,
    set_hugepage_limit,
    set_memory_limit,
    set_pids_limit,
    set_rdt_class,
)
from nri_inject.text.names import UNLIMITED

__all__ = [
    "UNLIMITED",
    "Stage",
    "add_cdi_device",
    "add_device",
    "add_device_rule",
    "add_env",
    "add_hook",
    "add_host_device",
    "add_mount",
    "add_net_device",
    "remove_annotation",
    "remove_device",
    "remove_env",
    "remove_mount",
    "remove_namespace",
    "remove_net_device",
    "remove_sysctl",
    "set_annotation",
    "set_args",
    "set_blockio_class",
    "set_cgroup_value",
    "set_cpu_quota",
    "set_cpu_shares",
    "set_cpuset",
    "set_hugepage_limit",
    "set_io_priority",
    "set_memory_limit",
    "set_memory_policy",
    "set_namespace",
    "set_oom_score_adj",
    "set_pids_limit",
    "set_rdt_class",
    "set_rlimit",
    "set_scheduler",
    "set_sysctl",
]
