"""The error tree of the package.

    NriError                 base of everything that this package raises on purpose
    ├── ProtocolError        the peer broke the protocol; the connection is of no further use
    ├── RemoteError          the peer answered a call of ours with a status that is not OK
    ├── ConnectionLost       the socket ended while we still needed it
    ├── RequestError         a container asked for something that it cannot have; its sentence
    │                        is what people read in `kubectl describe pod`
    ├── ConfigError          an admin's file or option is wrong
    └── YamlError            a text is not the YAML that we accept (in nri_inject.yamltext)

Programming errors stay TypeError, ValueError and AssertionError.
"""

from __future__ import annotations

from collections.abc import Iterable


class NriError(Exception):
    """Base class of the package's own errors."""


class ProtocolError(NriError):
    """Say how the peer broke the multiplexer's, ttrpc's or NRI's rules."""


class RemoteError(NriError):
    """Carry the status that the peer answered with.

    `code` is a gRPC status code (google.rpc.Code), `message` the peer's own text.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} (status {code})")
        self.code = code
        self.message = message


class ConnectionLost(NriError):
    """Tell that the connection to the runtime ended before what we waited for came."""


class ConfigError(NriError):
    """Name the file or option that is wrong, what came and what was expected."""


class RequestError(NriError):
    """Hold everything that is wrong with what one container asked for.

    `faults` are sentences without a full stop, one for each thing that is wrong, so that a
    pod's author can mend all of them at once. They become the text of the CRI error.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))
