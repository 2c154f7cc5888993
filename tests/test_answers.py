"""An answer that is recalled is the one that would be worked out anew."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nri_inject import api
from nri_inject.adjust import compose
from nri_inject.answers import ANEW, Answer, Answers
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi import registry
from nri_inject.config import Config
from nri_inject.errors import RequestError
from nri_inject.host import DeviceNode, Host, Place
from nri_inject.oci_hooks import Definition, When
from nri_inject.oci_hooks.definition import Annotation
from nri_inject.oci_hooks.patterns import compiled
from nri_inject.plugins.suite import PARTS
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Policy
from nri_inject.runtimes import NEWEST, Runtime, identify
from nri_inject.surroundings import Part

EXAMPLES = int(os.environ.get("NRI_INJECT_POLICY_EXAMPLES", "300"))

NULL = DeviceNode("/dev/null", "c", 1, 3, 0o666, 0, 0, "/dev/null")
FUSE = DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0, "/dev/fuse")


def snapshot(variable: str) -> registry.Snapshot:
    edits = {
        "env": [f"GPU={variable}"],
        "deviceNodes": [{"path": "/dev/gpu", "hostPath": "/dev/null", "type": "c"}],
        "additionalGids": [44],
        "hooks": [{"hookName": "createRuntime", "path": "/bin/gpu"}],
    }
    devices = [{"name": name, "containerEdits": edits} for name in ("0", "1")]
    text = json.dumps({"cdiVersion": "1.1.0", "kind": "v.com/gpu", "devices": devices})
    file = registry.read("/etc/cdi/gpu.json", "/etc/cdi", text.encode())
    return registry.snapshot(["/etc/cdi"], [file])


def hook(name: str, pattern: str, unusable: str = "") -> Definition:
    return Definition(
        f"/bin/{name}",
        when=When(annotations=(Annotation(compiled(f"^{pattern}$"), compiled("^yes$")),)),
        stages=("poststart",),
        file=f"/etc/hooks.d/{name}.json",
        unusable=unusable,
    )


HOST = Host(
    {"/dev/null": NULL, "/dev/fuse": FUSE},
    cdi=snapshot("a"),
    hooks=(hook("one", "first"), hook("two", "second", "it is gone")),
    numbers={NULL.number: ("/dev/null",), FUSE.number: ("/dev/fuse",)},
    files={"/srv": Place("/srv"), "/etc": Place("/etc")},
)
HOSTS = (
    HOST,
    dataclasses.replace(HOST, devices={"/dev/null": NULL._replace(mode=0o600, gid=5)}),
    dataclasses.replace(HOST, devices={"/dev/null": NULL, "/dev/fuse": NULL}),
    dataclasses.replace(HOST, numbers={NULL.number: ("/dev/null", "/dev/nul")}),
    dataclasses.replace(HOST, files={"/srv": Place("/etc")}),
    dataclasses.replace(HOST, cdi=snapshot("b")),
    dataclasses.replace(HOST, hooks=(hook("one", "second"),)),
)


def policy(rules: list[Any], **more: str) -> Policy:
    return document.checked({"rules": rules, **more}, "policy")


EVERYTHING: dict[str, list[Any]] = {
    "devices": ["/dev/null", {"path": "/dev/fuse", "access": "rwm"}],
    "mounts": [{"source": "/srv", "access": "rw"}],
    "cdi_devices": ["v.com/gpu=*"],
    "ulimits": [{"type": "NOFILE", "hard": 2000}],
}
POLICIES = (
    None,
    policy([{"allow": EVERYTHING}]),
    policy([{"who": {"namespaces": ["ci"]}, "allow": EVERYTHING}]),
    policy([{"who": {"pods": {"matchLabels": {"app": "web"}}}, "allow": EVERYTHING}]),
    policy([{"who": {"containers": ["main"]}, "allow": EVERYTHING}], on_deny="skip"),
    policy([{"who": {"runtime_handlers": ["kata"]}, "allow": EVERYTHING}], mode="warn"),
    policy([{"deny": {"hooks": ["one.json"]}}, {"allow": EVERYTHING}], on_deny="skip"),
)

texts = {
    "devices.noderesource.dev/container.main": [
        "- path: /dev/null\n",
        "- /dev/fuse\n",
        "- {device: /dev/null, owner: container}\n",
        "- {path: /dev/x, type: c, major: 1, minor: 3, access: r}\n",
        "- path: /dev/gone\n",
        "nonsense",
    ],
    "devices.noderesource.dev/pod": ["- path: /dev/fuse\n", "[]"],
    "mounts.noderesource.dev": ["- {source: /srv, destination: /in, type: bind}\n"],
    "ulimits.noderesource.dev": ["- {type: nofile, hard: 1500, soft: 10}\n"],
    "cdi-devices.noderesource.dev/container.side": ["[v.com/gpu=0]", "[v.com/gpu=1, v.com/gpu=0]"],
    "cdi-devices.noderesource.dev": ["[v.com/gpu=0]", "[v.com/none=0]"],
    "cdi.k8s.io/own": ["v.com/gpu=1"],
    "first": ["yes", "no"],
    "second": ["yes"],
}
asked_for = st.sets(st.sampled_from([*texts]), min_size=1, max_size=2).flatmap(
    lambda keys: st.fixed_dictionaries({key: st.sampled_from(texts[key]) for key in sorted(keys)})
)
pods = st.builds(
    lambda namespace, name, labels, handler, asked: Pod(
        namespace=namespace, name=name, labels=labels, runtime_handler=handler, annotations=asked
    ),
    st.sampled_from(["ci", "lab"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([{}, {"app": "web"}]),
    st.sampled_from(["", "kata"]),
    asked_for,
)
containers = st.builds(
    lambda name, user, limits, hooks, handed, spaces: Container(
        name=name,
        user=user,
        rlimits=limits,
        hooks=hooks,
        annotations=handed,
        linux=api.LinuxContainer(namespaces=spaces),
    ),
    st.sampled_from(["main", "main", "side"]),
    st.sampled_from([None, api.User(uid=0), api.User(uid=7, gid=8)]),
    st.sampled_from([[], [api.POSIXRlimit(type="RLIMIT_NOFILE", hard=1600, soft=10)]]),
    st.sampled_from([None, api.Hooks(poststart=[api.Hook(path="/bin/one")])]),
    st.sampled_from([{}, {"cdi.k8s.io/own": "v.com/gpu=1"}, {"first": "yes"}]),
    st.sampled_from([[], [api.LinuxNamespace(type="user")]]),
)
CONFIG = Config(on_unsupported="warn")
OLD = identify("containerd", "1.7.24")


class Asking:
    """The suite's injectors with one Answers for all requests, or a new one for each."""

    def __init__(self, parts: Sequence[Part], runtime: Runtime) -> None:
        self._asks = [part.asks(CONFIG) for part in parts]
        self._injector = compose(*(part.build(CONFIG, runtime) for part in parts))
        self._files = {name for part in parts for name in part.sources if name != "inventory"}
        self._runtime = runtime
        self._answers = Answers(self._injector, runtime)

    def recalling(self, *asking: Any) -> tuple[object, ...]:
        return self._given(self._answers, *asking)

    def anew(self, *asking: Any) -> tuple[object, ...]:
        return self._given(Answers(self._injector, self._runtime), *asking)

    def _given(
        self, answers: Answers, pod: Pod, container: Container, host: Host, rules: Policy | None
    ) -> tuple[object, ...]:
        permit = None
        if rules is not None:
            permit = Permit(rules, pod, container, "20-nri-inject")
        files = {name: getattr(host, name) for name in self._files}
        asked = [asks(pod, container, files) for asks in self._asks]
        host = dataclasses.replace(
            Host(host.devices, numbers=host.numbers, files=host.files), **files
        )
        heard: list[str] = []
        host = dataclasses.replace(host, permit=permit, warn=heard.append)
        try:
            answer = answers.give(asked, pod, container, host)
        except RequestError as error:
            return error.where, error.faults, heard
        assert [*answer.warnings] == heard
        if all(each is None for each in asked):
            assert answer == Answer(None, (), [], "")
        noted = permit.decisions if permit is not None else []
        assert [*answer.decisions] == noted
        told = [(d.verdict, d.rule, d.reason, d.item) for d in noted]
        return answer.adjustment, told, [*answer.warnings], answer.summary


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_what_is_recalled_is_what_would_be_worked_out_anew(data: st.DataObject) -> None:
    """Few pods and containers ask again and again, on hosts that change in between."""
    parts = data.draw(st.sampled_from([PARTS, *([part] for part in PARTS)]))
    asking = Asking(parts, data.draw(st.sampled_from([NEWEST, OLD])))
    some_policies = data.draw(st.lists(st.sampled_from(POLICIES), min_size=1, max_size=2))
    some_pods = data.draw(st.lists(pods, min_size=1, max_size=2))
    some_containers = data.draw(st.lists(containers, min_size=2, max_size=4))
    some_hosts = data.draw(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2))
    for _ in range(10):
        pod = data.draw(st.sampled_from(some_pods))
        container = data.draw(st.sampled_from(some_containers))
        host = data.draw(st.sampled_from(some_hosts))
        rules = data.draw(st.sampled_from(some_policies))
        recalled = asking.recalling(pod, container, host, rules)
        assert recalled == asking.anew(pod, container, host, rules)


