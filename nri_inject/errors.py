"""The error tree of the package.

    NriError                 base of everything that this package raises on purpose
    ├── ProtocolError        the peer broke the protocol; the connection is of no further use
    ├── RemoteError          the peer answered a call of ours with a status that is not OK
    ├── ConnectionLost       the socket ended while we still needed it
    ├── RequestError         a container requested something that it cannot have; its sentence
    │                        is what people read in `kubectl describe pod`
    ├── ConfigError          an admin's file or option is wrong
    │   └── Faulty           the file was read, and its content is wrong
    └── YamlError            a text is not the YAML that we accept (in nri_inject.text.yamltext)

Programming errors stay TypeError, ValueError and AssertionError.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final


class NriError(Exception):
    """Base class of the package's own errors."""

    @property
    def reason(self) -> str:
        """The error's text; a RemoteError's is the peer's own."""
        return str(self)


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

    @property
    def reason(self) -> str:
        """The peer's own text."""
        return self.message


class ConnectionLost(NriError):
    """The connection to the runtime ended before an expected message arrived."""


class ConfigError(NriError):
    """Name the file or option that is wrong, what came and what was expected."""


class Faulty(ConfigError):
    """Name the policy or configuration whose content has a fault.

    Commands end with status 1 for it, and with 2 for any other ConfigError.
    """


class RequestError(NriError):
    """All faults of one container's request.

    `faults` are sentences without a full stop, one for each fault, so that a pod's author can
    correct all of them at once. `where` names the container at the beginning of the text. `denied`
    says that a policy forbids it, so that denials can be counted. The text becomes that of the CRI
    error, so it is kept short: the first faults and how many more there are.
    """

    def __init__(self, faults: Iterable[str], *, where: str = "", denied: bool = False) -> None:
        self.faults = tuple(faults)
        self.where = where
        self.denied = denied
        super().__init__(_report(self.faults, where))


# In bytes. Kubernetes cuts the message of an event at 1024 characters; logs show the rest.
_MAX_FAULTS: Final = 10
_MAX_PART: Final = 900
_MAX_REPORT: Final = 2000


def _report(faults: Sequence[str], where: str) -> str:
    """Join the first faults, as many as a message may hold, and count the others."""
    where = _within(where, _MAX_PART)
    shown: list[str] = []
    length = _size(where)
    for fault in faults[:_MAX_FAULTS]:
        sentence = _within(fault, _MAX_PART)
        length += _size(sentence) + len("; ")
        if shown and length > _MAX_REPORT:
            break
        shown.append(sentence)
    if len(faults) > len(shown):
        shown.append(f"and {len(faults) - len(shown)} more")
    text = "; ".join(shown)
    return f"{where}: {text}" if where else text


def _within(text: str, size: int) -> str:
    if len(text) <= size // 4 or _size(text) <= size:  # no character takes more than 4 bytes
        return text
    return text.encode("utf-8", "replace")[: size - 3].decode("utf-8", "ignore") + "..."


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
