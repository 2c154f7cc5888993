"""The chart: its values, its templates against Kubernetes' schemas, and what it lets the pod do."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from manifests import render, schema
from manifests.render import RenderError
from support.skips import find_program

from nri_inject.injectors import keys
from nri_inject.policy.document import read as read_policy
from nri_inject.service import config
from nri_inject.version import VERSION

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "chart"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
VERSIONS = ("1.30.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0")
"""The oldest minor that the chart takes, and those that are supported upstream."""
EVERYTHING: dict[str, Any] = {
    "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": [{"name": "secret"}]},
    "policy": {"rules": [{"allow": {"devices": ["/dev/fuse"]}}]},
    "config": {
        "missed": [{"who": {"namespaces": ["shop"]}, "action": "restart"}],
        "policy": {"on_fault": "keep"},
        "restart": {"per_hour": 3},
    },
    "criSocket": "/run/containerd/containerd.sock",
    "hostPaths": {"programs": ["/opt/hooks"]},
    "httpPort": 9465,
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "admissionPolicy": {"enabled": True, "namespaces": ["ci"]},
    "nodeSelector": {"pool": "gpu"},
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "extraArgs": ["--verbose"],
}
SOCKET = "/run/containerd/containerd.sock"
HELM = Path(find_program("helm") or "helm")

with_helm = pytest.mark.program("helm")
pytestmark = pytest.mark.slow


def rendered(tmp_path: Path, **values: Any) -> dict[str, Any]:
    """Return the documents by kind and name."""
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    documents = yaml.safe_load_all(render.render(HELM, f"--values={file}"))
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in documents if one}


def daemonset(documents: dict[str, Any]) -> Any:
    return documents["DaemonSet/nri-inject"]["spec"]["template"]["spec"]


def configuration(documents: dict[str, Any]) -> Any:
    """Return the plugin's configuration, as the plugin reads it."""
    text = documents["ConfigMap/nri-inject"]["data"]["config.yaml"]
    return config.read_document(text, "config.yaml")


@with_helm
def test_helm_lint_has_no_complaint() -> None:
    done = subprocess.run(
        [HELM, "lint", "--strict", CHART], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 chart(s) failed" in done.stdout


@with_helm
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_kubernetes_takes_what_the_chart_makes(
    tmp_path: Path, values: dict[str, Any], version: str
) -> None:
    validate: Any = importlib.import_module("kubernetes_validate")
    for document in rendered(tmp_path, **values).values():
        if not document["apiVersion"].startswith("monitoring.coreos.com/"):  # of an operator
            validate.validate(document, version, strict=True)


@with_helm
@pytest.mark.parametrize("name", render.MADE)
def test_the_kustomize_base_is_the_chart_with_its_default_values(name: str) -> None:
    base = (render.BASE / name).read_text()
    assert render.base_file(HELM, name) == base, "run make manifests"


def test_the_chart_has_the_version_of_the_suite() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)


def test_the_schema_of_the_values_has_the_policys_own() -> None:
    assert schema.new_text() == schema.VALUES.read_text(), "run make manifests"


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_the_default_values_fit_their_schema(values: dict[str, Any]) -> None:
    default = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.validate({**default, **values}, json.loads(schema.VALUES.read_text()))


@with_helm
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"polices": {}}, "additional properties 'polices' not allowed"),
        ({"policy": {"rules": [{"alow": {}}]}}, "additional properties 'alow' not allowed"),
        ({"criSocket": "containerd.sock"}, "does not match pattern"),
        ({"image": {"digest": "latest"}}, "does not match pattern"),
        ({"hostPaths": {"cdi": "/etc/cdi"}}, "got string, want array"),
    ],
)
def test_a_faulty_value_is_refused(tmp_path: Path, values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RenderError, match=re.escape(sentence)):
        rendered(tmp_path, **values)


