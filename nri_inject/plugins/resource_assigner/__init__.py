"""Give each container its CPUs and memory nodes: a pool that it shares, or CPUs of its own.

`cpulist` and `topology` say what the hardware has, `allocate` chooses CPUs, `pools` decides who
gets which and when others must move; all of these are pure but for reading sysfs. `plugin` has the
handlers. docs/pin-cpus.md is for who uses it.
"""

from nri_inject.plugins.resource_assigner.plugin import main

__all__ = ["main"]
