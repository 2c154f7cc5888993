"""Assign CPUs and memory nodes to containers: exclusive CPUs, or those of a pool.

`cpulist` and `topology` describe the hardware, `allocate` chooses CPUs, `pools` decides which
container gets which and when others must move; all of these are pure but for reading sysfs.
`plugin` has the handlers. docs/pin-cpus.md is the page for users.
"""

from nri_inject.plugins.resource_assigner.plugin import main

__all__ = ["main"]
