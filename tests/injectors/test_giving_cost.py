"""The cost of giving: that of the rules for this container, however many the policy has."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.counting import lines_of

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.host.model import DeviceNode
from nri_inject.injectors import device
from nri_inject.injectors.device.giving import GIVERS
from nri_inject.injectors.giving import giving, read_gifts
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Policy
from nri_inject.text.budget import Budget, OverBudget

FUSE = DeviceNode("/dev/fuse", "c", 10, 229, 0o600, 0, 0, real="/dev/fuse")
HOST = Host({"/dev/fuse": FUSE}, numbers={("c", 10, 229): ("/dev/fuse",)})
INJECT = giving(device.inject, GIVERS)
MAIN = Container(name="main")
POD = Pod(namespace="n1000", labels={"app": "a1000"}, annotations={"example.com/a": "b"})
OTHER = Pod(namespace="x", labels={"app": "x"}, annotations={"example.com/a": "b"})
WHO = ["namespaces: [n%d]", "any_namespace: true, pods: {matchLabels: {app: a%d}}"]


def policy_of(count: int, who: str) -> Policy:
    rules = (
        f"{{who: {{{who % n}}}, give: {{devices: [/dev/fuse]}}}}" for n in range(1000, 1000 + count)
    )
    return document.read(f"rules: [{', '.join(rules)}]", "policy", read_gifts)


def cost(policy: Policy, pod: Pod) -> int:
    """Return how many lines of Python a request takes, after one that fills the caches."""

    def request() -> Adjustment:
        host = replace(HOST, permit=Permit(policy, pod, MAIN, "10-device-injector"))
        return INJECT(pod, MAIN, host)

    request()
    return lines_of(request)


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
def test_a_thousand_giving_rules_cost_what_one_costs(who: str) -> None:
    one, many = cost(policy_of(1, who), POD), cost(policy_of(1000, who), POD)
    assert many <= 1.01 * one


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
def test_a_container_that_gets_nothing_pays_a_few_lines(who: str) -> None:
    without = document.read("rules: [{allow: {devices: [/dev/null]}}]", "policy")
    assert cost(policy_of(1000, who), OTHER) - cost(without, OTHER) < 60


def test_more_gifts_than_the_budget_has_steps_for_fail_the_container() -> None:
    policy = policy_of(1, "namespaces: [n%d]")
    budget = Budget(lambda: "pod n1000/p", steps=50)
    permit = Permit(policy, POD, MAIN, "10-device-injector", budget)
    with pytest.raises(OverBudget, match="giving it what rules give takes more than 50 steps"):
        INJECT(POD, MAIN, replace(HOST, permit=permit, budget=budget))
