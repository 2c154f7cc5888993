"""A client of the Container Runtime Interface: the part of kubelet that these tests need.

The messages are made from CRI's own api.proto while the tests run; none of them is committed.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from . import image

CALL_SECONDS = 30.0
EXEC_SECONDS = 10

RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
"""One channel outlives restarts of the daemon, and finds it again without gRPC's usual pauses."""


class CriError(Exception):
    """Hold a refusal by the runtime; its text is what `kubectl describe pod` shows.

    `code` is gRPC's name of the status (such as "UNKNOWN"), `message` the runtime's own text.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"rpc error: code = {code.title().replace('_', '')} desc = {message}")
        self.code = code
        self.message = message


class ExecResult(NamedTuple):
    """What a command in a container left behind."""

    exit_code: int
    stdout: str
    stderr: str


def compile_api(proto: Path, directory: Path) -> Any:
    """Compile CRI's api.proto, with files in `directory`, and return its descriptor pool."""
    source, compiled = directory / "api.proto", directory / "api.binpb"
    source.write_text(without_gogoproto(proto.read_text()))
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={directory}"),
            *(f"--descriptor_set_out={compiled}", source),
        ],
        check=True,
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def without_gogoproto(proto: str) -> str:
    """Take out the import and the options that only the Go compiler plugin reads."""
    proto = re.sub(r'^import "[^"]*gogo\.proto";\n', "", proto, flags=re.MULTILINE)
    return re.sub(r"^option \(gogoproto\.[^;]*;\n", "", proto, flags=re.MULTILINE)


