"""What a rule gives, as it is read, and the rules that are found for a container."""

from __future__ import annotations

import pytest

from nri_inject.api import Container, Image, Pod
from nri_inject.errors import Faulty
from nri_inject.injectors.giving import read_gifts
from nri_inject.policy import document
from nri_inject.policy.permit import subject_of
from nri_inject.policy.rules import Policy
from nri_inject.policy.who import image_names


def read(text: str) -> Policy:
    return document.read(text, "policy", read_gifts)


def fault(text: str) -> str:
    with pytest.raises(Faulty) as error:
        read(text)
    return str(error.value).removeprefix("policy: rules: ")


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("{give: {}}", "give: at least one of devices, cdi_devices, mounts, ulimits, sysctl"),
        ("{give: {devices: []}}", "give: devices: it is empty, and gives nothing"),
        ("{give: {devices: /dev/fuse}}", "give: devices: '/dev/fuse' is not a list"),
        ("{give: {device: [a]}}", "give: unknown key 'device'; did you mean 'devices'?"),
        (
            "{give: {devices: [/dev/a, {path: /dev/b, majr: 1}]}}",
            "give: devices: item 2: unknown key 'majr'; did you mean 'major'?",
        ),
        (
            "{give: {mounts: [{destination: /a, options: [bind]}]}}",
            "give: mounts: item 1: source is missing; a bind mount must have one",
        ),
        ("{give: {ulimits: [{type: memlock}]}}", "give: ulimits: item 1: hard is missing"),
        ("{give: {sysctl: {a/../b: 1}}}", "give: sysctl: a/../b: "),
        ("{give: {cdi_devices: [v.com/d]}}", "give: cdi_devices: item 1: 'v.com/d' is a kind"),
        (
            "{give: {hooks: [/etc/a.json]}}",
            "give: hooks: item 1: '/etc/a.json' must be the name",
        ),
        ("{give: {env: {A=B: x}}}", "give: env: A=B: 'A=B' is not the name of a variable"),
        ("{give: {env: {A: yes}}}", "give: env: A: true is a boolean, not text"),
        (
            "{deny: {devices: [/dev/a]}, give: {devices: [/dev/a]}}",
            "both deny and give; write two rules",
        ),
        (
            "{allow: {devices: [/dev/a]}, required: true}",
            "required is for what a rule gives; it has no give",
        ),
        (
            "{who: {any_namespace: true, namespaces: [a]}, give: {devices: [/dev/a]}}",
            "who: namespaces and any_namespace are mutually exclusive",
        ),
        (
            "{who: {images: ['a b']}, allow: {devices: [/dev/a]}}",
            "who: images: item 1: 'a b' matches nothing: the name of an image has no ' '",
        ),
        (
            "{who: {pod_names: [a/b]}, allow: {devices: [/dev/a]}}",
            "who: pod_names: item 1: 'a/b' matches nothing: the name of a pod has no '/'",
        ),
    ],
)
def test_a_mistake_in_what_a_rule_gives_is_a_fault_of_the_policy(rule: str, sentence: str) -> None:
    assert fault(f"rules: [{rule}]").startswith(f"rule 1: {sentence}")


@pytest.mark.parametrize(
    "asked",
    [
        *("pods: {}", "pod_names: ['web-*']", "containers: [main]", "images: [nginx]"),
        "runtime_handlers: [kata]",
    ],
)
def test_a_rule_that_gives_by_what_an_author_chooses_needs_namespaces(asked: str) -> None:
    name = asked.partition(":")[0]
    assert fault(f"rules: [{{who: {{{asked}}}, give: {{devices: [/dev/a]}}}}]") == (
        f"rule 1: a pod's author chooses what {name} compare, so a rule that gives needs namespaces"
        " in who; write any_namespace: true to give in every namespace"
    )
    for more in ("namespaces: [ci]", "any_namespace: true"):
        assert read(f"rules: [{{who: {{{asked}, {more}}}, give: {{devices: [/dev/a]}}}}]").givers
    assert not read(f"rules: [{{who: {{{asked}}}, allow: {{devices: [/dev/a]}}}}]").givers


def test_a_rule_gives_at_most_256_things() -> None:
    listed = ", ".join(f"/dev/a{number}" for number in range(257))
    assert fault(f"rules: [{{give: {{devices: [{listed}]}}}}]") == (
        "rule 1: give: 257 things, at most 256 allowed"
    )


