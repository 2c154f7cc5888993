"""What the benchmarks give to read: CDI specs, hook definitions, annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from players import request_of

from nri_inject.api import CreateContainerRequest

KIND = "vendor{file}.example.com/device"

DEVICES = {
    "devices.noderesource.dev/container.main": "- path: /dev/full\n"
    "- {path: /dev/null2, type: c, major: 1, minor: 3}\n",
    "mounts.noderesource.dev/pod": "- {source: /etc, destination: /host/etc, type: bind,"
    " options: [rbind, rro]}\n",
}
THREE_DEVICES = {
    "devices.noderesource.dev/container.main": "- path: /dev/full\n"
    "- path: /dev/zero\n"
    "- {path: /dev/null2, type: c, major: 1, minor: 3}\n",
}
HOOKED = {f"team.example.com/label-{number}": f"value {number}" for number in range(9)} | {
    "feature7.example.com/enabled": "true"
}
COMMAND = ("/usr/bin/server-7", "--listen", "8080")


def wanted(files: int, devices: int) -> tuple[str, str]:
    """Return two of the devices that `write_cdi` has written into so many files."""
    last = devices // files - 1
    return f"{KIND.format(file=0)}=d3", f"{KIND.format(file=files - 1)}=d{last}"


def cdi_annotation(*names: str) -> dict[str, str]:
    """Return the annotation that asks for CDI devices."""
    return {"cdi-devices.noderesource.dev/container.main": json.dumps(names)}


def everything() -> CreateContainerRequest:
    """Return a request for devices, a mount, CDI devices of 1,000 in 10 files, and a hook."""
    asked = DEVICES | cdi_annotation(*wanted(10, 1000)) | HOOKED
    return request_of(asked, COMMAND)


def policy(rules: int) -> str:
    """Return a configuration whose last rule allows what `everything` asks for.

    The other ones are about other namespaces and other devices, by their names and by patterns.
    """
    others = [
        {
            "who": {"namespaces": [f"team-{number}", f"team-{number}-*"]},
            "allow": {
                "devices": [f"/dev/vendor-{number}", f"/dev/vendor-{number}/*"],
                "mounts": [f"/srv/team-{number}"],
            },
        }
        for number in range(rules - 1)
    ]
    last = {
        "who": {"namespaces": ["default"]},
        "allow": {
            "devices": ["/dev/full", "/dev/null"],
            "mounts": ["/etc"],
            "cdi_devices": ["vendor*.example.com/device=*"],
        },
    }
    return json.dumps({"policy": {"rules": [*others, last]}})


def giving(rules: int) -> str:
    """Return a configuration whose last rule gives a device to pods of the namespace default.

    The other ones give to other namespaces, by their names and by patterns.
    """
    others = [
        {
            "who": {"namespaces": [f"team-{number}", f"team-{number}-*"]},
            "give": {"devices": [f"/dev/vendor-{number}"]},
        }
        for number in range(rules - 1)
    ]
    last = {"who": {"namespaces": ["default"]}, "give": {"devices": ["/dev/full"]}}
    return json.dumps({"policy": {"rules": [*others, last]}})


def different(sample: CreateContainerRequest, count: int) -> Sequence[CreateContainerRequest]:
    """Return requests that ask for the same in texts of their own, each for a pod of its own."""
    requests = []
    for number in range(count):
        request = CreateContainerRequest()
        request.CopyFrom(sample)
        request.pod.id = request.container.pod_sandbox_id = f"{number:064}"
        request.pod.name = f"pod-{number}"
        for key, value in sample.pod.annotations.items():
            if "noderesource.dev/" in key:
                request.pod.annotations[key] = f"{value} # of pod {number}\n"
        request.pod.annotations["team.example.com/label-0"] = f"value of {number}"
        requests.append(request)
    return requests


def cdi_spec(file: int, devices: int) -> dict[str, Any]:
    """Return a spec with this many devices, each with a node, a mount and two variables."""
    return {
        "cdiVersion": "0.6.0",
        "kind": KIND.format(file=file),
        "devices": [_cdi_device(file, number) for number in range(devices)],
        "containerEdits": {"env": [f"VENDOR_{file}=loaded"]},
    }


def _cdi_device(file: int, number: int) -> dict[str, Any]:
    return {
        "name": f"d{number}",
        "annotations": {"example.com/slot": f"{file}-{number}"},
        "containerEdits": {
            "env": [f"DEVICE_{file}_{number}=yes", f"SLOT_{file}_{number}={number}"],
            "deviceNodes": [
                {
                    "path": f"/dev/vendor{file}-{number}",
                    "hostPath": "/dev/null",
                    "permissions": "rw",
                }
            ],
            "mounts": [
                {
                    "hostPath": "/usr/lib",
                    "containerPath": f"/usr/lib/vendor-{file}-{number}",
                    "options": ["ro", "rbind"],
                }
            ],
        },
    }


def write_cdi(directory: Path, extension: str, files: int, devices: int) -> None:
    """Fill a directory with spec files that have this many devices together."""
    directory.mkdir(mode=0o755)
    for file in range(files):
        path = directory / f"vendor{file}.{extension}"
        path.write_text(cdi_text(cdi_spec(file, devices // files), extension))


def cdi_text(spec: dict[str, Any], extension: str) -> str:
    """Return a spec as programs write it, in JSON or in YAML."""
    if extension == "json":
        return json.dumps(spec, indent=2)
    return yaml.dump(spec, Dumper=yaml.CSafeDumper, sort_keys=False)


GPU: Final = "nvidia.com/gpu={number}"


def gpu_spec() -> dict[str, Any]:
    """Return a spec of 8 GPUs of the size and shape that `nvidia-ctk cdi generate` writes.

    The nodes are the host's /dev/null, so that every machine resolves them.
    """
    libraries = [f"/usr/lib/x86_64-linux-gnu/libnvidia-{n}.so.550.54.15" for n in range(26)]
    programs = [f"/usr/bin/nvidia-{name}" for name in ("smi", "debugdump", "persistenced", "mps")]
    links = ["libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so"]
    return {
        "cdiVersion": "0.5.0",
        "kind": GPU.partition("=")[0],
        "devices": [_gpu(number) for number in range(8)],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": _null_nodes("nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools", "ctl"),
            "hooks": [
                _gpu_hook("create-symlinks", *links),
                _gpu_hook("enable-cuda-compat"),
                _gpu_hook("update-ldcache", "/usr/lib/x86_64-linux-gnu"),
            ],
            "mounts": [
                {
                    "hostPath": path,
                    "containerPath": path,
                    "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
                }
                for path in (*libraries, *programs)
            ],
        },
    }


def _gpu(number: int) -> dict[str, Any]:
    card, render = f"dri/card{number}", f"dri/renderD{128 + number}"
    links = [f"../{node}::/dev/dri/by-path/pci-0000:0{number}:00.0" for node in (card, render)]
    return {
        "name": str(number),
        "containerEdits": {
            "deviceNodes": _null_nodes(f"nvidia{number}", card, render),
            "hooks": [_gpu_hook("create-symlinks", *links)],
        },
    }


def _null_nodes(*names: str) -> list[dict[str, Any]]:
    return [{"path": f"/dev/{name}", "hostPath": "/dev/null"} for name in names]


def _gpu_hook(command: str, *values: str) -> dict[str, Any]:
    arguments = [text for value in values for text in ("--link", value)]
    return {
        "hookName": "createContainer",
        "path": "/usr/bin/nvidia-cdi-hook",
        "args": ["nvidia-cdi-hook", command, *arguments],
        "env": ["NVIDIA_CTK_DEBUG=false"],
    }


def write_hooks(directory: Path, count: int) -> None:
    """Fill a directory with hook definitions, each with patterns for annotations and command.

    Of the patterns for an annotation's key and value and for the command, half are such as only
    an engine for regular expressions can answer; one definition fits HOOKED and COMMAND.
    """
    directory.mkdir(mode=0o755, parents=True)
    for number in range(count):
        value = "^true$" if number % 2 else "^(true|yes|on|1)$"
        definition = {
            "version": "1.0.0",
            "hook": {"path": "/bin/true", "args": ["true", str(number)], "timeout": 5},
            "when": {
                "annotations": {rf"^feature{number}\.example\.com/(enabled|on)$": value},
                "commands": [rf"^/usr/(local/)?bin/server-{number}$"],
            },
            "stages": ["createRuntime"],
        }
        (directory / f"{number:04}.json").write_text(json.dumps(definition))
