"""Rules that name devices by what they are, held against this machine's own devices."""

from __future__ import annotations

import dataclasses

import pytest

from nri_inject import api
from nri_inject.errors import RequestError
from nri_inject.host.devices import inventory
from nri_inject.injectors.host import real_host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit

HOST = dataclasses.replace(real_host(), inventory=inventory.read)
POD = api.Pod(namespace="ci", name="web")
MAIN = api.Container(id="c", name="main")
NULL = api.LinuxDevice(path="/dev/null", type="c", major=1, minor=3)


def granted(rules: str, *devices: api.LinuxDevice) -> list[str]:
    """Return the paths of the devices that a policy grants; RequestError for any that is not."""
    asked = api.Adjustment(linux=api.LinuxContainerAdjustment(devices=devices))
    permit = Permit(document.read(f"rules: [{rules}]", "policy"), POD, MAIN, "10-device-injector")
    return [device.path for device in permit.filter(asked, HOST).linux.devices]


@pytest.mark.parametrize("entry", ["'udev:SUBSYSTEM=mem'", "{device: 'udev:SUBSYSTEM=mem'}"])
def test_a_device_is_allowed_by_what_it_is(entry: str) -> None:
    assert granted(f"{{allow: {{devices: [{entry}]}}}}", NULL) == ["/dev/null"]


def test_a_device_that_is_something_else_is_not() -> None:
    with pytest.raises(RequestError, match="no rule of policy allows it"):
        granted("{allow: {devices: ['udev:SUBSYSTEM=tty']}}", NULL)


def test_a_selector_denies_under_whatever_name() -> None:
    rules = "{name: mem, deny: {devices: ['udev:SUBSYSTEM=mem']}}, {allow: {devices: ['/dev/**']}}"
    alias = api.LinuxDevice(path="/dev/harmless", type="c", major=1, minor=3)
    for device in (NULL, alias):
        with pytest.raises(RequestError, match="rule 'mem' of policy denies it"):
            granted(rules, device)


def test_a_number_that_the_host_has_nothing_under_is_nothing_that_a_selector_means() -> None:
    nothing = api.LinuxDevice(path="/dev/nothing", type="c", major=4000, minor=77)
    with pytest.raises(RequestError, match="no rule of policy allows it"):
        granted("{allow: {devices: ['udev:SUBSYSTEM=*']}}", nothing)


def test_a_selector_denies_what_nobody_knows() -> None:
    unknown = api.LinuxDevice(path="/dev/nothing", type="c", major=4000, minor=77)
    rules = (
        "{name: disks, deny: {devices: ['class:block']}},"
        " {allow: {devices: [{type: c, major: 4000}]}}"
    )
    with pytest.raises(RequestError, match="rule 'disks' of policy denies it"):
        granted(rules, unknown)


def test_access_and_type_count_beside_the_selector() -> None:
    with pytest.raises(RequestError, match="its access is r, and rw is requested"):
        granted("{allow: {devices: [{device: 'udev:SUBSYSTEM=mem', access: r}]}}", NULL)
    with pytest.raises(RequestError, match="it is for type b, and the type is c"):
        granted("{allow: {devices: [{device: 'udev:SUBSYSTEM=mem', type: b}]}}", NULL)


@pytest.mark.parametrize(
    ("selector", "written"),
    [
        ("class:fuse", '["class:fuse"]'),
        ("usb:10c4:ea60", '["usb:10c4:ea60"]'),
        ("udev:ID_MODEL=a, devices: [/", None),
        ("udev:SUBSYSTEM=*", None),
    ],
)
def test_the_rule_for_a_selector_is_the_selector_unless_it_has_a_wildcard(
    selector: str, written: str | None
) -> None:
    with pytest.raises(RequestError) as caught:
        granted("{deny: {hooks: [a]}}", api.LinuxDevice(path=selector))
    _, _, rule = caught.value.faults[0].partition("; a rule that allows it: ")
    assert rule == (
        f"{{who: {{namespaces: [ci]}}, allow: {{devices: {written}}}}}" if written else ""
    )
