#!/usr/bin/env python3
"""The smallest plugin: it greets every container through a variable."""

from nri_inject import Adjustment, Container, Plugin, Pod, serve


def create_container(pod: Pod, container: Container) -> Adjustment:
    adjustment = Adjustment()
    adjustment.env.add(key="GREETING", value=f"hello, {container.name} of {pod.name}")
    return adjustment


serve(Plugin(name="hello", index="10", create_container=create_container))
