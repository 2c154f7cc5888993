"""What a service knows of its node, and when it looks again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from nri_inject.api import ConfigureRequest
from nri_inject.service.base import Options
from nri_inject.service.config import Config, NodeFile
from nri_inject.service.environment import ConfigFile, Environment


def test_a_configuration_is_read_again_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("policy: unrestricted\n")
    seen: list[str] = []
    with closing(ConfigFile(str(file), lambda: seen.append(file.read_text()))) as watched:
        with file.open(
            "w"
        ) as half:  # which cuts it off: an empty configuration would be a good one
            watched.ready()
            half.write("policy: {rules: []}\n")
            half.flush()
            watched.ready()
        watched.ready()
        watched.ready()
    assert seen == ["policy: {rules: []}\n"]


def test_a_faulty_policy_is_a_fault_of_the_service_until_it_is_mended(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: []\n")
    configured = Config(policy=NodeFile(str(policy)), unsafe_files=True)
    environment = Environment((), Options(idx="20", name="a"), configured)
    with closing(environment):
        environment.configure(ConfigureRequest())
        assert environment.fault == ""
        policy.write_text("rules: []\n- {}\n")
        environment.policy()
        assert environment.fault.startswith(f"{policy}: line 2, column 1: ")
        policy.write_text("rules: []\n")
        environment.policy()
        assert environment.fault == ""
