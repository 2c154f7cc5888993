"""Policies that can never match: patterns of what cannot exist, and rules that never decide."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from support.trying import NO_NODE

from nri_inject.cli.policy import command
from nri_inject.errors import ConfigError
from nri_inject.policy import document, never

WHO = {
    "namespaces: [ci/*]": "'ci/*' matches nothing: the name of a namespace has no '/'",
    "namespaces: ['app=web']": "'app=web' matches nothing: the name of a namespace has no '='",
    "namespaces: [CI]": (
        "'CI' matches nothing: the name of a namespace has small letters; write ci"
    ),
    "containers: [container.main]": (
        "'container.main' is the end of an annotation's key; write main"
    ),
    "containers: [ci/web]": "'ci/web' matches nothing: the name of a container has no '/'",
    "runtime_handlers: [io.x/y]": (
        "'io.x/y' matches nothing: the name of a runtime handler has no '/'"
    ),
    "plugins: [device-injector]": (
        "'device-injector' matches nothing: a plugin is called NN-name; write '*-device-injector'"
    ),
}
WHAT = {
    "devices: ['/dev/ttyUSB0:/dev/zigbee:rwm']": (
        "'/dev/ttyUSB0:/dev/zigbee:rwm' is how docker writes a device; write /dev/ttyUSB0"
    ),
    "devices: ['/dev/null:rw']": "'/dev/null:rw' is how docker writes a device; write /dev/null",
    "devices: [nvidia.com/gpu=all]": (
        "'nvidia.com/gpu=all' is the name of a CDI device; write it under cdi_devices"
    ),
    "devices: [/dev/dri/]": (
        "'/dev/dri/' matches nothing: a device is no directory; write /dev/dri/*"
    ),
    "cdi_devices: [nvidia.com/gpu]": (
        "'nvidia.com/gpu' matches nothing: it is a kind; write 'nvidia.com/gpu=*'"
    ),
    "cdi_devices: ['*']": "'*' matches nothing: a name is vendor/class=device; write '*/*=*'",
    "cdi_devices: [gpu0]": (
        "'gpu0' matches nothing: a name is vendor/class=device; write vendor.com/class=name"
    ),
    "cdi_devices: [/dev/fuse]": "'/dev/fuse' is a path; write it under devices",
    "network_devices: [/sys/class/net/eth0]": (
        "'/sys/class/net/eth0' matches nothing: an interface's name has no slash"
    ),
}


def fault(rule: str) -> str:
    with pytest.raises(ConfigError) as caught:
        document.read(f"rules: [{rule}]", "p.yaml")
    return str(caught.value)


@pytest.mark.parametrize("who", WHO)
def test_who_nobody_can_be_is_a_fault(who: str) -> None:
    assert fault(f"{{who: {{{who}}}, deny: {{devices: [/dev/a]}}}}").endswith(f": {WHO[who]}")


@pytest.mark.parametrize("what", WHAT)
def test_what_nothing_can_be_is_a_fault(what: str) -> None:
    assert fault(f"{{allow: {{{what}}}}}").endswith(f": {WHAT[what]}")


@pytest.mark.parametrize(
    "rule",
    [
        "{who: {namespaces: [ci, 'team-*', '[a-z]*', kube-system]}, allow: {devices: [/dev/a]}}",
        "{who: {plugins: ['10-x', '*-x', '1?-x', '*', '[0-9]*']}, allow: {devices: [/dev/a]}}",
        "{who: {runtime_handlers: [kata-qemu, runc, '']}, allow: {devices: [/dev/a]}}",
        "{allow: {devices: ['/dev/serial/by-path/pci-0000:00:14.0-usb-0:1.1:1.0-port0']}}",
        "{allow: {devices: ['/dev/**', 'class:video', 'usb:1a86:7523', '/dev/tty[A-Z]*']}}",
        "{allow: {cdi_devices: ['nvidia.com/gpu=*', '*/*', '**', 'v.com/*=0', 'v.com/g?u=1']}}",
        "{allow: {network_devices: [eth0, 'ens*', '*']}}",
    ],
)
def test_what_can_be_is_taken(rule: str) -> None:
    rule = rule.replace(", ''", "")
    assert document.read(f"rules: [{rule}]", "p.yaml").rules


WARNED = {
    "{allow: {devices: [/dev/sda]}}": (
        "rule '#1': /dev/sda is a disk, and the rule is for character devices; write"
        " {path: /dev/sda, type: b}"
    ),
    "{allow: {devices: ['/dev/nvme0n1']}}": "is a disk",
    "{name: a, allow: {devices: ['/**']}}, {name: b, allow: {devices: [/dev/x]}}": (
        "rule 'b': devices: /dev/x never decides, since rule 'a' comes first"
    ),
    "{name: a, deny: {devices: [/dev/x]}}, {name: b, who: {namespaces: [c]}, allow:"
    " {devices: [/dev/x]}}": "rule 'b': devices: /dev/x never decides, since rule 'a' comes first",
}


@pytest.mark.parametrize("rules", WARNED)
def test_a_rule_that_never_decides_is_warned_of(rules: str) -> None:
    (warning,) = never.warnings(document.read(f"rules: [{rules}]", "p.yaml"))
    assert WARNED[rules] in warning


@pytest.mark.parametrize(
    "rules",
    [
        "{who: {namespaces: [a]}, deny: {devices: [/dev/x]}}, {allow: {devices: [/dev/x]}}",
        "{allow: {devices: [/dev/x]}}, {allow: {devices: [{path: /dev/x, access: rwm}]}}",
        "{allow: {devices: [{path: /dev/sda, type: b}]}}",
    ],
)
def test_a_rule_that_decides_is_not(rules: str) -> None:
    assert [*never.warnings(document.read(f"rules: [{rules}]", "p.yaml"))] == []


def test_policy_check_warns(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: [{allow: {devices: [/dev/sda]}}]")
    words = ["check", *NO_NODE, "--unsafe-files", "--policy", str(policy)]
    result = CliRunner().invoke(command, words)
    assert result.stderr.startswith(f"Warning: {policy}: rule '#1': /dev/sda is a disk")


words = st.from_regex("[a-z][a-z0-9-]{0,8}", fullmatch=True)


@given(words, words, words)
def test_whatever_can_be_asked_for_can_be_in_a_rule(one: str, two: str, three: str) -> None:
    text = (
        f"rules: [{{who: {{namespaces: [{one!r}], containers: [{two!r}]}}, allow:"
        f" {{devices: ['/dev/{one}'], cdi_devices: ['{one}.com/{two}=a{three}']}}}}]"
    )
    assert document.read(text, "p.yaml").rules
