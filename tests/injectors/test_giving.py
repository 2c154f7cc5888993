"""What rules give a container, beside what its pod requests and the policy denies."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from dataclasses import replace

import pytest
from support.resolving import known

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.hooks.definition import Definition, When
from nri_inject.hooks.match import Choices
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.injectors import cdi, device, hooks
from nri_inject.injectors.compose import compose
from nri_inject.injectors.device.giving import GIVERS
from nri_inject.injectors.giving import giving, read_gifts
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit


def node(path: str, kind: str, major: int, minor: int) -> DeviceNode:
    return DeviceNode(path, kind, major, minor, 0o600, 0, 0, real=path)  # type: ignore[arg-type]  # c or b


FUSE, KVM = node("/dev/fuse", "c", 10, 229), node("/dev/kvm", "c", 10, 232)
HOST = Host(
    {"/dev/fuse": FUSE, "/dev/kvm": KVM},
    numbers={("c", 10, 229): ("/dev/fuse",), ("c", 10, 232): ("/dev/kvm",)},
    files={"/srv/a": HostPath("/srv/a"), "/srv/link": HostPath("/etc")},
)
POD = Pod(namespace="ci", name="build-1", labels={"app": "web"})
MAIN = Container(name="main")
INJECT = giving(
    compose(device.inject, cdi.inject, hooks.inject),
    {**GIVERS, "cdi_devices": cdi.make_giver(), "hooks": hooks.giver(Choices())},
)


def host_of(rules: str, pod: Pod = POD, container: Container = MAIN, host: Host = HOST) -> Host:
    policy = document.read(textwrap.dedent(rules), "policy", read_gifts)
    return replace(host, permit=Permit(policy, pod, container, "10-device-injector"))


def given(rules: str, pod: Pod = POD, container: Container = MAIN, host: Host = HOST) -> Adjustment:
    return INJECT(pod, container, host_of(rules, pod, container, host))


def decisions(
    rules: str, pod: Pod = POD, container: Container = MAIN, host: Host = HOST
) -> list[tuple[str, str | None, str]]:
    prepared = host_of(rules, pod, container, host)
    INJECT(pod, container, prepared)
    assert prepared.permit is not None
    return [(one.verdict, one.rule, one.reason) for one in prepared.permit.decisions]


def paths(adjustment: Adjustment) -> list[str]:
    return [one.path for one in adjustment.linux.devices]


def asking(**annotations: str) -> Pod:
    pod = Pod()
    pod.CopyFrom(POD)
    for kind, text in annotations.items():
        pod.annotations[f"{kind.replace('_', '-')}.noderesource.dev"] = text
    return pod


GIVES_FUSE = "rules: [{name: r, who: {namespaces: [ci]}, give: {devices: [/dev/fuse]}}]"


def test_a_container_gets_what_a_rule_gives_without_an_annotation() -> None:
    assert given(GIVES_FUSE) == device.inject(asking(devices="[/dev/fuse]"), MAIN, HOST)
    assert decisions(GIVES_FUSE) == [("allow", "r", "given, not requested")]


def test_other_containers_get_nothing() -> None:
    assert given(GIVES_FUSE, Pod(namespace="prod")) == Adjustment()


def test_all_kinds_are_given_in_the_words_of_the_annotations() -> None:
    rules = """
        rules:
          - give:
              devices: [{device: /dev/fuse, as: /dev/f, access: r}]
              mounts: [{source: /srv/a, destination: /a, type: bind, options: [bind, ro]}]
              ulimits: [{type: memlock, hard: 100, soft: 100}]
              sysctl: {net.core.somaxconn: "1024", net.ipv4.ip_forward: "1"}
              network_devices: [{hostIf: eth1, name: in}]
              scheduling_policy: {policy: SCHED_BATCH, nice: 5}
              io_priority: {class: IOPRIO_CLASS_IDLE}
              memory_policy: {mode: MPOL_LOCAL}
              env: {TZ: Europe/Berlin, LEVEL: 3}
    """
    asked = asking(
        devices="[{device: /dev/fuse, as: /dev/f, access: r}]",
        mounts="[{source: /srv/a, destination: /a, type: bind, options: [bind, ro]}]",
        ulimits="[{type: memlock, hard: 100, soft: 100}]",
        sysctl='{net.core.somaxconn: "1024", net.ipv4.ip_forward: "1"}',
        network_devices="[{hostIf: eth1, name: in}]",
        scheduling_policy="{policy: SCHED_BATCH, nice: 5}",
        io_priority="{class: IOPRIO_CLASS_IDLE}",
        memory_policy="{mode: MPOL_LOCAL}",
    )
    expected = device.inject(asked, MAIN, HOST)
    expected.env.add(key="TZ", value="Europe/Berlin")
    expected.env.add(key="LEVEL", value="3")
    assert given(rules) == expected


# --- deny, refusal, give --------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_deny_beats_a_gift_wherever_it_stands(order: list[int]) -> None:
    both = [
        "{name: r, give: {devices: [/dev/fuse, /dev/kvm]}}",
        "{name: stop, deny: {devices: [/dev/fuse]}}",
    ]
    rules = f"rules: [{', '.join(both[index] for index in order)}]"
    assert paths(given(rules)) == ["/dev/kvm"]
    assert decisions(rules) == [
        ("skip", "stop", "rule 'stop' of policy denies it"),
        ("allow", "r", "given, not requested"),
    ]


def test_a_gift_needs_no_allow_and_an_allow_before_a_deny_is_for_gifts_too() -> None:
    rules = """
        rules:
          - allow: {devices: [/dev/fuse]}
          - deny: {devices: [/dev/**]}
          - {name: r, give: {devices: [/dev/fuse]}}
    """
    assert paths(given(rules)) == ["/dev/fuse"]


@pytest.mark.parametrize("text", ["all", "[devices]", "[mounts, devices]"])
def test_a_pod_refuses_all_or_some_kinds(text: str) -> None:
    pod = asking(refuse=text)
    assert given(GIVES_FUSE, pod) == Adjustment()
    reason = "the pod refuses it (annotation refuse.noderesource.dev); given, not requested"
    assert decisions(GIVES_FUSE, pod) == [("skip", "r", reason)]


def test_a_refusal_of_another_kind_or_for_another_container_changes_nothing() -> None:
    assert paths(given(GIVES_FUSE, asking(refuse="[mounts]"))) == ["/dev/fuse"]
    pod = asking()
    pod.annotations["refuse.noderesource.dev/container.other"] = "all"
    assert paths(given(GIVES_FUSE, pod)) == ["/dev/fuse"]


def test_a_deny_beats_a_refusal() -> None:
    rules = "rules: [{deny: {devices: [/dev/fuse]}}, {give: {devices: [/dev/fuse]}}]"
    reason = "rule '#1' of policy denies it"
    assert decisions(rules, asking(refuse="all")) == [("skip", "#1", reason)]


NOT_A_KIND = (
    "item 1: 'device' must be one of devices, cdi_devices, mounts, ulimits, sysctl,"
    " network_devices, scheduling_policy, io_priority, memory_policy, hooks, env; did you mean"
    " 'devices'?"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("none", "'none' must be all or a list of kinds, such as [devices]"),
        ("[device]", NOT_A_KIND),
    ],
)
def test_a_refusal_that_cannot_be_read_fails_the_container(text: str, sentence: str) -> None:
    with pytest.raises(RequestError) as error:
        given(GIVES_FUSE, asking(refuse=text))
    assert error.value.faults == (f"annotation refuse.noderesource.dev: {sentence}",)


def test_a_refusal_with_a_wrong_end_fails_the_container() -> None:
    pod = asking()
    pod.annotations["refuse.noderesource.dev/main"] = "all"
    with pytest.raises(RequestError, match="its end must be /container"):
        given(GIVES_FUSE, pod)


# --- what is not there, and what is required ------------------------------------------------------


def test_a_device_that_is_not_there_is_left_out_and_noted() -> None:
    rules = "rules: [{name: r, give: {devices: [/dev/none, /dev/fuse]}}]"
    assert paths(given(rules)) == ["/dev/fuse"]
    assert decisions(rules)[0] == (
        "skip",
        "r",
        "'/dev/none' does not exist on the host; given, not requested",
    )


def test_an_optional_device_that_is_not_there_is_not_noted() -> None:
    rules = """
        rules: [{give: {devices: [{device: /dev/none, optional: true}]}, required: true}]
    """
    assert given(rules) == Adjustment()
    assert decisions(rules) == []


def test_a_required_device_that_is_not_there_fails_the_container() -> None:
    rules = "rules: [{name: r, give: {devices: [/dev/none]}, required: true}]"
    with pytest.raises(RequestError) as error:
        given(rules, asking(refuse="all"))
    assert error.value.faults == (
        "device /dev/none: '/dev/none' does not exist on the host; rule 'r' requires it",
    )
    assert error.value.where == "pod ci/build-1, container main"
    assert not error.value.denied


def test_a_pod_cannot_refuse_what_is_required() -> None:
    rules = "rules: [{name: r, give: {devices: [/dev/fuse]}, required: true}]"
    assert paths(given(rules, asking(refuse="all"))) == ["/dev/fuse"]


def test_a_required_device_that_is_denied_fails_the_container() -> None:
    rules = """
        rules:
          - {deny: {devices: [/dev/fuse]}}
          - {name: r, give: {devices: [/dev/fuse]}, required: true}
    """
    with pytest.raises(RequestError) as error:
        given(rules)
    assert error.value.faults == (
        "device /dev/fuse: rule '#1' of policy denies it; rule 'r' requires it",
    )
    assert error.value.denied
    host = host_of(rules)
    with suppress(RequestError):
        INJECT(POD, MAIN, host)
    assert host.permit is not None
    assert [one.verdict for one in host.permit.decisions] == ["deny"]


# --- what the pod has already ---------------------------------------------------------------------

LIMIT = "rules: [{name: r, give: {ulimits: [{type: memlock, hard: 9, soft: 9}]}REQUIRED}]"
ASKED = asking(ulimits="[{type: memlock, hard: 5, soft: 5}]")
ALLOWS = "rules: [{allow: {ulimits: [memlock]}}, "


def test_what_the_pod_requests_comes_first() -> None:
    rules = LIMIT.replace("REQUIRED", "").replace("rules: [", ALLOWS)
    assert [limit.hard for limit in given(rules, ASKED).rlimits] == [5]
    assert decisions(rules, ASKED)[1] == (
        "skip",
        "r",
        "the container has another rlimits 'RLIMIT_MEMLOCK'; given, not requested",
    )


def test_what_is_required_and_in_conflict_fails_the_container() -> None:
    rules = LIMIT.replace("REQUIRED", ", required: true").replace("rules: [", ALLOWS)
    with pytest.raises(RequestError, match="the container has another rlimits"):
        given(rules, ASKED)


def test_the_same_from_pod_and_rule_is_one() -> None:
    rules = "rules: [{allow: {devices: [/dev/fuse]}, give: {devices: [/dev/fuse]}}]"
    assert paths(given(rules, asking(devices="[/dev/fuse]"))) == ["/dev/fuse"]


def test_of_two_rules_the_first_gives() -> None:
    rules = "rules: [{give: {env: {A: x}}}, {give: {env: {A: w, B: z}}}]"
    assert [(one.key, one.value) for one in given(rules).env] == [("A", "x"), ("B", "z")]


@pytest.mark.parametrize(
    ("asked", "gift"),
    [
        ("[{device: /dev/fuse, access: r}]", "[{device: /dev/fuse, as: /dev/x}]"),
        ("[{device: /dev/fuse}]", "[{device: /dev/fuse, as: /dev/x, access: r}]"),
        ("[{device: /dev/fuse, access: r}]", "[/dev/fuse]"),
    ],
)
def test_a_gift_changes_no_access_to_a_device_that_the_container_has(asked: str, gift: str) -> None:
    pod = asking(devices=asked)
    rules = f"rules: [{{allow: {{devices: [/dev/fuse]}}, give: {{devices: {gift}}}}}]"
    assert given(rules, pod) == device.inject(pod, MAIN, HOST)
    assert decisions(rules, pod)[-1][2] == (
        "the container has c 10:229 already, with other access; given, not requested"
    )


@pytest.mark.parametrize(
    ("own", "gift", "reason"),
    [
        ({"env": ["TZ=UTC"]}, "env: {TZ: CET}", "the pod has another value of 'TZ' of its own"),
        (
            {"mounts": [api.Mount(destination="/a/")]},
            "mounts: [{source: /srv/a, destination: /a, type: bind, options: [bind, ro]}]",
            "the pod has a mount at '/a' of its own",
        ),
        (
            {
                "linux": api.LinuxContainer(
                    devices=[api.LinuxDevice(path="/dev/fuse", type="c", major=1, minor=3)]
                )
            },
            "devices: [/dev/fuse]",
            "the pod has another device at '/dev/fuse' of its own",
        ),
    ],
)
def test_what_the_pods_specification_has_stays(own: object, gift: str, reason: str) -> None:
    container = Container(name="main", **own)  # type: ignore[arg-type]  # fields of a container
    rules = f"rules: [{{name: r, give: {{{gift}}}}}]"
    assert given(rules, container=container) == Adjustment()
    assert decisions(rules, container=container)[0][2] == f"{reason}; given, not requested"


@pytest.mark.parametrize(
    ("asked", "gift", "reason"),
    [
        (
            {"sysctl": "{net/core/somaxconn: '1'}"},
            "sysctl: {net.core.somaxconn: '2'}",
            "the container has the sysctl 'net.core.somaxconn' already",
        ),
        (
            {"devices": "[{device: /dev/kvm, as: //dev/fuse}]"},
            "devices: [/dev/fuse]",
            "the container has a device at '/dev/fuse' already",
        ),
        (
            {"mounts": "[{source: /srv/a, destination: /a/, type: bind, options: [bind, ro]}]"},
            "mounts: [{source: /srv/a, destination: /a, type: bind, options: [bind, ro]}]",
            "the container has a mount at '/a' already",
        ),
    ],
)
def test_another_spelling_of_a_place_is_the_same_place(
    asked: dict[str, str], gift: str, reason: str
) -> None:
    allow = "allow: {devices: [/dev/kvm], mounts: [/srv/a], sysctl: [net.*]}"
    rules = f"rules: [{{{allow}, give: {{{gift}}}}}]"
    pod = asking(**asked)
    assert given(rules, pod) == device.inject(pod, MAIN, HOST)
    assert decisions(rules, pod)[-1][2] == f"{reason}; given, not requested"


# --- who gets nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "paths_given"),
    [
        ("", []),
        ("who: {namespaces: ['*']}, ", []),
        ("who: {namespaces: ['kube-*']}, ", []),
        ("who: {namespaces: [ci, kube-system]}, ", ["/dev/fuse"]),
    ],
)
def test_kube_system_gets_what_a_rule_with_its_name_gives(who: str, paths_given: list[str]) -> None:
    pod = Pod(namespace="kube-system")
    assert paths(given(f"rules: [{{{who}give: {{devices: [/dev/fuse]}}}}]", pod)) == paths_given


@pytest.mark.parametrize(
    ("source", "is_given"),
    [
        ("/var/run/nri", False),
        ("/run/nri/nri.sock", False),
        ("/var/run//nri/", False),
        ("/run/nri-inject", True),
        ("/srv/nri", True),
    ],
)
def test_a_plugin_as_our_own_gets_nothing(source: str, is_given: bool) -> None:
    container = Container(name="nri-inject", mounts=[api.Mount(source=source, destination="/x")])
    assert bool(paths(given(GIVES_FUSE, container=container))) is is_given


# --- paths, mounts, CDI devices, hooks ------------------------------------------------------------


def test_a_mount_is_given_with_its_real_source() -> None:
    rules = """
        rules:
          - give:
              mounts: [{source: /srv/link, destination: /a, type: bind, options: [bind, ro]}]
    """
    assert [mount.source for mount in given(rules).mounts] == ["/etc"]


def test_a_mount_that_others_could_redirect_is_not_given() -> None:
    rules = """
        rules:
          - {name: r, give: {mounts: [{source: /srv/t, destination: /a, options: [bind, ro]}]}}
    """
    host = replace(HOST, files={"/srv/t": HostPath("/srv/t", "/srv is everybody's")})
    assert given(rules, host=host) == Adjustment()
    ((verdict, rule, reason),) = decisions(rules, host=host)
    assert (verdict, rule) == ("skip", None)
    assert "/srv is everybody's" in reason


def test_what_a_gift_lets_containers_write_is_not_trusted() -> None:
    rules = """
        rules:
          - give:
              mounts: [{source: /srv, destination: /a, type: bind, options: [bind, rw]}]
          - allow: {mounts: [/srv]}
    """
    lent = document.read(textwrap.dedent(rules), "policy", read_gifts).lent
    assert lent.at("/srv/a") == "/srv"
    reading = rules.replace("rw", "ro")
    assert not document.read(textwrap.dedent(reading), "policy", read_gifts).lent


CDI_HOST = replace(
    HOST,
    cdi=known(
        {"env": ["GPU=0"]},
        {"env": ["CARD=1"]},
        everywhere={
            "hooks": [{"hookName": "createRuntime", "path": "/bin/link", "env": ["PATH=/bin"]}]
        },
    ),
)


def test_a_cdi_device_is_given_by_name_and_an_unknown_one_is_left_out() -> None:
    rules = "rules: [{name: r, give: {cdi_devices: [v.com/d=0, v.com/d=7]}}]"
    assert [(one.key, one.value) for one in given(rules, host=CDI_HOST).env] == [("GPU", "0")]
    assert decisions(rules, host=CDI_HOST) == [
        ("allow", "r", "given, not requested"),
        (
            "skip",
            "r",
            "no CDI device 'v.com/d=7'; given, not requested",
        ),
    ]


def test_the_error_of_a_gift_names_only_cdi_devices_that_the_container_may_request() -> None:
    rules = """
        rules:
          - {name: r, give: {cdi_devices: [v.com/d=7]}, allow: {cdi_devices: [v.com/d=1]}}
    """
    ((_, _, reason),) = decisions(rules, host=CDI_HOST)
    assert reason == "no CDI device 'v.com/d=7'; known devices of v.com/d: 1; given, not requested"


def test_the_hooks_of_a_spec_run_once_for_a_requested_and_a_given_device() -> None:
    rules = "rules: [{allow: {cdi_devices: ['v.com/d=*']}, give: {cdi_devices: [v.com/d=1]}}]"
    found = given(rules, asking(cdi_devices="[v.com/d=0]"), host=CDI_HOST)
    assert {one.key for one in found.env} == {"GPU", "CARD"}
    assert len(found.hooks.create_runtime) == 1


HOOK = Definition(
    path="/bin/true",
    file="/etc/hooks/a.json",
    env=("PATH=/bin",),
    stages=("poststart",),
    when=When(always=False),
)
HOOK_HOST = replace(HOST, hooks=[HOOK, replace(HOOK, file="/etc/hooks/b.json", unusable="is gone")])


def test_a_hook_is_given_by_the_name_of_its_file_whatever_its_conditions() -> None:
    rules = "rules: [{name: r, give: {hooks: [a.json, b.json, c.json]}}]"
    assert [one.path for one in given(rules, host=HOOK_HOST).hooks.poststart] == ["/bin/true"]
    assert decisions(rules, host=HOOK_HOST) == [
        ("allow", "r", "given, not requested"),
        (
            "skip",
            "r",
            "hook /etc/hooks/b.json cannot be run: is gone; given, not requested",
        ),
        ("skip", "r", "no hook file of this name is in use; given, not requested"),
    ]


def test_a_denied_hook_is_not_given() -> None:
    rules = "rules: [{deny: {hooks: [a.json]}}, {give: {hooks: [a.json]}}]"
    assert given(rules, host=HOOK_HOST) == Adjustment()


def test_a_plugin_gives_the_kinds_of_its_own_injector_alone() -> None:
    rules = "rules: [{give: {devices: [/dev/fuse], hooks: [a.json]}}]"
    inject = giving(hooks.inject, {"hooks": hooks.giver(Choices())})
    host = host_of(rules, host=HOOK_HOST)
    found = inject(POD, MAIN, host)
    assert paths(found) == []
    assert [one.path for one in found.hooks.poststart] == ["/bin/true"]
