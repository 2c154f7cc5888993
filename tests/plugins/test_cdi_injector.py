"""Which devices a container asks for, and what becomes of it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.capabilities import NEWEST
from nri_inject.cdi import registry
from nri_inject.errors import ConfigError, RequestError
from nri_inject.injectors.cdi import inject, make_injector, refusal, requested
from nri_inject.injectors.host import Host
from nri_inject.plugins.cdi_injector import PART, main
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.service.config import Cdi, Config
from nri_inject.text.budget import Budget
from nri_inject.text.fields import Fault

KEY, OLD_KEY = "cdi-devices.noderesource.dev", "cdi-devices.nri.io"
DEVICES = {"a": {"env": ["A=1"]}, "b": {"env": ["B=1"]}, "gids": {"additionalGids": [44]}}
SPEC = {
    "cdiVersion": "1.1.0",
    "kind": "v.com/d",
    "devices": [{"name": name, "containerEdits": edits} for name, edits in DEVICES.items()],
}
SNAPSHOT = registry.snapshot(
    ["/etc/cdi"], [registry.read("/etc/cdi/a.json", "/etc/cdi", json.dumps(SPEC).encode())]
)
HOST = Host(devices={}, cdi=SNAPSHOT)
MAIN = Container(name="main")


def pod(**annotations: str) -> Pod:
    return Pod(namespace="ns", name="p", annotations=annotations)


def asking(annotations: dict[str, str], container: Container = MAIN) -> list[str]:
    asked, handed = requested(pod(**annotations), container)
    return [*dict.fromkeys((*asked, *handed))]


def variables(adjustment: Adjustment) -> list[str]:
    return [variable.key for variable in adjustment.env]


def refused(annotations: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(RequestError) as caught:
        inject(pod(**annotations), MAIN, HOST)
    assert caught.value.where == "pod ns/p, container main"
    return caught.value.faults


def test_container_gets_the_edits_of_the_devices_it_names() -> None:
    adjustment = inject(pod(**{KEY: "[v.com/d=b, v.com/d=a, v.com/d=b]"}), MAIN, HOST)
    assert variables(adjustment) == ["B", "A"]


def test_container_that_names_nothing_gets_nothing() -> None:
    for asked in ({}, {KEY: ""}, {KEY: "[]"}, {"other": "[x]"}):
        assert inject(pod(**asked), MAIN, HOST) == Adjustment()


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({KEY: "[v.com/d=a]", f"{KEY}/pod": "[v.com/d=b]"}, ["v.com/d=b"]),
        ({f"{KEY}/container.main": "[v.com/d=a]", f"{KEY}/pod": "[]"}, ["v.com/d=a"]),
        ({f"{KEY}/container.main": "", f"{KEY}/pod": "[v.com/d=a]"}, []),
        ({f"{KEY}/container.other": "[v.com/d=a]"}, []),
        ({OLD_KEY: "[v.com/d=a]"}, ["v.com/d=a"]),
        ({OLD_KEY: "[v.com/d=a]", KEY: "[v.com/d=b]"}, ["v.com/d=b"]),
        ({f"{OLD_KEY}/pod": "[v.com/d=a]", KEY: "[v.com/d=b]"}, ["v.com/d=a"]),
    ],
)
def test_first_annotation_that_exists_counts(
    annotations: dict[str, str], expected: list[str]
) -> None:
    assert asking(annotations) == expected


def test_kubelets_annotations_follow_sorted_by_key() -> None:
    annotations = {
        "cdi.k8s.io/z": "v.com/d=z",
        KEY: "[v.com/d=own]",
        "cdi.k8s.io/a": "v.com/d=a1,v.com/d=a2",
    }
    container = Container(name="main", annotations={"cdi.k8s.io/c": "v.com/d=c,v.com/d=z"})
    expected = [f"v.com/d={name}" for name in ("own", "a1", "a2", "z", "c")]
    assert asking(annotations, container) == expected


def test_everything_wrong_with_the_asking_is_told() -> None:
    assert refused({KEY: "[a b, 7, v.com/d=a]", "cdi.k8s.io/x": "v.com/d=a,"}) == (
        f"annotation {KEY}: item 1: 'a b' is not a device name such as vendor.com/class=name",
        f"annotation {KEY}: item 2: '7' is not a device name such as vendor.com/class=name",
        "annotation cdi.k8s.io/x: '' is not a device name such as vendor.com/class=name",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("v.com/d=a,v.com/d=b", "'v.com/d=a,v.com/d=b' is not a list of names such as"),
        ("[v.com/d=a]]", "line 1, column 12: "),
        ("['v.com/d=a,v.com/d=b']", "contains a comma; list each name as a separate item"),
        ("['v.com/d=\\e']", "v.com/d=\\\\e"),
        (json.dumps([f"v.com/d={number}" for number in range(1001)]), "at most 1000 allowed"),
    ],
)
def test_annotation_that_is_no_list_of_names_says_so(text: str, sentence: str) -> None:
    assert sentence in refused({KEY: text})[0]


def test_unknown_names_are_told_with_the_container() -> None:
    assert refused({KEY: "[v.com/d=c, v.com/e=a]"}) == (
        "no CDI device 'v.com/d=c'; known devices of v.com/d: a, b, gids",
        "no CDI device 'v.com/e=a'; did you mean 'v.com/d=a'?",
    )


def test_without_specs_no_device_is_known() -> None:
    with pytest.raises(RequestError, match="no CDI device is defined"):
        inject(pod(**{KEY: "[v.com/d=a]"}), MAIN, Host(devices={}))


def test_what_cannot_be_carried_fails_the_container_or_is_told() -> None:
    sentence = "additionalGids 44: NRI cannot add groups to a container"
    assert refused({KEY: "[v.com/d=gids]"}) == (sentence,)
    lenient = make_injector(lenient=True)
    warnings: list[str] = []
    hearing = dataclasses.replace(HOST, warn=warnings.append)
    assert lenient(pod(**{KEY: "[v.com/d=gids]"}), MAIN, hearing) == Adjustment()
    assert warnings == [sentence]


def test_native_mode_hands_the_names_on() -> None:
    adjustment = make_injector("native")(pod(**{KEY: "[v.com/d=x, v.com/d=x]"}), MAIN, HOST)
    assert adjustment == Adjustment(CDI_devices=[api.CDIDevice(name="v.com/d=x")])


@pytest.mark.parametrize(
    ("name", "version", "allowed"),
    [
        ("containerd", "1.7.24", False),
        ("containerd", "1.7.30", True),
        ("containerd", "2.0.5", False),
        ("containerd", "2.1.9", True),
        ("cri-o", "1.33.0", False),
        ("cri-o", "1.34.0", True),
    ],
)
def test_native_mode_is_refused_where_names_are_lost(
    name: str, version: str, allowed: bool
) -> None:
    why = refusal("native", capabilities.identify(name, version))
    assert (why is None) == allowed
    assert refusal("resolve", capabilities.identify(name, version)) is None
    if why is not None:
        assert why.startswith(f"CDI mode native: {name} {version} (NRI ")
        assert why.endswith("; use mode resolve")


def test_command_is_configured() -> None:
    configured = PART.build(Config(on_unsupported="warn"), NEWEST)
    assert configured(pod(**{KEY: "[v.com/d=gids]"}), MAIN, HOST) == Adjustment()
    assert (main.name, main.idx, [*PART.sources]) == ("cdi-injector", "20", ["cdi"])
    assert issubclass(ConfigError, Exception)


# --- under a policy -----------------------------------------------------------------------------


def permitted(
    rules: str, asking: Pod, container: Container = MAIN, *, trusting: bool = False
) -> Adjustment:
    permit = Permit(document.read(rules, "policy"), asking, container, "20-cdi-injector")
    injector = make_injector(trusting=trusting)
    return injector(asking, container, dataclasses.replace(HOST, permit=permit))


def test_a_name_that_a_pod_asks_for_needs_a_rule() -> None:
    with pytest.raises(RequestError, match=r"CDI device 'v\.com/d=a': no rule of policy allows"):
        permitted("", pod(**{KEY: "[v.com/d=a]"}))
    allowed = "rules: [{allow: {cdi_devices: ['v.com/d=*']}}]"
    assert variables(permitted(allowed, pod(**{KEY: "[v.com/d=a]"}))) == ["A"]


# A device plugin writes it by the kubelet, another NRI plugin or a checkpoint image by itself.
OWN = Container(name="main", annotations={"cdi.k8s.io/vendor_gpu": "v.com/d=a"})


def test_a_name_of_the_containers_annotations_alone_needs_a_rule() -> None:
    with pytest.raises(RequestError) as caught:
        permitted("", pod(), OWN)
    assert caught.value.faults == (
        (
            "CDI device of the container's annotations 'v.com/d=a': no rule of policy allows it;"
            " a rule that allows it: {who: {namespaces: [ns]}, allow: {cdi_devices: [v.com/d=a]}}"
        ),
    )
    assert variables(permitted("rules: [{allow: {cdi_devices: [v.com/d=a]}}]", pod(), OWN)) == ["A"]


def test_it_needs_no_rule_where_the_admin_trusts_it_and_may_be_denied() -> None:
    assert variables(permitted("", pod(), OWN, trusting=True)) == ["A"]
    with pytest.raises(RequestError, match="rule '#1' of policy denies it"):
        permitted("rules: [{deny: {cdi_devices: [v.com/d=a]}}]", pod(), OWN, trusting=True)


@pytest.mark.parametrize("trusting", [False, True])
def test_a_name_that_a_pod_hands_over_itself_needs_a_rule_as_well(trusting: bool) -> None:
    annotations = {"cdi.k8s.io/mine": "v.com/d=a"}
    for container in (MAIN, Container(name="main", annotations=annotations)):
        with pytest.raises(RequestError, match="no rule of policy allows it"):
            permitted("", pod(**annotations), container, trusting=trusting)


def test_whether_the_containers_annotations_are_trusted_is_configured(
    caplog: pytest.LogCaptureFixture,
) -> None:
    permit = Permit(document.read("", "policy"), pod(), OWN, "20-cdi-injector")
    host = dataclasses.replace(HOST, permit=permit)
    with pytest.raises(RequestError, match="no rule of policy allows it"):
        PART.build(Config(), NEWEST)(pod(), OWN, host)
    assert caplog.messages == []
    trusting = Config(cdi=Cdi(container_annotations="trust"))
    assert variables(PART.build(trusting, NEWEST)(pod(), OWN, host)) == ["A"]
    assert caplog.messages == [
        (
            "cdi: container_annotations: trust: CDI names in a container's annotations need no"
            " rule,"
            " regardless of their author"
        )
    ]


# --- texts without end --------------------------------------------------------------------------

TOO_MANY = "more than 1000 CDI devices are requested"


def test_a_text_of_commas_names_the_bound_and_is_not_read() -> None:
    assert refused({"cdi.k8s.io/a": "," * 256_000}) == (f"annotation cdi.k8s.io/a: {TOO_MANY}",)


def test_many_texts_are_read_up_to_the_bound() -> None:
    annotations = {f"cdi.k8s.io/{number:05}": "v.com/d=a" for number in range(1001)}
    assert refused(annotations) == (f"annotation cdi.k8s.io/01000: {TOO_MANY}",)
    assert asking(dict(list(annotations.items())[:1000])) == ["v.com/d=a"]


def test_names_of_pod_and_kubelet_are_counted_together() -> None:
    container = Container(annotations={"cdi.k8s.io/k": ",".join(["v.com/d=a"] * 501)})
    with pytest.raises(Fault, match=TOO_MANY):
        requested(pod(**{"cdi.k8s.io/p": ",".join(["v.com/d=b"] * 500)}), container)


def test_the_first_faults_are_said_of_many_texts() -> None:
    with pytest.raises(Fault) as caught:
        requested(pod(**{f"cdi.k8s.io/{number:05}": "" for number in range(900)}), MAIN)
    assert len(caught.value.sentences) == 20
    assert caught.value.sentences[0] == (
        "annotation cdi.k8s.io/00000: '' is not a device name such as vendor.com/class=name"
    )


@pytest.mark.parametrize("annotation", [KEY, "cdi.k8s.io/a"])
def test_a_name_has_at_most_1024_characters(annotation: str) -> None:
    def faults(length: int) -> str:
        name = "v.com/d=".ljust(length, "x")
        return refused({annotation: f"[{name}]" if annotation == KEY else name})[0]

    assert "no CDI device" in faults(1024)
    assert faults(1025).endswith("xxx...' is longer than 1024 characters")


def test_a_key_that_the_container_repeats_is_the_pods() -> None:
    annotations = {"cdi.k8s.io/a": "v.com/d=a", "cdi.k8s.io/b": "v.com/d=b"}
    container = Container(annotations={**annotations, "cdi.k8s.io/c": "v.com/d=c"})
    assert requested(pod(**annotations), container) == (["v.com/d=a", "v.com/d=b"], ["v.com/d=c"])
    other = Container(annotations={"cdi.k8s.io/a": "v.com/d=x"})
    assert requested(pod(**annotations), other)[0] == ["v.com/d=a", "v.com/d=b", "v.com/d=x"]


def test_a_reading_costs_the_same_steps_when_it_is_cached() -> None:
    spent = []
    for _ in range(2):
        budget = Budget()
        host = dataclasses.replace(HOST, budget=budget)
        inject(pod(**{KEY: "[v.com/d=a, v.com/d=b]"}), MAIN, host)
        spent.append(budget.spent)
    assert spent[0] == spent[1] > 0
