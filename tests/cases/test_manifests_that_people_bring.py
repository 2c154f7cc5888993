"""Case 07: kinds of workloads that `try` was not told of, and annotations at the wrong level."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.cli.unread import Unreads
from nri_inject.errors import ConfigError
from nri_inject.runtime import manifests
from nri_inject.runtime.manifests import Planned

KEY = "devices.noderesource.dev/container.main"
SPEC = {"containers": [{"name": "main", "image": "x"}]}
TEMPLATE = {"metadata": {"annotations": {KEY: "[/dev/fuse]"}}, "spec": SPEC}


def planned(document: Any) -> list[Planned]:
    return manifests.read(json.dumps(document), "file.yaml")


def workload(kind: str, spec: Any, version: str = "apps/v1") -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "w"}, "spec": spec}


KINDS = {
    "Deployment": workload("Deployment", {"template": TEMPLATE}),
    "DaemonSet": workload("DaemonSet", {"template": TEMPLATE}),
    "StatefulSet": workload("StatefulSet", {"template": TEMPLATE}),
    "ReplicaSet": workload("ReplicaSet", {"template": TEMPLATE}),
    "Job": workload("Job", {"template": TEMPLATE}, "batch/v1"),
    "CronJob": workload("CronJob", {"jobTemplate": {"spec": {"template": TEMPLATE}}}, "batch/v1"),
    "ReplicationController": workload("ReplicationController", {"template": TEMPLATE}, "v1"),
    "PodTemplate": {"kind": "PodTemplate", "metadata": {"name": "w"}, "template": TEMPLATE},
    "Rollout": workload("Rollout", {"template": TEMPLATE}, "argoproj.io/v1alpha1"),
    "Service of Knative": workload("Service", {"template": TEMPLATE}, "serving.knative.dev/v1"),
    "CloneSet": workload("CloneSet", {"template": TEMPLATE}, "apps.kruise.io/v1alpha1"),
    "Job of Volcano": workload(
        "Job", {"tasks": [{"name": "t", "template": TEMPLATE}]}, "batch.volcano.sh/v1alpha1"
    ),
    "JobSet": workload(
        "JobSet",
        {"replicatedJobs": [{"name": "r", "template": {"spec": {"template": TEMPLATE}}}]},
        "jobset.x-k8s.io/v1alpha2",
    ),
    "PyTorchJob": workload(
        "PyTorchJob",
        {"pytorchReplicaSpecs": {"Master": {"template": TEMPLATE}}},
        "kubeflow.org/v1",
    ),
    "SandboxTemplate": workload("SandboxTemplate", {"podTemplate": TEMPLATE}, "agents.x-k8s.io/v1"),
}


@pytest.mark.parametrize("document", KINDS.values(), ids=KINDS)
def test_a_workload_is_read_by_the_template_that_it_has(document: dict[str, Any]) -> None:
    (one,) = planned(document)
    assert (one.container.name, one.pod.annotations[KEY]) == ("main", "[/dev/fuse]")
    assert (one.kind, one.containers) == (document["kind"], ("main",))
    assert one.pod.name.startswith("w-")


@pytest.mark.parametrize("kind", ["List", "DeploymentList", "RolloutList"])
def test_items_of_a_list_are_read(kind: str) -> None:
    item = KINDS["Rollout"] if kind == "RolloutList" else KINDS["Deployment"]
    (one,) = planned({"kind": kind, "items": [item]})
    assert one.container.name == "main"


def test_several_templates_of_one_object_are_several_pods() -> None:
    tasks = [{"template": TEMPLATE}, {"template": TEMPLATE}]
    found = planned(workload("Job", {"tasks": tasks}, "batch.volcano.sh/v1alpha1"))
    assert [one.pod.name for one in found] == ["w-00000", "w-1-00000"]


def test_what_has_no_template_of_a_pod_is_passed_over() -> None:
    crd = {"kind": "CustomResourceDefinition", "metadata": {"name": "c"}, "spec": TEMPLATE}
    machine = workload("VirtualMachine", {"template": {"spec": {"domain": {}}}}, "kubevirt.io/v1")
    assert planned(crd) == planned(machine) == planned(workload("Service", {}, "v1")) == []
    text = json.dumps(machine)
    assert manifests.kinds(text) == ["VirtualMachine w"]


@pytest.mark.parametrize("name", [name for name in KINDS if name != "Pod"])
def test_an_annotation_on_the_object_is_told(name: str) -> None:
    template = {"spec": SPEC}
    document = json.loads(
        json.dumps(KINDS[name]).replace(json.dumps(TEMPLATE), json.dumps(template))
    )
    document["metadata"]["annotations"] = {KEY: "[/dev/fuse]", "prometheus.io/scrape": "true"}
    (one,) = planned(document)
    unreads = Unreads(frozenset())
    assert [str(each) for each in unreads.of(one)] == [
        (
            f"annotation {KEY}: it is on the {document['kind']} and not on its pods; move it to the"
            " annotations of the pod's template (spec.template.metadata.annotations)"
        )
    ]
    assert unreads.found_wrong
    assert unreads.of(one) == []  # once for a pod


def test_an_annotation_of_the_jobs_of_a_cron_job_is_told() -> None:
    document = json.loads(json.dumps(KINDS["CronJob"]).replace(KEY, "x/y"))
    document["spec"]["jobTemplate"]["metadata"] = {"annotations": {KEY: "[/dev/fuse]"}}
    (one,) = Unreads(frozenset()).of(planned(document)[0])
    assert one.sentence.startswith("it is on the CronJob and not on its pods; move it to")


def test_an_annotation_at_both_levels_is_fine() -> None:
    document = json.loads(json.dumps(KINDS["Deployment"]))
    document["metadata"]["annotations"] = {KEY: "[/dev/fuse]"}
    (one,) = planned(document)
    assert Unreads(frozenset()).of(one) == []


def test_the_key_of_another_injector_on_the_object_is_only_noted() -> None:
    document = json.loads(json.dumps(KINDS["Deployment"]))
    document["metadata"]["annotations"] = {"devices.crio.io": "/dev/fuse"}
    unreads = Unreads(frozenset())
    (one,) = unreads.of(planned(document)[0])
    assert (one.key, one.level, unreads.found_wrong) == ("devices.crio.io", "note", False)


@pytest.mark.parametrize(
    ("spec", "namespaces"),
    [
        ({}, ["pid", "ipc", "uts", "mount", "network"]),
        ({"hostNetwork": True}, ["pid", "ipc", "uts", "mount"]),
        ({"hostPID": True, "hostIPC": True}, ["uts", "mount", "network"]),
    ],
)
def test_a_pod_has_the_namespaces_that_it_does_not_share(
    spec: dict[str, Any], namespaces: list[str]
) -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {**SPEC, **spec}}
    (one,) = planned(pod)
    assert [each.type for each in one.pod.linux.namespaces] == namespaces


nested = st.recursive(
    st.none() | st.booleans() | st.text("abc{}:- ", max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "template", "containers", "x"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(nested)
def test_whatever_an_object_has_it_is_read_or_a_sentence(spec: Any) -> None:
    said: list[str] = []
    try:
        planned(workload("Thing", spec, "x.io/v1"))
    except ConfigError as error:
        said.append(str(error))
    assert all(one.startswith("file.yaml: ") for one in said)
