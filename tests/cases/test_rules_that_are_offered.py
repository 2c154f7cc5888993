"""The rule that a denied device's error offers: a name that lasts, and the rule that came near."""

from __future__ import annotations

import pytest

from nri_inject.api import Adjustment, Container, LinuxContainerAdjustment, LinuxDevice, Pod
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit

BY_ID = "/dev/serial/by-id/usb-Silicon_Labs_Sonoff_Zigbee_3.0_USB_Dongle_Plus_0001-if00-port0"
BY_PATH = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.1:1.0-port0"
KERNELS = "/dev/ttyUSB1"
NODES = {
    path: DeviceNode(path, "c", 188, 1, 0o660, 0, 20, real=KERNELS)
    for path in (KERNELS, BY_ID, BY_PATH)
}
HOST = Host(NODES, numbers={("c", 188, 1): (KERNELS, BY_PATH, BY_ID)})
OTHER = "{who: {namespaces: [home]}, allow: {devices: [/dev/null]}}"


def denied(path: str, rules: str = OTHER) -> str:
    device = LinuxDevice(path=path, type="c", major=188, minor=1)
    adjustment = Adjustment(linux=LinuxContainerAdjustment(devices=[device]))
    pod = Pod(namespace="home", name="p", labels={"app": "web"})
    policy = document.read(f"rules: [{rules}]", "p.yaml")
    permit = Permit(policy, pod, Container(name="main"), "10-x")
    with pytest.raises(RequestError) as caught:
        permit.filter(adjustment, HOST)
    (fault,) = caught.value.faults
    return fault


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        (BY_ID, BY_ID),
        (BY_PATH, f'"{BY_PATH}"'),
        ("/dev/zigbee", BY_ID),
    ],
)
def test_the_rule_names_what_outlasts_a_replug(path: str, entry: str) -> None:
    offered = denied(path).partition("; a rule that allows it: ")[2]
    assert offered.startswith("{who: {namespaces: [home]}, allow: {devices: [")
    assert entry in offered
    assert KERNELS not in offered


@pytest.mark.parametrize(
    ("who", "near"),
    [
        (
            "{namespaces: [home], pods: {matchLabels: {app: db}}}",
            "it is for pods with other labels",
        ),
        ("{namespaces: [home], containers: [side]}", "it is for other containers"),
        ("{namespaces: [home], runtime_handlers: [kata]}", "it is for another runtime handler"),
        ("{namespaces: [home], plugins: ['20-*']}", "it is for other plugins"),
    ],
)
def test_the_rule_that_came_near_is_named(who: str, near: str) -> None:
    rules = f"{{name: sticks, who: {who}, allow: {{devices: ['/dev/serial/by-id/*']}}}}, {OTHER}"
    assert f"; the nearest is rule 'sticks', but {near}" in denied(BY_ID, rules)


def test_a_rule_of_another_namespace_is_not_named() -> None:
    rules = "{name: secret, who: {namespaces: [lab]}, allow: {devices: ['/dev/serial/by-id/*']}}"
    assert "secret" not in denied(BY_ID, f"{rules}, {OTHER}")
