"""The files that commands are asked about: manifests of pods, a policy, a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from nri_inject.errors import ConfigError
from nri_inject.host import follow, trust
from nri_inject.injectors.giving import read_gifts
from nri_inject.policy import document
from nri_inject.policy.rules import Policy
from nri_inject.runtime import manifests
from nri_inject.runtime.manifests import Planned

Warn = Callable[[str], object]


def planned_in(files: Iterable[str]) -> Iterator[Planned]:
    """Yield the containers that manifests describe; ConfigError for what cannot be read.

    A manifest without a container is an error, too: nothing would be tried.
    """
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read manifest {file}: {reason(error)}") from error
        found = manifests.read(text, file)
        if not found:
            kinds = ", ".join(manifests.kinds(text)) or "no object"
            raise ConfigError(f"{file} describes no pod; it has {kinds}")
        yield from found


def read_policy(file: str, *, unsafe: bool, warn: Warn) -> tuple[Policy, bool]:
    """Return the policy that a file holds, and whether a plugin would read that file, too.

    ConfigError if it cannot be read, Faulty if it has a fault.
    """
    data, is_trusted = read_bytes(file, document.LIMITS.size, unsafe=unsafe, warn=warn)
    return document.read(data, file, read_gifts), is_trusted


def read_bytes(file: str, size: int, *, unsafe: bool, warn: Warn) -> tuple[bytes, bool]:
    """Return what a file holds, and whether a plugin would read it; ConfigError if it cannot be.

    A trial changes nothing, so it also reads what others than root could have written, and warns.
    """
    data = follow.read(file, size, unsafe=True)
    why = None if unsafe else trust.untrusted(os.path.abspath(file))
    if why is not None:
        warn(f"{file}: {why}; a plugin refuses to read it (unless with --unsafe-files)")
    return data, why is None


def reason(error: Exception) -> str:
    """Return an error's text in one line, without the path that the message already begins with."""
    text = isinstance(error, OSError) and error.strerror
    return text or " ".join(str(error).split())
