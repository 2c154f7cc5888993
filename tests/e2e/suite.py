"""The suite as a process beside a runtime: killed, started again, and asked how it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nri_inject.service.health.status import ask_all

from .daemon import Daemon
from .plugin import External
from .poll import until

FUSE = {"devices.noderesource.dev/pod": "- path: /dev/fuse"}


class Suite:
    """The suite as a service beside the runtime: killed, started again, and asked how it is."""

    def __init__(self, runtime: Daemon, place: Path) -> None:
        self.runtime = runtime
        self.config = place / "config.yaml"
        self.hooks = place / "hooks.d"
        self.audit = place / "audit.jsonl"
        self._place = place
        self._starts = 0
        self.hooks.mkdir()
        self.configure(allowed=True)

    def configure(self, *, allowed: bool, on_no_answer: str = "fail", more: str = "") -> None:
        """Write the configuration; `more` are further lines of it."""
        rule = "{who: {}, allow: {devices: [/dev/fuse]}}"
        self.config.write_text(
            f"policy: {{rules: [{rule if allowed else ''}]}}\n"
            f"audit: {{file: {self.audit}}}\non_no_answer: {on_no_answer}\n{more}"
        )

    def start(self, *more: str) -> None:
        self._starts += 1
        log = self._place / f"{self._starts}.log"
        options = ("--unsafe-files", "--config", str(self.config), "--hooks-dir", str(self.hooks))
        self.process = External("nri-inject run", self.runtime, log, *options, *more)

    def kill(self) -> None:
        self.process.kill()

    def status(self) -> dict[str, Any]:
        """Return the status of the process that runs, when it has compared everything."""

        def said() -> Any:
            answer = ask_all(os.environ["NRI_INJECT_STATUS_DIR"])
            ours = answer.get(f"20-nri-inject.{self.process.process.pid}")
            return ours if ours and ours["to_compare"] == 0 else None

        document: dict[str, Any] = until(said, "the status")
        return document

    def found(self, what: str) -> list[dict[str, Any]]:
        containers: list[dict[str, Any]] = self.status()[what]["containers"]
        return containers

    def define_hook(self, name: str, program: str) -> None:
        """Put a hook file for every container in place, as an installer does."""
        document = {
            "version": "1.0.0",
            "hook": {"path": program},
            "when": {"always": True},
            "stages": ["poststop"],
        }
        new = self.hooks / f"{name}.new"
        new.write_text(json.dumps(document))
        new.rename(self.hooks / f"{name}.json")


def has_fuse(suite: Suite, container: str) -> bool:
    return suite.runtime.cri.exec(container, "ls", "/dev/fuse").exit_code == 0
