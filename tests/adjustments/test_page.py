"""The page for authors names each function, and its example makes this adjustment."""

from __future__ import annotations

import re
from typing import Any

from support.pages import ROOT, blocks

from nri_inject import adjustments, api
from nri_inject.api import Adjustment

PAGE = ROOT / "docs/write-a-plugin.md"


def test_the_table_names_each_function_once() -> None:
    rows = re.findall(r"^\| (`[as].*?) \|", PAGE.read_text(), re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`((?:add|set|remove)_\w+)`", row)]
    assert sorted(named) == [name for name in adjustments.__all__ if name.islower()]


def test_the_example_gives_a_container_this() -> None:
    (block,) = (block for block in blocks(PAGE) if "def give(" in block.text)
    scope: dict[str, Any] = {"Adjustment": Adjustment}
    exec(block.text, scope)  # it is our own page
    made = Adjustment()
    scope["give"](made)
    (device,) = made.linux.devices
    assert (device.path, device.type, device.major, device.minor) == ("/dev/nothing", "c", 1, 3)
    made.linux.ClearField("devices")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    program = "/usr/local/libexec/note-stop"
    hook = api.Hook(path=program, args=[program], env=[path], timeout=api.OptionalInt(value=5))
    assert made == Adjustment(
        mounts=[
            {
                "source": "/srv/models",
                "destination": "/models",
                "type": "bind",
                "options": ["rbind", "ro"],
            }
        ],
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}],
        hooks=api.Hooks(poststop=[hook]),
        linux=api.LinuxContainerAdjustment(
            resources={"memory": {"limit": {"value": 512 * 1024 * 1024}}}
        ),
    )