# --- images and names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "names"),
    [
        ("", ()),
        (
            "docker.io/library/nginx:1.29",
            ("docker.io/library/nginx:1.29", "nginx:1.29", "docker.io/library/nginx", "nginx"),
        ),
        ("nginx", ("docker.io/library/nginx", "nginx")),
        (
            "koenkk/zigbee2mqtt:2@sha256:ab",
            (
                *("docker.io/koenkk/zigbee2mqtt:2@sha256:ab", "koenkk/zigbee2mqtt:2@sha256:ab"),
                *("docker.io/koenkk/zigbee2mqtt:2", "koenkk/zigbee2mqtt:2"),
                *("docker.io/koenkk/zigbee2mqtt", "koenkk/zigbee2mqtt"),
            ),
        ),
        ("localhost:5000/a:1", ("localhost:5000/a:1", "localhost:5000/a")),
    ],
)
def test_an_image_has_names_with_and_without_its_tag(image: str, names: tuple[str, ...]) -> None:
    assert image_names(image) == names


IMAGE = "ghcr.io/koenkk/zigbee2mqtt:2.1"


@pytest.mark.parametrize(
    "container",
    [
        Container(image=Image(name=IMAGE)),
        Container(annotations={"io.kubernetes.cri.image-name": IMAGE}),
        Container(annotations={"io.kubernetes.cri-o.ImageName": IMAGE}),
    ],
)
@pytest.mark.parametrize("pattern", [IMAGE, "ghcr.io/koenkk/*", "ghcr.io/koenkk/zigbee2mqtt"])
def test_a_rule_is_for_an_image_as_field_or_annotation(container: Container, pattern: str) -> None:
    (rule,) = read(f"rules: [{{who: {{images: ['{pattern}']}}, allow: {{hooks: [a]}}}}]").rules
    assert rule.who.includes(subject_of(Pod(), container, ""))
    assert not rule.who.includes(subject_of(Pod(), Container(image=Image(name="a")), ""))


def test_a_rule_is_for_pods_by_name() -> None:
    (rule,) = read("rules: [{who: {pod_names: ['web-*']}, allow: {hooks: [a]}}]").rules
    assert rule.who.includes(subject_of(Pod(name="web-1"), Container(), ""))
    other = subject_of(Pod(name="api"), Container(), "")
    assert not rule.who.includes(other)
    assert rule.who.differs(other) == "it is for pods with other names"


# --- the rules of a container ---------------------------------------------------------------------

RULES = read("""
rules:
  - {name: all, give: {hooks: [a]}}
  - {name: ci, who: {namespaces: [ci, 'c*']}, give: {hooks: [a]}}
  - {name: label, who: {namespaces: [ci], pods: {matchLabels: {app: web}}}, give: {hooks: [a]}}
  - name: one of
    who:
      namespaces: [ci]
      pods: {matchExpressions: [{key: app, operator: In, values: [web, api]}]}
    give: {hooks: [a]}
  - {name: container, who: {namespaces: [ci], containers: ['ma*']}, give: {hooks: [a]}}
  - {name: pod, who: {namespaces: [ci], pod_names: ['p*']}, give: {hooks: [a]}}
  - {name: image, who: {namespaces: [ci], images: [nginx]}, give: {hooks: [a]}}
  - {name: system, who: {namespaces: [kube-system]}, give: {hooks: [a]}}
  - {name: patterns, who: {namespaces: ['kube-*']}, give: {hooks: [a]}}
  - {name: allows, who: {namespaces: [ci]}, allow: {hooks: [a]}}
""")


@pytest.mark.parametrize(
    ("pod", "container", "names"),
    [
        (Pod(namespace="x"), Container(), ["all"]),
        (Pod(namespace="ci"), Container(), ["all", "ci"]),
        (Pod(namespace="ci", labels={"app": "api"}), Container(), ["all", "ci", "one of"]),
        (
            Pod(namespace="ci", labels={"app": "web"}, name="p1"),
            Container(name="main", image=Image(name="nginx:1")),
            ["all", "ci", "label", "one of", "container", "pod", "image"],
        ),
        (Pod(namespace="kube-system"), Container(), ["system"]),
        (Pod(namespace="kube-public"), Container(), ["all", "patterns"]),
    ],
)
def test_the_candidates_are_the_rules_of_the_container(
    pod: Pod, container: Container, names: list[str]
) -> None:
    found = RULES.givers.candidates(subject_of(pod, container, ""))
    assert [rule.name for rule in found] == names


@pytest.mark.parametrize(
    "who",
    [
        "namespaces: [n%d]",
        "namespaces: ['n%d*']",
        "any_namespace: true, pods: {matchLabels: {app: a%d}}",
        "any_namespace: true, containers: [c%d]",
        "any_namespace: true, pod_names: ['p%d-*']",
        "any_namespace: true, images: [i%d]",
    ],
)
def test_of_a_thousand_giving_rules_only_those_of_the_container_are_compared(who: str) -> None:
    numbers = range(1000, 2000)
    rules = ", ".join(f"{{who: {{{who % number}}}, give: {{hooks: [a]}}}}" for number in numbers)
    pod = Pod(namespace="n1007", labels={"app": "a1007"}, name="p1007-x")
    subject = subject_of(pod, Container(name="c1007", image=Image(name="i1007")), "")
    assert len(read(f"rules: [{rules}]").givers.candidates(subject)) == 1
