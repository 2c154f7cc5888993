"""CDI specs in memory, and their devices resolved for a container."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from nri_inject import capabilities
from nri_inject.api import Adjustment, Container
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi import registry
from nri_inject.cdi.lookup import CdiError
from nri_inject.cdi.registry import Snapshot
from nri_inject.cdi.resolve import Resolution, resolve
from nri_inject.host.model import DeviceNode

OLD = capabilities.identify("containerd", "1.7.24")
DEVICES = {
    "/dev/null": DeviceNode("/dev/null", "c", 1, 3, 0o666, 0, 0),
    "/dev/fuse": DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0),
    "/dev/sda": DeviceNode("/dev/sda", "b", 8, 0, 0o660, 0, 6),
    "/run/pipe": DeviceNode("/run/pipe", "p", 0, 0, 0o600, 0, 0),
}


FRONT = re.compile(r"^CDI device 'v\.com/d=\d' of /\S+\.json: ")


def known(*devices: dict[str, Any], everywhere: dict[str, Any] | None = None) -> Snapshot:
    """Return the snapshot of one file with these edits as devices 0, 1 and so on."""
    return placed(spec(*devices, everywhere=everywhere))


def spec(*devices: dict[str, Any], **more: Any) -> bytes:
    listed = [
        {"name": str(number), "containerEdits": edits} for number, edits in enumerate(devices)
    ]
    document = {"cdiVersion": "1.1.0", "kind": more.get("kind", "v.com/d"), "devices": listed}
    return json.dumps({**document, "containerEdits": more.get("everywhere")}).encode()


def placed(*files: bytes) -> Snapshot:
    read = [
        registry.read(f"/etc/cdi/{number}.json", "/etc/cdi", data)
        for number, data in enumerate(files)
    ]
    return registry.snapshot(["/etc/cdi"], read)


def resolved(
    *devices: dict[str, Any],
    names: tuple[str, ...] = ("v.com/d=0",),
    container: Container | None = None,
    runtime: Runtime = NEWEST,
    everywhere: dict[str, Any] | None = None,
) -> Resolution:
    snapshot = known(*devices, everywhere=everywhere)
    return resolve(names, snapshot, DEVICES, container=container or Container(), runtime=runtime)


def adjusted(*devices: dict[str, Any], **more: Any) -> Adjustment:
    resolution = resolved(*devices, **more)
    assert (resolution.unsupported, resolution.warnings) == ((), ())
    return resolution.adjust


def faults(*devices: dict[str, Any], **more: Any) -> tuple[str, ...]:
    with pytest.raises(CdiError) as caught:
        resolved(*devices, **more)
    return bare(caught.value.faults)


def bare(sentences: Sequence[str]) -> tuple[str, ...]:
    """Return sentences without the device and the file that the first of them names."""
    return tuple(FRONT.sub("", sentence) for sentence in sentences)


def node(**fields: Any) -> dict[str, Any]:
    return {"deviceNodes": [{"path": "/dev/null", **fields}]}
