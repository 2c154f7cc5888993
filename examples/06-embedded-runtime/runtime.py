#!/usr/bin/env python3
"""A runtime in ten lines: the plugins of a directory, a pod, and a container's OCI spec."""

import json
import sys

from nri_inject import Container, Pod
from nri_inject.runtime import Adaptation, World

with Adaptation() as adaptation:
    for fault in adaptation.launch(sys.argv[1], config_directory=None):
        print(fault)
    world = World(adaptation)
    world.run_pod(Pod(id="p1", name="web", namespace="default"))
    made = world.create(Container(id="c1", pod_sandbox_id="p1", name="main", args=["sh"]))
    print(json.dumps(made.spec["process"]))