KUBELETS = {"cdi.k8s.io/own": "v.com/gpu=1"}
DEVICE = {"devices.noderesource.dev": "- {device: /dev/null, owner: container}\n"}


@pytest.mark.parametrize(
    ("pod", "first", "second"),
    [
        (Pod(annotations=DEVICE), Container(), Container(user=api.User())),
        (Pod(annotations=DEVICE), Container(user=api.User()), Container(user=api.User(uid=1))),
        (Pod(), Container(annotations=KUBELETS), Container()),
        (
            Pod(annotations={"cdi-devices.noderesource.dev": "[v.com/gpu=1]"}),
            Container(annotations=KUBELETS),
            Container(),
        ),
        (
            Pod(annotations={"first": "yes"}),
            Container(),
            Container(hooks=api.Hooks(poststop=[api.Hook(path="/bin/one")])),
        ),
    ],
)
def test_what_makes_a_difference_is_among_what_is_asked(
    pod: Pod, first: Container, second: Container
) -> None:
    files = {"cdi": HOST.cdi, "hooks": HOST.hooks}
    asks = [part.asks(CONFIG) for part in PARTS]
    one, two = ([each(pod, container, files) for each in asks] for container in (first, second))
    assert one != two


class Looked(dict[str, DeviceNode]):
    """Nodes, and how often they were looked at."""

    looks = 0

    def __getitem__(self, key: str) -> DeviceNode:
        self.looks += 1
        return super().__getitem__(key)


