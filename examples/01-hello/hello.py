#!/usr/bin/env python3
"""The smallest plugin: it greets every container through a variable."""

from nri_inject import Adjustment, Container, Plugin, Pod, serve
from nri_inject.adjustments import add_env


def create_container(pod: Pod, container: Container) -> Adjustment:
    adjustment = Adjustment()
    add_env(adjustment, "GREETING", f"hello, {container.name} of {pod.name}")
    return adjustment


serve(Plugin(name="hello", index="10", create_container=create_container))
