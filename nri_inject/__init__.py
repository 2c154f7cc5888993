"""NRI plugins in Python, and what it takes to write more of them.

A plugin is a record of functions, and `serve` runs it:

    from nri_inject import Adjustment, Plugin, serve

    def create_container(pod, container):
        ...

    serve(Plugin(name="hello", index="10", create_container=create_container))
"""

from nri_inject import _moved
from nri_inject.api import Adjustment, Container, ContainerUpdate, FailurePolicy, Pod
from nri_inject.errors import (
    ConfigError,
    ConnectionLost,
    NriError,
    ProtocolError,
    RemoteError,
    RequestError,
)
from nri_inject.plugin import Plugin
from nri_inject.stub import Stub, serve

_moved.install()

__all__ = [
    "Adjustment",
    "ConfigError",
    "ConnectionLost",
    "Container",
    "ContainerUpdate",
    "FailurePolicy",
    "NriError",
    "Plugin",
    "Pod",
    "ProtocolError",
    "RemoteError",
    "RequestError",
    "Stub",
    "serve",
]
