"""The runtime's side of NRI: the requests to plugins, and the result of their answers.

    from nri_inject.runtime import Adaptation, World

    with Adaptation() as adaptation:
        world = World(adaptation)
        adaptation.launch("/opt/nri/plugins", "/etc/nri/conf.d")
        world.run_pod(pod)
        made = world.create(container)

`Adaptation` calls plugins and merges their answers; `World` keeps pods and containers for programs
that keep none. docs/embed-a-runtime.md shows both.
"""

from nri_inject.capabilities import Runtime, identify
from nri_inject.runtime.adaptation import Adaptation, Created
from nri_inject.runtime.apply import Resolvers, apply
from nri_inject.runtime.launcher import launch, launch_as
from nri_inject.runtime.merge import Merged
from nri_inject.runtime.oci_spec import oci_spec
from nri_inject.runtime.owners import Conflict
from nri_inject.runtime.peer import Peer, Timeouts, Unanswered
from nri_inject.runtime.validate import Rejection, Rules, read_rules
from nri_inject.runtime.world import Made, World

__all__ = [
    "Adaptation",
    "Conflict",
    "Created",
    "Made",
    "Merged",
    "Peer",
    "Rejection",
    "Resolvers",
    "Rules",
    "Runtime",
    "Timeouts",
    "Unanswered",
    "World",
    "apply",
    "identify",
    "launch",
    "launch_as",
    "oci_spec",
    "read_rules",
]
