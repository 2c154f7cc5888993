"""Specs as nvidia-ctk, amd-ctk and Intel write them, in real containers, with stand-in nodes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support import vendors

from .cri import CriError
from .daemon import Daemon
from .plugin import External

KEY = "cdi-devices.noderesource.dev"
START = f"#!{sys.executable}\nfrom nri_inject.plugins.cdi_injector import main\nmain()\n"


@pytest.fixture
def plugin(runtime: Daemon, tmp_path: Path) -> Iterator[External]:
    """Start the injector with the default configuration, and the specs of three vendors."""
    program = tmp_path / "nri-cdi-injector"
    program.write_text(START)
    program.chmod(0o755)
    hook = tmp_path / "nvidia-cdi-hook"
    hook.write_text(f'#!/bin/sh\ncat > /dev/null\necho "$NVIDIA_CTK_DEBUG" > {tmp_path}/ran\n')
    hook.chmod(0o755)
    (tmp_path / "libcuda.so").write_text("cuda")
    (tmp_path / "card").symlink_to("/dev/full")
    cdi = tmp_path / "cdi"
    cdi.mkdir()
    nvidia = vendors.nvidia("/dev/full", str(tmp_path / "libcuda.so"), str(hook))
    (cdi / "nvidia.yaml").write_text(json.dumps(nvidia))
    (cdi / "amd.json").write_text(json.dumps(vendors.amd("/dev/zero", "/dev/full")))
    intel = vendors.intel("/dev/full", "/dev/zero", str(tmp_path / "card"))
    (cdi / "intel.com-gpu.yaml").write_text(json.dumps(intel))
    options = ("--cdi-dir", str(cdi), "--policy", "unrestricted")
    started = External(str(program), runtime, tmp_path / "plugin.log", *options)
    with closing(started):
        yield started


def tells_user(runtime: Daemon) -> bool:
    kind = runtime.kind
    needed = (0, 12, 0) if kind.name == "containerd" else (0, 11, 0)
    return kind.nri >= needed


def shown(runtime: Daemon, name: str, script: str, user: int) -> str:
    pod = runtime.cri.run_pod("gpu", annotations={KEY: json.dumps([name])})
    container = runtime.cri.run(pod, "main", run_as_user=user)
    result = runtime.cri.exec(container, "sh", "-c", script)
    assert result.stderr == ""
    return result.stdout


def test_nvidias_spec_with_groups_works_for_root(
    runtime: Daemon, plugin: External, tmp_path: Path
) -> None:
    script = (
        "stat -c '%a %u:%g %t:%T' /dev/nvidia0; head -c 1 /dev/nvidia0 | wc -c;"
        ' cat /usr/lib/x86_64-linux-gnu/libcuda.so.1; echo " $NVIDIA_VISIBLE_DEVICES"'
    )
    assert shown(runtime, vendors.NVIDIA, script, 0) == "660 0:44 1:7\n1\ncuda void\n"
    assert (tmp_path / "ran").read_text() == "false\n"
    warned = "additionalGids 44, 992: NRI cannot add groups to a container"
    assert (warned in plugin.log) == (not tells_user(runtime))


def test_a_user_that_lacks_the_groups_is_told_where_the_runtime_tells_the_user(
    runtime: Daemon, plugin: External
) -> None:
    if not tells_user(runtime):
        assert shown(runtime, vendors.NVIDIA, "id -G", 1000) != ""
        assert "one that is not root lacks them, unless its pod has them" in plugin.log
        return
    with pytest.raises(CriError) as caught:
        shown(runtime, vendors.NVIDIA, "id", 1000)
    told = str(caught.value)
    assert f"CDI device '{vendors.NVIDIA}' of " in told
    assert "add supplementalGroups: [44, 992] to the pod's securityContext" in told


@pytest.mark.usefixtures("plugin")
def test_amds_spec(runtime: Daemon) -> None:
    script = "stat -c '%n %a %g %t:%T' /dev/dri/renderD128 /dev/kfd"
    expected = "/dev/dri/renderD128 660 992 1:5\n/dev/kfd 660 992 1:7\n"
    assert shown(runtime, vendors.AMD, script, 0) == expected


@pytest.mark.usefixtures("plugin")
def test_intels_spec(runtime: Daemon) -> None:
    script = "cd /dev/dri; stat -c '%n %t:%T' card1 renderD129 by-path/*"
    expected = "card1 1:7\nrenderD129 1:5\nby-path/pci-0000:03:00.0-card 1:7\n"
    assert shown(runtime, vendors.INTEL, script, 0) == expected
