"""Configuration and policy as the kubelet mounts a ConfigMap, swapped as a whole."""

from __future__ import annotations

from pathlib import Path


class ConfigMap:
    """Both files lead through the link `..data`, which each version replaces.

    `on_fault` is that of the policy.
    """

    def __init__(self, where: Path, on_fault: str) -> None:
        where.mkdir(mode=0o755)
        self.config = where / "config.yaml"
        self.policy = where / "policy.yaml"
        self.on_fault = on_fault
        self._where = where
        self._version = 0
        for file in (self.config, self.policy):
            file.symlink_to(f"..data/{file.name}")

    @property
    def text(self) -> str:
        """The configuration that names the policy."""
        return f"policy: {{file: {self.policy}, on_fault: {self.on_fault}}}\n"

    def swap(self, policy: str) -> None:
        """Put a new version of both files in the place of the one before."""
        self._version += 1
        version = self._where / f"..{self._version}"
        version.mkdir(mode=0o755)
        (version / self.policy.name).write_text(policy)
        (version / self.config.name).write_text(f"{self.text}# version {self._version}\n")
        (self._where / "..data_tmp").symlink_to(version.name)
        (self._where / "..data_tmp").rename(self._where / "..data")
