"""Hooks without `env`: the program gets root's PATH, and the validators warn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.saying import CASES, said

from nri_inject import api
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cdi.resolve import resolve
from nri_inject.hooks.registry import HookRegistry
from nri_inject.host.hook_environment import PATH
from nri_inject.injectors.hooks import inject
from nri_inject.injectors.host import Host

STAGES = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
WRITTEN: list[dict[str, Any]] = [{}, {"env": []}, {"env": None}]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("env", WRITTEN, ids=str)
def test_a_hook_file_without_env(env: dict[str, Any], stage: str, tmp_path: Path) -> None:
    text = json.loads((CASES / "01/createContainer.json").read_text())
    text["hook"] = {"path": "/bin/true", **env}
    (tmp_path / "a.json").write_text(json.dumps(text | {"stages": [stage]}))
    hooks = HookRegistry([str(tmp_path)])
    container = api.Container(name="main", args=["sh"], env=["LD_PRELOAD=./x/e.so"])
    adjustment = inject(api.Pod(name="p"), container, Host(devices={}, hooks=hooks.current()))
    hooks.close()
    added = [hook for _, stages in adjustment.hooks.ListFields() for hook in stages]
    assert [[*hook.env] for hook in added] == [[PATH]]
    status, lines = said("hooks", "validate", tmp_path / "a.json")
    assert (status, len(lines)) == (0, 1)
    assert "warning: env is empty" in lines[0]
    assert PATH in lines[0]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("env", WRITTEN[:2], ids=str)
@pytest.mark.parametrize("place", ["device", "spec"])
def test_a_spec_with_a_hook_without_env(
    place: str, env: dict[str, Any], stage: str, tmp_path: Path
) -> None:
    edits = {"hooks": [{"hookName": stage, "path": "/bin/true", **env}]}
    device = {"name": "a", "containerEdits": edits if place == "device" else {"env": ["A=1"]}}
    spec: dict[str, Any] = {"cdiVersion": "0.5.0", "kind": "acme.com/hk", "devices": [device]}
    if place == "spec":
        spec["containerEdits"] = edits
    (tmp_path / "a.json").write_text(json.dumps(spec))
    snapshot = CdiRegistry([str(tmp_path)], watched=False).current()
    adjustment = resolve(["acme.com/hk=a"], snapshot, {}).adjust
    added = [hook for _, stages in adjustment.hooks.ListFields() for hook in stages]
    assert [[*hook.env] for hook in added] == [[PATH]]
    status, lines = said("cdi", "validate", tmp_path / "a.json")
    assert (status, len(lines)) == (0, 1)
    assert "the hook has no env" in lines[0]
    assert PATH in lines[0]
