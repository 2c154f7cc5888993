"""CDI specs in the shape in which generators write them, for nodes and files that a test has.

The shapes follow the sources of nvidia-ctk 1.20 (internal/edits, pkg/nvcdi), amd-ctk (internal/cdi)
and Intel's DRA driver (pkg/gpu/cdihelpers).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

Spec = dict[str, Any]

NVIDIA = "nvidia.com/gpu=0"
AMD = "amd.com/gpu=0"
INTEL = "intel.com/gpu=0000-03-00-0-0x56a0"


def nvidia(node: str, library: str, hook: str, *, groups: Sequence[int] = (44, 992)) -> Spec:
    """Return nvidia-ctk's: numbers, mode and group of the node, groups, a library and hooks."""
    status = os.stat(node)
    numbers = {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
    owned = {"gid": groups[0], "fileMode": 0o660} if groups else {}
    gpu = {"path": "/dev/nvidia0", "hostPath": node, **numbers, "permissions": "rwm", **owned}
    extra = {"additionalGids": [*groups]} if groups else {}
    hooks = [
        {
            "hookName": "createContainer",
            "path": hook,
            "args": ["nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib/x86_64-linux-gnu"],
            "env": ["NVIDIA_CTK_DEBUG=false"],
        }
    ]
    mount = {
        "hostPath": library,
        "containerPath": "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
    }
    return {
        "cdiVersion": "0.7.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [gpu], **extra}}
            for name in ("0", "GPU-7c0e5b0c-0000-0000-0000-000000000000", "all")
        ],
        "containerEdits": {
            "env": ["NVIDIA_CTK_LIBCUDA_DIR=/usr/lib", "NVIDIA_VISIBLE_DEVICES=void"],
            "hooks": hooks,
            "mounts": [mount],
        },
    }


def amd(node: str, render: str) -> Spec:
    """Return amd-ctk's: every field of each node, the owners included, and /dev/kfd with all."""
    nodes = [_whole(node, "/dev/dri/renderD128"), _whole(render, "/dev/kfd")]
    return {
        "cdiVersion": "0.6.0",
        "kind": "amd.com/gpu",
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": nodes}} for name in ("0", "all")
        ],
        "containerEdits": {},
    }


def _whole(node: str, path: str) -> Spec:
    status = os.stat(node)
    return {
        "path": path,
        "type": "c",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": 0o660,
        "permissions": "rw",
        "uid": 0,
        "gid": 992,
    }


def intel(card: str, render: str, by_path: str) -> Spec:
    """Return Intel's: nodes by their host paths, and a mount of the link in by-path."""
    nodes = [
        {"path": "/dev/dri/card1", "hostPath": card, "type": "c"},
        {"path": "/dev/dri/renderD129", "hostPath": render, "type": "c"},
    ]
    mount = {
        "hostPath": by_path,
        "containerPath": "/dev/dri/by-path/pci-0000:03:00.0-card",
        "type": "none",
        "options": ["bind", "rw"],
    }
    edits = {"deviceNodes": nodes, "mounts": [mount]}
    name = INTEL.partition("=")[2]
    return {
        "cdiVersion": "0.5.0",
        "kind": "intel.com/gpu",
        "devices": [{"name": name, "containerEdits": edits}],
        "containerEdits": {},
    }