def counting() -> tuple[Answers, list[str]]:
    """Return answers that give what /dev/null is, and whom it was worked out for."""
    worked_out: list[str] = []

    def inject(pod: Pod, _: Container, host: Host) -> Adjustment:
        worked_out.append(pod.name)
        host.warn("look at this")
        node = host.devices["/dev/null"]
        return Adjustment(args=[f"{node.mode:o}"])

    return Answers(inject, NEWEST), worked_out


def names(pods: int) -> Iterator[Pod]:
    return (Pod(name=str(number)) for number in range(pods))


def test_replicas_get_one_answer_and_the_host_is_looked_at_for_each() -> None:
    answers, worked_out = counting()
    nodes = Looked({"/dev/null": NULL})
    given = [answers.give(["null"], pod, Container(), Host(nodes)) for pod in names(3)]
    assert given == [Answer(Adjustment(args=["666"]), (), ["look at this"], "1 args")] * 3
    assert (worked_out, nodes.looks) == (["0"], 3)
    assert answers.give(["else"], Pod(name="else"), Container(), Host(nodes)) == given[0]
    assert worked_out == ["0", "else"]


@pytest.mark.parametrize(
    "change",
    [
        {"devices": {"/dev/null": NULL._replace(mode=0o600)}},
        {"cdi": snapshot("c")},
        {"hooks": (hook("three", "third"),)},
        {"permit": Permit(policy([]), Pod(), Container(), "20-other")},
    ],
)
@pytest.mark.parametrize("host", [HOST, Host(HOST.devices)])
def test_an_answer_counts_no_longer_when_what_it_was_made_of_is_another(
    host: Host, change: Mapping[str, Any]
) -> None:
    answers, worked_out = counting()
    for now in (host, host, dataclasses.replace(host, **change)):
        answers.give(["null"], Pod(), Container(), now)
    assert len(worked_out) == 2


