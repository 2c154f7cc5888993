"""What a service knows of its node, and when it looks again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from nri_inject.service.environment import ConfigFile


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
