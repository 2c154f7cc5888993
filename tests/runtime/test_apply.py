from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from nri_inject import api
from nri_inject.errors import NriError
from nri_inject.runtime.apply import CdiInjector, OciSpec, Resolvers, apply

VECTORS = Path(__file__).parents[1] / "vectors" / "nri" / "apply.jsonl"
CASES = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]
FAILING = [case for case in CASES if "error" in case["expect"]]
GOING = [case for case in CASES if "oci_spec" in case["expect"]]


def adjustment(case: dict[str, Any]) -> api.Adjustment:
    return json_format.ParseDict(case["adjust"], api.Adjustment())


def run(case: dict[str, Any]) -> OciSpec:
    return apply(
        case["oci_spec"],
        adjustment(case),
        propagation=case.get("propagation", {}),
        cdi=injector(case["cdi"]) if "cdi" in case else None,
        resolvers=Resolvers(blockio, lambda name: {"closID": name})
        if case.get("resolvers")
        else None,
    )


def blockio(name: str) -> OciSpec:
    if name != "gold":
        raise NriError(f"no block I/O class '{name}'")
    return {"weight": 500}


def injector(edits: dict[str, Any]) -> CdiInjector:
    """Inject what the vectors' deliberately simple CDI registry has."""

    def inject(spec: OciSpec, names: Sequence[str]) -> OciSpec:
        for name in names:
            if name not in edits:
                raise NriError(f"unresolvable CDI devices {name}")
            edit(spec, edits[name])
        return spec

    return inject


def edit(spec: OciSpec, edits: dict[str, Any]) -> None:
    spec["process"]["env"] += edits.get("env", [])
    for device in edits.get("deviceNodes", ()):
        others = [each for each in spec["linux"]["devices"] if each["path"] != device["path"]]
        spec["linux"]["devices"] = [*others, device]
        number = {key: device[key] for key in ("type", "major", "minor")}
        spec["linux"]["resources"]["devices"].append({"allow": True, "access": "rwm", **number})
    for mount in edits.get("mounts", ()):
        bind = {"destination": mount["containerPath"], "source": mount["hostPath"]}
        others = [each for each in spec["mounts"] if each["destination"] != bind["destination"]]
        spec["mounts"] = [*others, {**bind, "options": ["bind"]}]
    for hook in edits.get("hooks", ()):
        spec["hooks"].setdefault("createRuntime", []).append({"path": hook["path"]})


@pytest.mark.parametrize("case", GOING, ids=[case["name"] for case in GOING])
def test_an_adjustment_changes_the_spec_as_a_runtime_does(case: dict[str, Any]) -> None:
    assert run(case) == case["expect"]["oci_spec"]


@pytest.mark.parametrize("case", FAILING, ids=[case["name"] for case in FAILING])
def test_what_a_runtime_refuses_is_an_error(case: dict[str, Any]) -> None:
    with pytest.raises(NriError):
        run(case)


def test_the_spec_given_stays_as_it_is() -> None:
    for case in GOING:
        before = copy.deepcopy(case["oci_spec"])
        run(case)
        assert case["oci_spec"] == before


