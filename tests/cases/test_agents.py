"""An agent whose hook must not meet its own pods, which would wait for the agent for ever."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from support.saying import CASES

from nri_inject import api
from nri_inject.errors import RequestError
from nri_inject.hooks.definition import Definition
from nri_inject.hooks.hook_file import read
from nri_inject.hooks.index import HookIndex
from nri_inject.host.hook_environment import PATH
from nri_inject.injectors.hooks import inject
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.source import PolicyFile

CASE = (CASES / "16/policy.yaml").read_text()
OTHERS = api.Pod(name="web", namespace="shop")
AGENT = api.Pod(name="p", namespace="tetragon", labels={"app": "agent"})

# Rules that people write to keep the agent's pods free of its hook.
POLICIES = [
    CASE,
    "rules: [{name: a, who: {namespaces: [tetragon]}, deny: {hooks: [agent.json]}}]",
    "rules: [{name: a, who: {namespaces: ['tetra*']}, deny: {hooks: ['*.json']}}]",
    "rules: [{name: a, who: {pods: {matchLabels: {app: agent}}}, deny: {hooks: [agent.json]}}]",
    "on_deny: fail\nrules: [{name: a, who: {namespaces: [tetragon]}, deny: {hooks: [agent.json]}}]",
    "on_deny: skip\nrules: [{name: a, who: {namespaces: [tetragon]}, deny: {hooks: [agent.json]}}]",
]
STAGES = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]


def definition(stage: str) -> Definition:
    text = json.loads((CASES / "16/agent.json").read_text()) | {"stages": [stage]}
    found = read(json.dumps(text).encode()).definition
    assert found is not None
    return dataclasses.replace(found, file="/etc/containers/oci/hooks.d/agent.json")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("stage", STAGES)
def test_the_agents_pod_starts_without_the_hook_and_others_have_it(stage: str, policy: str) -> None:
    container = api.Container(name="main", args=["sleep", "1"])
    rules = document.read(policy, "policy.yaml")
    for pod, verdict, hooks in ((AGENT, "skip", 0), (OTHERS, "allow", 1)):
        permit = Permit(rules, pod, container, "20-nri-inject")
        host = Host(devices={}, hooks=HookIndex([definition(stage)]), permit=permit)
        adjustment = inject(pod, container, host)
        added = [hook for _, stages in adjustment.hooks.ListFields() for hook in stages]
        assert [[*hook.env] for hook in added] == [[PATH]] * hooks
        assert [decision.verdict for decision in permit.decisions] == [verdict]


def test_a_policy_that_cannot_be_read_does_not_lose_the_hook(tmp_path: Path) -> None:
    """It fails the container: the admin's hook may be what keeps the node safe."""
    file = tmp_path / "policy.yaml"
    file.write_text("rules: {}")
    container = api.Container(name="main", args=["sleep", "1"])
    permit = Permit(PolicyFile(str(file)).current(), AGENT, container, "20-nri-inject")
    host = Host(devices={}, hooks=HookIndex([definition("prestart")]), permit=permit)
    with pytest.raises(RequestError, match="is not usable"):
        inject(AGENT, container, host)
