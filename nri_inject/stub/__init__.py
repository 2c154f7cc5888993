"""A plugin on a socket, for authors of plugins and for our own commands.

`serve` and `Stub` run a record of handlers. From outside in: `stub` dials and dials again,
`connection` is one socket and its phases, `handshake` and `updates` are the two conversations that
are more than one call, `loop` waits. What this package imports brings protobuf and nothing more;
everything that it does not name here is private.
"""

from nri_inject.stub.connection import Observer
from nri_inject.stub.dial import DEFAULT_SOCKET, launched_connection
from nri_inject.stub.handshake import NRI_VERSION
from nri_inject.stub.limits import Limits
from nri_inject.stub.loop import Watch
from nri_inject.stub.stub import Phase, Stub, serve
from nri_inject.stub.updates import Callback

__all__ = [
    "DEFAULT_SOCKET",
    "NRI_VERSION",
    "Callback",
    "Limits",
    "Observer",
    "Phase",
    "Stub",
    "Watch",
    "launched_connection",
    "serve",
]
