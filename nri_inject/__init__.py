"""NRI plugins in Python, and what it takes to write more of them.

A plugin is a record of functions, and `serve` runs it:

    from nri_inject import Adjustment, Plugin, serve
    from nri_inject.adjustments import add_env

    def create_container(pod, container):
        adjustment = Adjustment()
        add_env(adjustment, "GREETING", f"hello, {container.name}")
        return adjustment

    serve(Plugin(name="hello", index="10", create_container=create_container))
"""

from nri_inject import _moved
from nri_inject.api import Adjustment, Container, ContainerUpdate, FailurePolicy, Pod, env_of
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
from nri_inject.text.annotations import effective_annotation

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
    "effective_annotation",
    "env_of",
    "serve",
]
