"""What an attacker tries, and what holds it off; docs/security.md has the table.

Where it matters what a path is, the host is the real one, with /dev/null allowed or /dev/full
denied: everybody has those, and it takes no privilege to link to them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from support.attacking import (
    CONTAINER,
    IS_DENIED,
    NULL_ALLOWED,
    device,
    permit,
    refusal,
    refused,
)

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi import registry
from nri_inject.errors import RequestError
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.host.nodes import Remembered
from nri_inject.injectors import cdi
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host, real_host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit

# --- sysctls and names --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kernel/shm_rmid_forced", "/kernel/shm_rmid_forced"])
def test_a_denied_sysctl_with_slashes(name: str) -> None:
    rules = "{name: never, deny: {sysctl: ['kernel.*']}}, {allow: {sysctl: ['**']}}"
    assert refusal("sysctl", f"{{{name}: '1'}}", rules).endswith(IS_DENIED)


@pytest.mark.parametrize(
    "name",
    [
        "net.ipv4.ip_forward",
        "net.ipv4.conf.all.forwarding",
        "net.ipv4.conf.default.forwarding",
        "net.ipv4.conf.eth0.forwarding",
        "net/ipv4/conf/all/forwarding",
        "net/ipv4/conf/eth0.100/forwarding",
    ],
)
def test_a_denied_sysctl_by_another_name_of_it(name: str) -> None:
    rules = "{name: never, deny: {sysctl: [net.ipv4.ip_forward]}}, {allow: {sysctl: ['net.*']}}"
    assert refusal("sysctl", f"{{{name}: '1'}}", rules).endswith(IS_DENIED)


def test_another_name_of_a_sysctl_is_not_allowed_with_it() -> None:
    rules = "{allow: {sysctl: [net.ipv4.ip_forward]}}"
    told = refusal("sysctl", "{net.ipv4.conf.all.forwarding: '1'}", rules)
    assert "no rule of policy allows it" in told


def test_a_sysctl_that_climbs_out_of_an_allowed_directory() -> None:
    rules = "{allow: {sysctl: ['net.*']}}"
    name = "net/../kernel/x"
    assert "is not a name that a sysctl can have" in refusal("sysctl", f"{{{name}: '1'}}", rules)
    adjustment = Adjustment(linux=api.LinuxContainerAdjustment(sysctl={name: "1"}))
    # Dots are slashes to runc, so what it writes is net//kernel/x, which is below net.
    assert permit(rules).filter(adjustment, real_host()) is adjustment


def test_names_that_write_lines_or_move_the_cursor() -> None:
    told = refused(device("/dev/a\n2026 all is well\x1b[2J\u202e", 7), NULL_ALLOWED)
    assert told.isprintable()
    assert r"'/dev/a\n2026 all is well\x1b[2J\u202e'" in told


# --- texts --------------------------------------------------------------------------------------

SIZE = 256 * 1024
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 20)
)
HOSTILE = {
    "256 KiB of brackets": "[" * SIZE,
    "256 KiB of maps": "{a: " * (SIZE // 4),
    "more than 256 KiB": "- {path: /dev/null}\n" * (SIZE // 19),
    "a bomb of aliases": BOMB,
    "a number of 10,000 digits": f"[{{path: /dev/null, type: c, major: {'9' * 10_000}}}]",
    "a key twice": "[{path: /dev/null, path: /dev/full}]",
    "a key twice in two letter cases": "[{path: /dev/null, PATH: /dev/full}]",
    "NUL": '[{path: "/dev/null\\0/x"}]',
    "half of a surrogate pair": '[{path: "/dev/\\ud800"}]',
    "1,001 devices": "- {path: /dev/null, type: c, major: 1}\n" * 1001,
    "257 devices to look up": "".join(f"- {{path: /dev/{n}}}\n" for n in range(257)),
    "9 searches": "".join(f"- 'usb:1a86:{n:04}'\n" for n in range(9)),
    "a path of 300 KiB by an alias": f"[&p {'/x' * 60_000}, *p, *p]",
}


class Counted(Mapping[Any, Any]):
    """A part of the host that has nothing, and how often it was asked."""

    def __init__(self) -> None:
        self.looks = 0

    def __getitem__(self, key: object) -> Any:
        self.looks += 1
        raise KeyError(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_costs_its_own_container_a_short_sentence(text: str) -> None:
    everything = "{allow: {devices: ['/**', {path: '/**', type: b}]}}"
    devices, numbers = Counted(), Counted()
    host = Host(devices, numbers=numbers)
    annotations = {
        "devices.noderesource.dev/container.main": text,
        "sysctl.noderesource.dev/container.other": "{a.b: '1'}",
    }
    pod = Pod(name="evil", namespace="ci", annotations=annotations)
    judged = permit(everything)
    with pytest.raises(RequestError) as caught:
        inject(pod, CONTAINER, dataclasses.replace(host, permit=judged))
    assert len(str(caught.value).encode()) < 2048
    assert str(caught.value).isprintable()
    assert (devices.looks, numbers.looks, judged.decisions) == (0, 0, [])

    other = Container(name="other")
    allowing = Permit(document.read("rules: [{allow: {sysctl: [a.b]}}]", "p"), pod, other, "10-x")
    left = inject(pod, other, dataclasses.replace(host, permit=allowing))
    assert left.linux.sysctl == {"a.b": "1"}


@pytest.mark.parametrize(("count", "looks"), [(512, 512), (513, 0), (1000, 0)])
def test_thousands_of_devices_take_a_look_each_up_to_512_and_none_beyond(
    count: int, looks: int
) -> None:
    text = "".join(f"- {{path: /dev/x{n}, type: c, major: 7, minor: {n}}}\n" for n in range(count))
    devices, numbers = Counted(), Counted()
    host = Host(Remembered(devices), numbers=Remembered(numbers))
    told = refusal("devices", text, "{allow: {devices: ['/dev/y*']}}", host)
    assert devices.looks == looks
    assert numbers.looks == looks
    assert ("more than 512 devices" in told) is (looks == 0)


EMPTY_FOR_IT = {
    "no rules": "",
    "a rule that denies": "{deny: {devices: ['/**']}}",
    "a rule for another kind": "{allow: {sysctl: ['net.*']}}",
    "a rule for another namespace": "{who: {namespaces: [lab]}, allow: {devices: ['/**']}}",
    "a rule for other labels": (
        "{who: {pods: {matchLabels: {app: x}}}, allow: {devices: ['/**'], mounts: [/]}}"
    ),
    "a rule for another container": "{who: {containers: [x]}, allow: {devices: ['/**']}}",
    "a rule for another runtime": "{who: {runtime_handlers: [x]}, allow: {devices: ['/**']}}",
    "a rule for another plugin": "{who: {plugins: [20-x]}, allow: {devices: ['/**']}}",
}


@pytest.mark.parametrize("rules", EMPTY_FOR_IT.values(), ids=EMPTY_FOR_IT)
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("devices", "[{path: /dev/SECRET}]"),
        ("devices", "[{path: /dev/none}]"),
        ("devices", "[{path: /dev/mine, type: b, major: 254, minor: 0}]"),
        ("devices", "[{path: /dev/SECRET, type: b, major: 254, minor: 0, access: r}]"),
        ("devices", "[{device: class:video}]"),
        ("devices", "[{device: 'udev:ID_SERIAL=SECRET', optional: true}]"),
        ("devices", "[{device: /dev/SECRET, links: true, optional: true}]"),
        ("mounts", "[{source: /srv/SECRET, destination: /in, type: bind}]"),
        ("mounts", "[{source: /srv/none, destination: /in, type: bind}]"),
    ],
)
def test_who_may_have_nothing_learns_nothing_by_asking(rules: str, kind: str, text: str) -> None:
    """The error is the same on a host that has all of it, and on one that has nothing."""
    disk = DeviceNode("/dev/SECRET", "b", 254, 0, 0o660, 0, 6, "/dev/vda")
    full = Host(
        {disk.path: disk},
        numbers={disk.number: ("/dev/vda", "/dev/SECRET")},
        files={"/srv/SECRET": HostPath("/etc")},
        inventory=lambda: pytest.fail("it looked at the host's devices"),
    )
    told = refusal(kind, text, rules, full)
    assert told == refusal(kind, text, rules, Host({}, numbers={}, files={}))
    assert "vda" not in told
    assert "254" not in told


def test_what_another_plugin_found_out_is_not_in_the_error() -> None:
    told = refused(device("/dev/x", 0, major=254, kind="b"), "")
    assert told.startswith("device '/dev/x': no rule of policy allows it; a rule that allows it:")
    assert told.endswith("allow: {devices: [/dev/x]}}")


SPEC = {
    "cdiVersion": "0.6.0",
    "devices": [{"name": name, "containerEdits": {"env": ["A=1"]}} for name in ("a", "b")],
}


@pytest.mark.parametrize(
    ("asked", "allowed", "hint"),
    [
        ("v.com/d=c", "v.com/d=[ac]", "known devices of v.com/d: a"),
        ("v.com/d=c", "v.com/d=c", ""),
        ("v.com/e=a", "v.com/e=a", ""),
        ("v.com/e=a", "v.com/?=a", "did you mean 'v.com/d=a'?"),
        ("other.org/thing=a", "other.org/thing=a", ""),
        ("other.org/thing=a", "*/*", "known kinds: v.com/d"),
    ],
)
def test_an_unknown_cdi_name_tells_only_of_devices_that_the_container_may_have(
    asked: str, allowed: str, hint: str
) -> None:
    text = json.dumps({**SPEC, "kind": "v.com/d"}).encode()
    snapshot = registry.snapshot(["/etc/cdi"], [registry.read("/etc/cdi/a.json", "/etc/cdi", text)])
    pod = Pod(
        name="evil", namespace="ci", annotations={"cdi-devices.noderesource.dev": f"[{asked}]"}
    )
    host = Host({}, cdi=snapshot, permit=permit(f"{{allow: {{cdi_devices: ['{allowed}']}}}}"))
    with pytest.raises(RequestError) as caught:
        cdi.inject(pod, CONTAINER, host)
    (told,) = caught.value.faults
    assert told == f"no CDI device '{asked}'" + (f"; {hint}" if hint else "")


def test_who_may_have_nothing_makes_nobody_look() -> None:
    devices, files = Counted(), Counted()
    host = Host(devices, files=files)
    refusal("devices", "[{path: /dev/null}, {path: /home/bob/x}]", "", host)
    refusal("mounts", "[{source: /net/far, destination: /in, type: bind}]", "", host)
    assert (devices.looks, files.looks) == (0, 0)


def test_a_nul_in_the_name_of_a_device_or_sysctl() -> None:
    rules = "{allow: {devices: ['/**'], sysctl: ['**']}}"
    assert refused(device("/dev/null\0x", 3), rules).endswith("its path contains a NUL")
    named = Adjustment(linux=api.LinuxContainerAdjustment(sysctl={"net.core.x\0y": "1"}))
    assert refused(named, rules).endswith("it contains a NUL")