@pytest.mark.parametrize("asked", [[ANEW], ["null", ANEW]])
def test_what_is_to_be_worked_out_anew_is(asked: list[Hashable]) -> None:
    answers, worked_out = counting()
    for pod in names(3):
        answers.give(asked, pod, Container(), HOST)
    assert worked_out == ["0", "1", "2"]


def test_who_has_looked_through_all_devices_does_so_again() -> None:
    worked_out: list[str] = []

    def inject(pod: Pod, _: Container, host: Host) -> Adjustment:
        worked_out.append(pod.name)
        assert host.inventory is not None
        return Adjustment(args=[str(len(host.inventory().devices))])

    from nri_inject.devices.inventory import Inventory

    host = dataclasses.replace(HOST, inventory=Inventory)
    answers = Answers(inject, NEWEST)
    for pod in names(2):
        assert answers.give(["usb"], pod, Container(), host).summary == "1 args"
    assert worked_out == ["0", "1"]


def test_an_error_is_raised_again_for_the_pod_that_gets_it() -> None:
    def inject(pod: Pod, _: Container, __: Host) -> Adjustment:
        raise RequestError(["no"], where=f"pod {pod.name}")

    answers = Answers(inject, NEWEST)
    for name in ("a", "b"):
        with pytest.raises(RequestError) as caught:
            answers.give(["x"], Pod(name=name), Container(), HOST)
        assert str(caught.value) == f"pod {name}: no"


def test_a_text_with_an_alias_is_answered_anew() -> None:
    asks = PARTS[0].asks(CONFIG)
    for text, expected in (("- &a /dev/null\n- *a\n", True), ("- /dev/null\n", False)):
        asked = asks(Pod(annotations={"devices.noderesource.dev": text}), Container(), {})
        assert (asked is ANEW) is expected


def test_an_answer_of_many_decisions_is_not_kept() -> None:
    worked_out: list[str] = []

    def inject(pod: Pod, _: Container, host: Host) -> Adjustment:
        worked_out.append(pod.name)
        assert host.permit is not None
        host.permit.granted_names("cdi_devices", map(str, range(33)), "CDI device")
        return Adjustment()

    answers = Answers(inject, NEWEST)
    rules = policy([{"allow": {"cdi_devices": ["*"]}}])
    for pod in names(2):
        permit = Permit(rules, pod, Container(), "20-nri-inject")
        answers.give(["x"], pod, Container(), dataclasses.replace(HOST, permit=permit))
    assert worked_out == ["0", "1"]


def test_a_warning_is_heard_also_where_the_container_fails() -> None:
    def inject(_: Pod, __: Container, host: Host) -> Adjustment:
        host.warn("look at this")
        raise RequestError(["no"])

    heard: list[str] = []
    with pytest.raises(RequestError):
        Answers(inject, NEWEST).give(
            ["x"], Pod(), Container(), dataclasses.replace(HOST, warn=heard.append)
        )
    assert heard == ["look at this"]


def test_a_long_answer_is_not_kept() -> None:
    worked_out: list[str] = []

    def inject(pod: Pod, _: Container, __: Host) -> Adjustment:
        worked_out.append(pod.name)
        return Adjustment(args=["x" * 16384])

    answers = Answers(inject, NEWEST)
    for pod in names(2):
        answers.give(["x"], pod, Container(), HOST)
    assert worked_out == ["0", "1"]