@pytest.mark.parametrize(
    ("before", "adjust", "after"),
    [
        pytest.param(
            {"linux": {"sysctl": {"k": "old"}}},
            {"linux": {"sysctl": {"-k": "", "k": "new"}}},
            {"linux": {"sysctl": {"k": "new"}}},
            id="a-sysctl-taken-over-has-the-new-value",
        ),
        pytest.param(
            {"linux": {"netDevices": {"e0": {}}}},
            {"linux": {"netDevices": {"-e0": {}, "e0": {"name": "n"}}}},
            {"linux": {"netDevices": {"e0": {"name": "n"}}}},
            id="a-network-device-taken-over-has-the-new-name",
        ),
        pytest.param(
            {"annotations": {"a": "b"}}, {"annotations": {"-a": ""}}, {}, id="what-gets-empty-goes"
        ),
        pytest.param(
            {"process": {"env": ["A=1", "junk", "=x", "B=1", "A=2"]}},
            {"env": [{"key": "N", "value": "1"}, {"key": "-M"}, {"key": "N", "value": "2"}]},
            {"process": {"env": ["A=2", "B=1", "N=2"]}},
            id="variables-come-once-each-and-junk-is-lost",
        ),
        pytest.param(
            {"process": {"env": ["A=1", "junk"]}},
            {"annotations": {"k": "v"}},
            {"process": {"env": ["A=1", "junk"]}, "annotations": {"k": "v"}},
            id="env-stays-when-nobody-touches-it",
        ),
        pytest.param(
            {"process": {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1}}},
            {"linux": {"ioPriority": {"priority": 3}}},
            {"process": {}},
            id="io-priority-none-clears",
        ),
        pytest.param(
            {"process": {"ioPriority": {"class": "IOPRIO_CLASS_RT", "priority": 1}}},
            {"linux": {"ioPriority": {"class": 9}}},
            {"process": {}},
            id="io-priority-of-an-unknown-class-clears",
        ),
        pytest.param(
            {},
            {"linux": {"scheduler": {"policy": 99, "flags": [99]}}},
            {"process": {"scheduler": {"policy": "", "flags": [""]}}},
            id="unknown-numbers-of-a-scheduler-become-empty-texts",
        ),
        pytest.param(
            {"linux": {"resources": {"pids": {"limit": 5}}}},
            {"linux": {"resources": {"pids": {"limit": -1}}}},
            {"linux": {"resources": {"pids": {"limit": 5}}}},
            id="pids-of-minus-one-lift-no-limit",
        ),
        pytest.param(
            {"linux": {"resources": {"memory": {"limit": 5}}}},
            {"linux": {"resources": {"memory": {"limit": {"value": 0}}}}},
            {"linux": {"resources": {"memory": {"limit": 5}}}},
            id="a-memory-limit-of-zero-is-lost",
        ),
        pytest.param(
            {},
            {"linux": {"resources": {"cpu": {"quota": {}}, "devices": [{"access": "r"}]}}},
            {
                "linux": {
                    "resources": {
                        "cpu": {"quota": 0},
                        "devices": [{"allow": False, "access": "r"}],
                    }
                }
            },
            id="a-present-zero-is-written",
        ),
        pytest.param(
            {"linux": {"intelRdt": {"enableMonitoring": True, "closID": "c"}}},
            {"linux": {"rdt": {"enableMonitoring": {"value": False}}}},
            {"linux": {"intelRdt": {"closID": "c"}}},
            id="monitoring-can-be-switched-off",
        ),
        pytest.param(
            {}, {"CDIDevices": [{"name": "v.com/c=x"}]}, {}, id="no-injector-no-cdi-device"
        ),
        pytest.param(
            {"linux": {"namespaces": [{"type": "pid"}]}},
            {"linux": {"namespaces": [{"type": "-pid"}]}},
            {"linux": {}},
            id="the-last-namespace-can-be-removed",
        ),
    ],
)
def test_a_part_is_applied(before: OciSpec, adjust: dict[str, Any], after: OciSpec) -> None:
    assert apply(before, json_format.ParseDict(adjust, api.Adjustment())) == after


def shared(source: str) -> api.Adjustment:
    mount = api.Mount(destination="/p", source=source, type="bind", options=["rshared"])
    return api.Adjustment(mounts=[mount])


def test_a_private_mount_cannot_be_propagated() -> None:
    with pytest.raises(NriError) as caught:
        apply({}, shared("/srv/x"), propagation={"/": "rshared", "/srv": "rslave"})
    assert str(caught.value) == "path '/srv/x' has mount propagation 'rslave', not 'rshared'"


def test_the_longest_mount_point_by_whole_names_decides() -> None:
    points = {"/": "rshared", "/srv": ""}
    spec = apply({}, shared("/srv2"), propagation=points)
    assert spec["linux"] == {"rootfsPropagation": "rshared"}


def test_nothing_is_refused_for_a_host_that_is_not_looked_at() -> None:
    assert apply({}, shared("/srv"))["linux"] == {"rootfsPropagation": "rshared"}


def test_an_unknown_namespace_is_named() -> None:
    asked = api.LinuxContainerAdjustment(namespaces=[api.LinuxNamespace(type="-net")])
    with pytest.raises(NriError, match=r"^unrecognized namespace 'net'; known: network, pid"):
        apply({}, api.Adjustment(linux=asked))
