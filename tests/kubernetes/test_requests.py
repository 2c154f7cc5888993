"""Pods on a cluster: each has its device, or a description with the reason."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from e2e.poll import until

from .cluster import SECONDS, Cluster, Refused
from .suite import KEY, Suite, pod


@pytest.fixture(autouse=True)
def allowed(allowing_suite: Suite) -> Suite:
    return allowing_suite


def test_a_pod_has_its_device(cluster: Cluster, allowed: Suite, namespace: str) -> None:
    cluster.apply(pod("with", namespace))
    allowed.wait_running(namespace)
    command = ("exec", "with", f"--namespace={namespace}", "--", "ls", "-l", "/dev/fuse")
    mode = stat.filemode(Path("/dev/fuse").stat().st_mode)
    assert cluster.kubectl(*command).split()[:6] == [mode, "1", "root", "root", "10,", "229"]


def refusal(cluster: Cluster, namespace: str) -> str:
    """Return why the API server would refuse a pod that requests something, or nothing."""
    document = yaml.safe_dump(pod("asks", namespace))
    try:
        cluster.kubectl("apply", "--dry-run=server", "--filename=-", given=document)
    except Refused as refused:
        return str(refused)
    return ""


@pytest.fixture
def guarded(cluster: Cluster, allowed: Suite) -> Iterator[None]:
    """Let only one namespace have annotations."""
    allowed.upgrade({"admissionPolicy": {"enabled": True, "namespaces": ["others"]}})
    yield
    allowed.upgrade()
    until(lambda: not refusal(cluster, "default"), "the API server to admit pods", SECONDS)


@pytest.mark.usefixtures("guarded")
def test_a_namespace_that_is_not_listed_may_not_request(cluster: Cluster, namespace: str) -> None:
    said = until(lambda: refusal(cluster, namespace), "the API server to refuse the pod", SECONDS)
    assert said == (
        "The pods \"asks\" is invalid: : ValidatingAdmissionPolicy 'nri-inject' with binding"
        f" 'nri-inject' denied request: namespace {namespace} may not request devices: annotation"
        f" {KEY}; the value admissionPolicy.namespaces of the chart nri-inject lists the namespaces"
        " that may"
    )
    plain = pod("plain", namespace)
    del plain["metadata"]["annotations"]
    cluster.apply(plain)
    with pytest.raises(Refused, match="may not request devices"):
        cluster.kubectl("annotate", "pod", "plain", f"--namespace={namespace}", f"{KEY}=x")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        pytest.param(
            "- path: /dev/full",
            "device '/dev/full' (c 1:7): no rule of /etc/nri-inject/policy.yaml allows it;"
            " a rule that allows it:"
            " {{who: {{namespaces: [{namespace}]}}, allow: {{devices: [/dev/full]}}}}",
            id="denied",
        ),
        pytest.param(
            "- pth: /dev/fuse", "item 1: unknown key 'pth'; did you mean 'path'?", id="unknown key"
        ),
        pytest.param(
            "- path: /dev/no-such",
            "item 1: '/dev/no-such' does not exist on the host",
            id="no such device",
        ),
        pytest.param("7", "7 is not a list", id="no list"),
    ],
)
def test_the_description_of_a_pod_has_the_reason(
    cluster: Cluster, allowed: Suite, namespace: str, request_: str, sentence: str
) -> None:
    cluster.apply(pod("without", namespace, request_))
    said = allowed.wait_described("without", namespace, "Reason: CreateContainerError")
    place = f"pod {namespace}/without, container main: annotation {KEY}: "
    assert place + sentence.format(namespace=namespace) in said
