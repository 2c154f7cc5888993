"""What is deployed: manifests that Kubernetes takes, a unit that systemd takes, and one source."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from nri_inject.node import texts
from nri_inject.plugins import suite
from nri_inject.policy.document import read as read_policy
from nri_inject.service import config
from nri_inject.service.base import Options
from nri_inject.service.command import parser

DEPLOY = Path(__file__).parents[2] / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
MANIFESTS = [
    *sorted(path for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml"),
    DEPLOY / "kubernetes" / "policy.yaml",
]
POLICY = DEPLOY / "kubernetes" / "policy.yaml"
UNIT = DEPLOY / "systemd" / "nri-inject.service"
HARDENED = 2.0
"""Below this `systemd-analyze security` calls a unit OK; 10 is a unit without any setting."""


def manifest(name: str) -> Any:
    return yaml.safe_load((BASE / name).read_text())


def config_maps(pod: Any) -> set[str]:
    """Return the names of the maps that a pod mounts."""
    (volume,) = [one["projected"] for one in pod["volumes"] if "projected" in one]
    return {source["configMap"]["name"] for source in volume["sources"]}


def check(document: Any, version: str) -> None:
    """Hold a manifest against Kubernetes' own JSON schemas, which allow no unknown field."""
    validate: Any = importlib.import_module("kubernetes_validate")
    validate.validate(document, version, strict=True)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.30.0", "1.34.0"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_what_kubernetes_takes(path: Path, version: str) -> None:
    check(yaml.safe_load(path.read_text()), version)


@pytest.mark.slow
def test_a_misspelt_field_would_be_noticed() -> None:
    document = manifest("daemonset.yaml")
    document["spec"]["template"]["spec"]["priorityClass"] = "x"
    with pytest.raises(Exception, match="priorityClass"):
        check(document, "1.34.0")


@pytest.mark.slow
@pytest.mark.program("kubectl")
def test_kustomize_puts_them_together() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", BASE], capture_output=True, text=True, check=True
    )
    documents = list(yaml.safe_load_all(done.stdout))
    kinds = {one["kind"] for one in documents}
    assert kinds == {"Namespace", "ConfigMap", "DaemonSet", "NetworkPolicy"}
    pod = next(one for one in documents if one["kind"] == "DaemonSet")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example.com/nri-inject:0.1.0"
    # The pod finds the map by the name that kustomize gave it.
    maps = {one["metadata"]["name"] for one in documents if one["kind"] == "ConfigMap"}
    assert config_maps(pod) == {*maps, "nri-inject-policy"}


def test_the_pod_mounts_the_sockets_directory_and_has_no_powers() -> None:
    pod = manifest("daemonset.yaml")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    paths = {one["name"]: one["hostPath"] for one in pod["volumes"] if "hostPath" in one}
    assert paths["nri"] == {"path": "/var/run/nri", "type": "DirectoryOrCreate"}
    assert paths["usr"] == {"path": "/usr", "type": "Directory"}
    assert paths["udev"] == {"path": "/run/udev", "type": "DirectoryOrCreate"}
    writable = {one["name"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"status"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & {*pod}
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["readOnlyRootFilesystem"]
    assert not security["privileged"]
    assert not security["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]


def test_the_pods_arguments_are_the_commands() -> None:
    pod = manifest("daemonset.yaml")["spec"]["template"]["spec"]
    run, *arguments = pod["containers"][0]["args"]
    assert run == "run"
    program = parser(suite.main, Options(idx="20", name="x"), "run")
    values = program.make_context("run", arguments).params
    assert (values["idx"], values["name"]) == ("20", "nri-inject")


def test_the_probes_ask_for_pages_at_the_port_where_the_plugin_listens() -> None:
    (container,) = manifest("daemonset.yaml")["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 9464}]
    assert "--http-address=:9464" in container["args"]
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness")}
    assert asked == {name: {"path": "/livez", "port": "http"} for name in asked}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}


@pytest.mark.slow  # the schemas are not among the oldest packages
def test_no_other_pod_reaches_the_port_unless_an_admin_lets_it_in() -> None:
    spec = manifest("networkpolicy.yaml")["spec"]
    labels = manifest("daemonset.yaml")["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert (spec["policyTypes"], spec["ingress"]) == (["Ingress"], [])
    text = (BASE / "networkpolicy.yaml").read_text()
    rule = yaml.safe_load("\n".join(re.findall("^  # ([ -] .*)$", text, re.MULTILINE)))
    spec["ingress"] = rule
    assert rule[0]["ports"] == [{"port": 9464}]
    check({**manifest("networkpolicy.yaml"), "spec": spec}, "1.34.0")


def test_the_configuration_of_the_map_is_one() -> None:
    data = manifest("configmap.yaml")["data"]
    document = config.read_document(data["config.yaml"], "config.yaml")
    assert document["policy"] == {"file": "/etc/nri-inject/policy.yaml"}
    assert document["host_root"] == "/host"


def test_an_upgrade_leaves_the_policy_as_it_is() -> None:
    base = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    policy = yaml.safe_load(POLICY.read_text())
    name = policy["metadata"]["name"]
    assert f"{name}.yaml" not in base
    pod = manifest("daemonset.yaml")["spec"]["template"]["spec"]
    assert name in config_maps(pod)
    assert name not in [manifest(path)["metadata"]["name"] for path in base]


@pytest.mark.parametrize("commented", [False, True])
def test_the_policy_to_begin_with_is_one_and_so_are_its_examples(commented: bool) -> None:
    text = (DEPLOY / "chart" / "files" / "first-policy.yaml").read_text()
    assert text == yaml.safe_load(POLICY.read_text())["data"]["policy.yaml"]
    if commented:
        text = "\n".join(line.removeprefix("# ") for line in text.splitlines()[1:])
    policy = read_policy(text, "policy.yaml")
    assert len(policy.rules) == (2 if commented else 0)


def test_a_rollout_has_the_new_pod_before_the_old_one_goes() -> None:
    strategy = manifest("daemonset.yaml")["spec"]["updateStrategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_pod_starts_where_the_runtime_requires_it() -> None:
    template = manifest("daemonset.yaml")["spec"]["template"]
    key = "tolerate-missing-plugins.noderesource.dev"
    assert template["metadata"]["annotations"][key] == "true"
    page = (DEPLOY.parent / "docs/when-it-is-down.md").read_text()
    assert page.count(f'annotation = "{key}"') == 2


def test_the_unit_is_what_install_writes() -> None:
    command = (
        "/opt/nri-inject/current/nri-inject run --idx 20 --name nri-inject"
        " --socket-path /var/run/nri/nri.sock --config /etc/nri-inject/config.yaml"
    )
    reload = "/opt/nri-inject/current/nri-inject upgrade --plugin 20-nri-inject"
    assert UNIT.read_text() == texts.unit(command, reload, "containerd")


@pytest.mark.slow
@pytest.mark.program("systemd-analyze")
def test_systemd_takes_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/nri-inject/current/nri-inject", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    examined = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=True,
    )
    level = re.search(r"Overall exposure level .*: ([0-9.]+)", examined.stdout)
    assert level is not None
    assert float(level[1]) < HARDENED
