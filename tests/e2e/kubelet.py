"""The part of a kubelet that the recipes need: a Pod manifest becomes calls of CRI."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from . import image
from .daemon import Daemon

PERIOD = 100_000  # microseconds, as the kubelet has it
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}


class Kubelet:
    """Run pods on a daemon; every image is the one of the tests, which has busybox."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self._daemon = daemon
        self._place = place  # for emptyDir
        self._manifests: dict[str, Mapping[str, Any]] = {}
        self._pods: dict[str, str] = {}
        self._attempts = 0

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, str]:
        """Run a pod, and return the ids of its containers by their names."""
        metadata = manifest["metadata"]
        pod = self._daemon.cri.run_pod(
            metadata["name"],
            metadata.get("namespace", "default"),
            annotations=metadata.get("annotations"),
            labels=metadata.get("labels"),
            linux={"security_context": {"namespace_options": _namespaces()}},
            handler=manifest["spec"].get("runtimeClassName", ""),
        )
        self._pods[metadata["name"]] = pod
        self._manifests[metadata["name"]] = manifest
        return {
            container["name"]: self.start(metadata["name"], container["name"])
            for container in manifest["spec"]["containers"]
        }

    def start(self, pod: str, name: str) -> str:
        """Create and start a container of a pod, also once more, as after its end."""
        spec = self._manifests[pod]["spec"]
        container = next(one for one in spec["containers"] if one["name"] == name)
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        self._attempts += 1
        # Arguments alone are for the program of the page's image, which is not here.
        command = container.get("command", image.ENTRY_COMMAND)
        args = container.get("args", ()) if "command" in container else ()
        return self._daemon.cri.run(
            self._pods[pod],
            name,
            metadata={"name": name, "attempt": self._attempts},
            command=command,
            args=args,
            envs={entry["name"]: entry["value"] for entry in container.get("env", ())},
            mounts=[
                {
                    "container_path": mount["mountPath"],
                    "host_path": self._source(volumes[mount["name"]]),
                    "readonly": mount.get("readOnly", False),
                }
                for mount in container.get("volumeMounts", ())
            ],
            linux={
                "security_context": _security(spec, container),
                "resources": _resources(container.get("resources", {})),
            },
        )

    def _source(self, volume: Mapping[str, Any]) -> str:
        if "hostPath" in volume:
            return str(volume["hostPath"]["path"])
        directory = self._place / volume["name"]
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)
        return str(directory)


def _namespaces() -> dict[str, str]:
    return {"network": "POD", "pid": "CONTAINER"}


def _security(spec: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, Any]:
    given = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
    security: dict[str, Any] = {"namespace_options": _namespaces()}
    if "runAsUser" in given:
        security["run_as_user"] = {"value": given["runAsUser"]}
    if "runAsGroup" in given:
        security["run_as_group"] = {"value": given["runAsGroup"]}
    if "add" in given.get("capabilities", {}):
        security["capabilities"] = {"add_capabilities": given["capabilities"]["add"]}
    if "seccompProfile" in given:
        security["seccomp"] = {"profile_type": given["seccompProfile"]["type"]}
    return security


def _resources(given: Mapping[str, Any]) -> dict[str, int]:
    limits = given.get("limits", {})
    requests = {**limits, **given.get("requests", {})}
    resources: dict[str, int] = {}
    if "cpu" in requests:
        resources["cpu_shares"] = int(_cores(requests["cpu"]) * 1024)
    if "cpu" in limits:
        resources["cpu_period"] = PERIOD
        resources["cpu_quota"] = int(_cores(limits["cpu"]) * PERIOD)
    if "memory" in limits:
        text = str(limits["memory"])
        resources["memory_limit_in_bytes"] = int(text[:-2]) * UNITS[text[-2:]]
    return resources


def _cores(text: object) -> Fraction:
    number = str(text)
    return Fraction(number[:-1]) / 1000 if number.endswith("m") else Fraction(number)