@with_helm
def test_the_policy_of_values_is_read_as_it_is_given(tmp_path: Path) -> None:
    documents = rendered(tmp_path, policy=EVERYTHING["policy"])
    map_ = documents["ConfigMap/nri-inject-policy"]
    assert map_["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (rule,) = read_policy(map_["data"]["policy.yaml"], "policy.yaml").rules
    assert rule.effect == "allow"


@with_helm
def test_a_policy_of_the_admins_own_is_mounted_and_none_is_made(tmp_path: Path) -> None:
    documents = rendered(tmp_path, policyConfigMap="gpu-policy")
    assert "ConfigMap/nri-inject-policy" not in documents
    (volume,) = [one for one in daemonset(documents)["volumes"] if one["name"] == "config"]
    maps = [one["configMap"]["name"] for one in volume["projected"]["sources"]]
    assert maps == ["nri-inject", "gpu-policy"]


@with_helm
def test_keys_of_the_configuration_are_merged_into_the_charts_own(tmp_path: Path) -> None:
    read = configuration(rendered(tmp_path, **EVERYTHING))
    assert read["policy"] == {"file": "/etc/nri-inject/policy.yaml", "on_fault": "keep"}
    assert read["restart"] == {"cri_socket": "/run/containerd/containerd.sock", "per_hour": 3}
    assert read["missed"] == EVERYTHING["config"]["missed"]
    assert read["host_root"] == "/host"


@with_helm
def test_the_image_is_named_by_its_digest_if_there_is_one(tmp_path: Path) -> None:
    (container,) = daemonset(rendered(tmp_path))["containers"]
    assert container["image"] == f"registry.example.com/nri-inject:{VERSION}"
    (container,) = daemonset(rendered(tmp_path, **EVERYTHING))["containers"]
    assert container["image"] == f"registry.example.com/nri-inject@sha256:{'0' * 64}"


@with_helm
def test_prometheus_scrapes_the_port_of_the_pods(tmp_path: Path) -> None:
    documents = rendered(tmp_path, **EVERYTHING)
    monitor = documents["PodMonitor/nri-inject"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    pod = documents["DaemonSet/nri-inject"]["spec"]["template"]
    (port,) = pod["spec"]["containers"][0]["ports"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert port["containerPort"] == 9465
    assert "--http-address=:9465" in pod["spec"]["containers"][0]["args"]
    assert documents["PrometheusRule/nri-inject"]["spec"]["groups"]
    assert json.loads(documents["ConfigMap/nri-inject-dashboard"]["data"]["nri-inject.json"])


@with_helm
def test_the_admission_policy_knows_each_kind_of_annotation(tmp_path: Path) -> None:
    documents = rendered(tmp_path, **EVERYTHING)
    (requests,) = documents["ValidatingAdmissionPolicy/nri-inject"]["spec"]["variables"]
    pattern = re.search(r"key\.matches\('(.*?)'\)", requests["expression"])
    assert pattern is not None
    for kind in {*keys.KINDS} - {"refuse"}:  # a refusal requests nothing
        assert re.search(pattern[1], f"{kind}.noderesource.dev/pod")
    assert re.search(pattern[1], "cdi.k8s.io/gpu")
    assert not re.search(pattern[1], "kubectl.kubernetes.io/default-container")


# --- what the pod may do --------------------------------------------------------------------------

ROW = re.compile(
    r"^\| `(/\S+)` \| `(/\S+)` \| (read-only|writable) \| .* \| (.*) \|$", re.MULTILINE
)


def documented(*, only_with: bool) -> set[tuple[str, str, str]]:
    """Return the page's rows: the node's directory, its place in the pod, and the access."""
    return {
        (row[1], row[2], row[3])
        for row in ROW.finditer(PAGE)
        if ("only with" in row[4]) <= only_with
    }


def mounted(pod: Any) -> set[tuple[str, str, str]]:
    """Return the same of a pod."""
    (container,) = pod["containers"]
    paths = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    return {
        (
            paths[one["name"]],
            one["mountPath"],
            ["writable", "read-only"][one.get("readOnly", False)],
        )
        for one in container["volumeMounts"]
        if one["name"] in paths
    }


def test_the_page_lists_all_that_the_default_pod_sees() -> None:
    pod = yaml.safe_load((render.BASE / "daemonset.yaml").read_text())["spec"]["template"]["spec"]
    assert mounted(pod) == documented(only_with=False)


@with_helm
def test_the_page_lists_what_restarts_need_besides(tmp_path: Path) -> None:
    assert mounted(daemonset(rendered(tmp_path, criSocket=SOCKET))) == documented(only_with=True)


@with_helm
def test_each_value_takes_its_directories_away(tmp_path: Path) -> None:
    none = {"udev": "", "cdi": [], "hooks": [], "usr": ""}
    pod = daemonset(rendered(tmp_path, hostPaths=none))
    assert {path for path, _, _ in mounted(pod)} == {"/var/run/nri", "/dev", "/sys"}


@with_helm
def test_the_pod_has_no_power_whatever_the_values(tmp_path: Path) -> None:
    pod = daemonset(rendered(tmp_path, **EVERYTHING))
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & {*pod}
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "privileged": False,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
