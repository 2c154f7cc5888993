"""Setting up the vectors of OCI hook files: directories, programs, and what to compare."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nri_inject import api
from nri_inject.hooks.match import HookSubject, Injection, injection

VECTORS = Path(__file__).parents[1] / "vectors/oci-hooks"
FIELDS = {
    "create_runtime": "createRuntime",
    "create_container": "createContainer",
    "start_container": "startContainer",
    "poststart": "poststart",
    "poststop": "poststop",
    "prestart": "prestart",
}


def load(group: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / f"{group}.json").read_text())
    return vectors


@dataclass(frozen=True)
class Host:
    """The directories that a vector is about; `token` is what @HOOKBIN@ stands for."""

    place: Path

    @property
    def bin(self) -> Path:
        return self.place / "bin"

    def directory(self, name: str) -> Path:
        special = {"@HOOKBIN@": "bin", "@OUTSIDE@": "outside"}
        return self.place / special.get(name, f"dirs/{name}")

    def directories(self, vector: Mapping[str, Any]) -> list[str]:
        return [str(self.directory(name)) for name in vector["dirs"]]

    def expand(self, text: str) -> str:
        return text.replace("@HOOKBIN@", str(self.bin)).replace(
            "@OUTSIDE@", str(self.place / "outside")
        )

    def expanded(self, value: Any) -> Any:
        return json.loads(self.expand(json.dumps(value)))


def set_up(place: Path, vector: Mapping[str, Any]) -> Host:
    """Make the programs and the files of a vector."""
    host = Host(place)
    (place / "outside").mkdir()
    (place / "dirs").mkdir()
    _make_programs(host.bin)
    special = vector.get("special_files", {})
    for name in {**vector["files"], **special}:
        directory = host.directory(name)
        directory.mkdir()
        for file, content in vector["files"].get(name, {}).items():
            (directory / file).write_bytes(host.expand(content).encode())
        for file, what in special.get(name, {}).items():
            _make_special(directory / file, what, host)
    return host


def _make_programs(directory: Path) -> None:
    directory.mkdir()
    programs = [*(f"hook{number}" for number in range(1, 10)), "plain", "open"]
    modes = {"plain": 0o644, "open": 0o777}
    for name in programs:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(modes.get(name, 0o755))
    (directory / "subdir").mkdir()
    for name, target in (("link", "hook1"), ("dangling", "no-such-file"), ("loop", "loop")):
        (directory / name).symlink_to(target)


def _make_special(path: Path, what: Mapping[str, str], host: Host) -> None:
    if what["type"] == "symlink":
        path.symlink_to(host.expand(what["target"]))
    elif what["type"] == "directory":
        path.mkdir()
    else:
        content = base64.b64decode(what["base64"])
        path.write_bytes(content.replace(b"@HOOKBIN@", os.fsencode(host.bin)))


def hooks_of(hooks: api.Hooks) -> dict[str, list[dict[str, Any]]]:
    """Write hooks as the vectors do."""
    return {FIELDS[field.name]: listed(value) for field, value in hooks.ListFields()}


def listed(hooks: Iterable[api.Hook]) -> list[dict[str, Any]]:
    return [
        {
            "path": hook.path,
            "args": list(hook.args),
            "env": list(hook.env),
            "timeout": hook.timeout.value if hook.HasField("timeout") else None,
        }
        for hook in hooks
    ]


def injected(result: Injection) -> dict[str, Any]:
    return {
        "hooks": hooks_of(result.hooks),
        "matched": [Path(match.definition.file).name for match in result.matched],
    }


__all__ = ["HookSubject", "Host", "hooks_of", "injected", "injection", "load", "set_up"]