class Cri:
    """Call a runtime's CRI socket.

    Keyword arguments take the fields of CRI's messages, a nested message as a mapping and an
    enumeration by its name. Every method raises CriError when the runtime refuses.
    """

    def __init__(self, socket: Path, api: Any, cgroup_parent: str) -> None:
        # Not at the top: test modules can be collected, and skipped, where grpcio is missing.
        self._grpc: Any = importlib.import_module("grpc")
        self._channel = self._grpc.insecure_channel(f"unix://{socket}", options=RECONNECT)
        self._methods = {
            method.name: method
            for service in ("RuntimeService", "ImageService")
            for method in api.FindServiceByName(f"runtime.v1.{service}").methods
        }
        self._cgroup_parent = cgroup_parent
        self._pods: dict[str, Mapping[str, Any]] = {}

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def call(self, method: str, seconds: float = CALL_SECONDS, **fields: Any) -> Any:
        """Call any method of CRI's two services by name, and return its answer."""
        request, remote = self._stub(method)
        try:
            return remote(request(**fields), timeout=seconds, wait_for_ready=True)
        except self._grpc.RpcError as error:
            raise CriError(error.code().name, error.details()) from error

    def version(self) -> str:
        """Return the version that the runtime says it has."""
        return str(self.call("Version").runtime_version)

    def has_image(self, name: str) -> bool:
        """Tell whether the runtime can make containers from an image."""
        return bool(self.call("ImageStatus", image={"image": name}).image.id)

    def run_pod(
        self,
        name: str,
        namespace: str = "default",
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        linux: Mapping[str, Any] | None = None,
        handler: str = "",
    ) -> str:
        """Run a pod in the host's network, which needs no CNI, and return its id.

        `linux` takes the place of the fields of LinuxPodSandboxConfig that it names. `handler` is
        the runtime handler, "" for the runtime's default.
        """
        options = {"network": "NODE", "pid": "CONTAINER"}
        config = {
            "metadata": {"name": name, "namespace": namespace, "uid": str(uuid.uuid4())},
            "annotations": dict(annotations or {}),
            "labels": dict(labels or {}),
            "linux": {
                "cgroup_parent": self._cgroup_parent,
                "security_context": {"namespace_options": options},
                **(linux or {}),
            },
        }
        pod = str(self.call("RunPodSandbox", config=config, runtime_handler=handler).pod_sandbox_id)
        self._pods[pod] = config
        return pod

    def create(
        self,
        pod: str,
        name: str,
        *,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        command: Sequence[str] = image.ENTRY_COMMAND,
        run_as_user: int | None = None,
        envs: Mapping[str, str] | None = None,
        mounts: Sequence[Mapping[str, Any]] = (),
        **fields: Any,
    ) -> str:
        """Create a container in `pod`, which this client has run, and return its id.

        `fields` are further fields of ContainerConfig, such as `CDI_devices` or `devices`.
        """
        security: dict[str, Any] = {"namespace_options": {"network": "NODE", "pid": "CONTAINER"}}
        if run_as_user is not None:
            security["run_as_user"] = {"value": run_as_user}
        config = {
            "metadata": {"name": name},
            "image": {"image": image.NAME, "user_specified_image": image.NAME},
            "annotations": dict(annotations or {}),
            "labels": dict(labels or {}),
            "command": list(command),
            "envs": [{"key": key, "value": value} for key, value in (envs or {}).items()],
            "mounts": [dict(mount) for mount in mounts],
            "linux": {"security_context": security},
            **fields,
        }
        answer = self.call(
            "CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=self._pods[pod]
        )
        return str(answer.container_id)

    def start(self, container: str) -> None:
        """Start a created container."""
        self.call("StartContainer", container_id=container)

    def run(self, pod: str, name: str, **fields: Any) -> str:
        """Create a container as `create` does, start it and return its id."""
        container = self.create(pod, name, **fields)
        self.start(container)
        return container

    def exec(self, container: str, *argv: str) -> ExecResult:
        """Run a command in a running container, and wait for its end."""
        answer = self.call("ExecSync", container_id=container, cmd=argv, timeout=EXEC_SECONDS)
        return ExecResult(answer.exit_code, answer.stdout.decode(), answer.stderr.decode())

    def update(self, container: str, **linux: Any) -> None:
        """Change resources of a container; `linux` are fields of LinuxContainerResources."""
        self.call("UpdateContainerResources", container_id=container, linux=linux)

    def status(self, container: str) -> Any:
        """Return CRI's ContainerStatus message."""
        return self.call("ContainerStatus", container_id=container).status

    def details(self, container: str) -> dict[str, Any]:
        """Return what containerd tells beyond CRI: `pid` and `runtimeSpec` among others.

        The latter is the OCI specification with everything that CDI and NRI plugins added to
        it, and is there before the container starts.
        """
        answer = self.call("ContainerStatus", container_id=container, verbose=True)
        details: dict[str, Any] = json.loads(answer.info["info"])
        return details

    def list_containers(self, pod: str | None = None) -> dict[str, str]:
        """Map the ids of all containers, or of those in one pod, to the names of their states."""
        chosen = {"pod_sandbox_id": pod} if pod else {}
        answer = self.call("ListContainers", filter=chosen)
        state_names = answer.DESCRIPTOR.file.enum_types_by_name["ContainerState"].values_by_number
        return {entry.id: state_names[entry.state].name for entry in answer.containers}

    def list_pods(self) -> list[str]:
        """Return the ids of all pods."""
        return [entry.id for entry in self.call("ListPodSandbox").items]

    def stop(self, container: str, grace_seconds: int = 0) -> None:
        """Stop a container; without grace, because its sleep ignores SIGTERM as process 1."""
        self.call("StopContainer", container_id=container, timeout=grace_seconds)

    def remove_container(self, container: str) -> None:
        """Remove a container, running or not."""
        self.call("RemoveContainer", container_id=container)

    def stop_pod(self, pod: str) -> None:
        """Stop a pod and its containers."""
        self.call("StopPodSandbox", pod_sandbox_id=pod)

    def remove_pod(self, pod: str) -> None:
        """Remove a pod and its containers, running or not."""
        # CRI-O would give them the whole time of the call to end by themselves.
        for container in self.list_containers(pod):
            self.stop(container)
        self.stop_pod(pod)
        self.call("RemovePodSandbox", pod_sandbox_id=pod)
        self._pods.pop(pod, None)

    def remove_all(self) -> None:
        """Remove whatever pods there are."""
        for pod in self.list_pods():
            self.remove_pod(pod)

    def _stub(self, method: str) -> tuple[Any, Any]:
        """Return the class of a method's request, and what calls the method."""
        descriptor = self._methods[method]
        request = message_factory.GetMessageClass(descriptor.input_type)
        answer = message_factory.GetMessageClass(descriptor.output_type)
        remote = self._channel.unary_unary(
            f"/{descriptor.containing_service.full_name}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return request, remote
