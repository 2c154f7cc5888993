from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from nri_inject import api
from nri_inject.errors import ConfigError
from nri_inject.runtime.manifests import Planned, read
from nri_inject.runtime.oci_spec import oci_spec

TEMPLATE = "{metadata: {labels: {a: b}}, spec: {containers: [{name: c}]}}"


def planned(**spec: Any) -> Planned:
    """Read a pod with one container whose spec has these fields as well."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "annotations": {"devices.example.com": "- path: /dev/x\n"}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}], **spec},
    }
    (only,) = read(json.dumps(pod), "p.json")
    return only


def container(**fields: Any) -> api.Container:
    return planned(containers=[{"name": "c", **fields}]).container


def resources(**fields: Any) -> api.LinuxResources:
    return container(resources=fields).linux.resources


def names(text: str) -> list[tuple[str, str, str]]:
    return [
        (one.pod.namespace, one.pod.name, one.container.name) for one in read(text, "file.yaml")
    ]


def mounts(read_container: api.Container) -> dict[str, tuple[str, list[str]]]:
    return {mount.destination: (mount.source, [*mount.options]) for mount in read_container.mounts}


def test_a_pod_is_told_with_what_the_kubelet_and_containerd_add() -> None:
    pod = planned(runtimeClassName="kata").pod
    assert (pod.name, pod.namespace, pod.runtime_handler) == ("p", "default", "kata")
    assert re.fullmatch(r"[0-9a-f]{64}", pod.id)
    assert pod.annotations["devices.example.com"] == "- path: /dev/x\n"
    assert pod.annotations["io.kubernetes.cri.sandbox-id"] == pod.id
    assert pod.labels["io.kubernetes.pod.uid"] == pod.uid


def test_a_container_is_told_with_what_the_kubelet_and_containerd_add() -> None:
    both = planned()
    pod, told = both.pod, both.container
    assert re.fullmatch(r"[0-9a-f]{64}", told.id)
    assert told.pod_sandbox_id == pod.id
    assert told.labels == {
        "io.cri-containerd.kind": "container",
        "io.kubernetes.container.name": "c",
        "io.kubernetes.pod.name": "p",
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": pod.uid,
    }
    assert told.annotations["io.kubernetes.cri.image-name"] == "busybox"
    assert "devices.example.com" not in told.annotations
    assert [namespace.type for namespace in told.linux.namespaces] == [
        *("pid", "ipc", "uts", "mount", "network", "cgroup")
    ]


def test_ids_are_the_same_in_every_run_and_differ_by_name() -> None:
    assert planned() == planned()
    first, second = read(
        "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a}, {name: b}]}", "f"
    )
    assert first.container.id != second.container.id
    assert first.pod == second.pod


def test_the_manifest_of_a_pod_may_know_its_uid() -> None:
    text = "kind: Pod\nmetadata: {name: p, uid: u-1}\nspec: {containers: [{name: c}]}"
    assert read(text, "f")[0].pod.uid == "u-1"


@pytest.mark.parametrize(
    ("kind", "version", "spec", "name"),
    [
        ("Deployment", "apps/v1", f"template: {TEMPLATE}", "w-00000"),
        ("DaemonSet", "apps/v1", f"template: {TEMPLATE}", "w-00000"),
        ("ReplicaSet", "apps/v1", f"template: {TEMPLATE}", "w-00000"),
        ("StatefulSet", "apps/v1", f"template: {TEMPLATE}", "w-0"),
        ("Job", "batch/v1", f"template: {TEMPLATE}", "w-00000"),
        ("CronJob", "batch/v1", f"jobTemplate: {{spec: {{template: {TEMPLATE}}}}}", "w-00000"),
    ],
)
def test_a_workload_gives_one_pod_of_its_template(
    kind: str, version: str, spec: str, name: str
) -> None:
    text = (
        f"apiVersion: {version}\nkind: {kind}\n"
        "metadata: {name: w, namespace: ns, uid: not-the-pods, labels: {not: the-pods}}\n"
        f"spec:\n  {spec}\n"
    )
    (only,) = read(text, "w.yaml")
    assert (only.pod.namespace, only.pod.name, only.container.name) == ("ns", name, "c")
    assert only.pod.labels["a"] == "b"
    assert "not" not in only.pod.labels
    assert only.pod.uid != "not-the-pods"


def test_a_generated_name_gets_a_fixed_ending() -> None:
    text = "kind: Pod\nmetadata: {generateName: p-}\nspec: {containers: [{name: c}]}"
    assert names(text) == [("default", "p-00000", "c")]


def test_init_containers_come_first_and_ephemeral_ones_not_at_all() -> None:
    text = """
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: main}, {name: second}]
  ephemeralContainers: [{name: debug}]
  initContainers: [{name: setup}, {name: sidecar, restartPolicy: Always}]
"""
    assert [name for _, _, name in names(text)] == ["setup", "sidecar", "main", "second"]


def test_several_documents_and_lists_are_read_in_order() -> None:
    pod = "{kind: Pod, metadata: {name: %s}, spec: {containers: [{name: c}]}}"
    untyped = pod.replace("kind: Pod, ", "")
    text = "\n---\n".join(
        [
            pod % "a",
            "",
            f"{{kind: List, items: [{pod % 'b'}, {{kind: Service}}]}}",
            f"{{kind: PodList, items: [{untyped % 'c'}]}}",
            pod % "d",
            "",
        ]
    )
    assert [name for _, name, _ in names(text)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\n---\n# nothing\n",
        "{apiVersion: v1, kind: Service, spec: {}}",
        "{apiVersion: v1, kind: ConfigMap, data: {a: b}}",
        "{apiVersion: batch.example.com/v1, kind: Job, spec: {tasks: []}}",
    ],
)
def test_what_holds_no_pod_is_passed_over(text: str) -> None:
    assert read(text, "f") == []


def test_key_that_is_a_number_is_text_as_in_kubernetes() -> None:
    text = "{kind: Pod, metadata: {name: p, labels: {1: a}}, spec: {containers: [{name: c}]}}"
    assert read(text, "f")[0].pod.labels["1"] == "a"


@pytest.mark.slow
def test_list_may_have_lists_and_more_than_a_thousand_items() -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    inner = {"kind": "List", "items": [pod] * 1001}
    assert len(read(json.dumps({"kind": "List", "items": [inner, pod]}), "f")) == 1002


def test_scalars_are_read_as_kubernetes_reads_them() -> None:
    text = (
        "kind: Pod\nmetadata: {name: p, annotations: {date: 2020-01-01, sign: =}}\n"
        "spec: {containers: [{name: c}]}"
    )
    annotations = read(text, "f")[0].pod.annotations
    assert (annotations["date"], annotations["sign"]) == ("2020-01-01", "=")


@pytest.mark.parametrize(
    ("fields", "args"),
    [
        ({"command": ["a", "b"], "args": ["c"]}, ["a", "b", "c"]),
        ({"command": ["a"]}, ["a"]),
        ({"args": ["c"]}, ["sh", "c"]),
        ({}, ["sh"]),
    ],
)
def test_args_are_command_and_args_behind_a_shell_for_an_unknown_entry_point(
    fields: dict[str, Any], args: list[str]
) -> None:
    assert container(**fields).args == args


def test_env_has_path_host_name_and_the_manifests_variables_once_each() -> None:
    env = container(
        env=[
            {"name": "A", "value": "1=2"},
            {"name": "FROM", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PATH", "value": "/mine"},
            {"name": "A", "value": "2"},
        ]
    ).env
    assert env == ["PATH=/mine", "HOSTNAME=p", "A=2", "FROM="]


def test_every_container_has_the_standard_mounts() -> None:
    assert [mount.destination for mount in container().mounts] == [
        *("/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup"),
        *("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm"),
    ]


def test_volumes_of_the_host_and_empty_ones_are_mounted() -> None:
    both = planned(
        volumes=[
            {"name": "host", "hostPath": {"path": "/srv"}},
            {"name": "root", "hostPath": {"path": "/"}},
            {"name": "empty", "emptyDir": {}},
            {"name": "other", "configMap": {"name": "cm"}},
        ],
        containers=[
            {
                "name": "c",
                "volumeMounts": [
                    {"name": "host", "mountPath": "/a/b/c", "subPath": "x", "readOnly": True},
                    {"name": "root", "mountPath": "/host", "mountPropagation": "HostToContainer"},
                    {"name": "empty", "mountPath": "/dev/shm"},
                    {"name": "other", "mountPath": "/config"},
                ],
            }
        ],
    )
    found = mounts(both.container)
    assert found["/a/b/c"] == ("/srv/x", ["rbind", "rprivate", "ro"])
    assert found["/host"] == ("/", ["rbind", "rslave", "rw"])
    assert found["/dev/shm"] == (
        f"/var/lib/kubelet/pods/{both.pod.uid}/volumes/kubernetes.io~empty-dir/empty",
        ["rbind", "rprivate", "rw"],
    )
    assert "/config" not in found
    assert [*found][-1] == "/a/b/c"
    assert len(both.container.mounts) == len(found)


@pytest.mark.parametrize(
    ("requests", "limits", "shares", "quota", "memory"),
    [
        ({}, {}, 2, 0, 0),
        ({"cpu": "500m"}, {}, 512, 0, 0),
        ({"cpu": "100m"}, {"cpu": "2"}, 102, 200_000, 0),
        ({}, {"cpu": 0.5}, 512, 50_000, 0),
        ({}, {"cpu": "1m"}, 2, 1_000, 0),
        ({"cpu": 1000}, {"cpu": "1e3"}, 262_144, 100_000_000, 0),
        ({}, {"memory": "1Gi"}, 2, 0, 2**30),
        ({}, {"memory": "1.5k"}, 2, 0, 1500),
        ({}, {"memory": 123}, 2, 0, 123),
        ({}, {"memory": "100m"}, 2, 0, 1),
        ({}, {"memory": "99Ei"}, 2, 0, 2**63 - 1),
    ],
)
def test_resources_follow_requests_and_limits(
    requests: dict[str, Any], limits: dict[str, Any], shares: int, quota: int, memory: int
) -> None:
    told = resources(requests=requests, limits=limits)
    assert told.cpu.shares.value == shares
    assert told.cpu.period.value == 100_000
    assert (told.cpu.HasField("quota"), told.cpu.quota.value) == (quota != 0, quota)
    assert (told.memory.HasField("limit"), told.memory.limit.value) == (memory != 0, memory)


def test_the_containers_user_goes_before_the_pods_field_by_field() -> None:
    told = planned(
        securityContext={
            "runAsUser": 1,
            "runAsGroup": 2,
            "supplementalGroups": [7, 8],
            "fsGroup": 9,
        },
        containers=[{"name": "c", "securityContext": {"runAsUser": 0}}],
    ).container
    assert told.user == api.User(uid=0, gid=2, additional_gids=[7, 8, 9])


def test_the_seccomp_profile_is_the_containers_then_the_pods() -> None:
    local = {"seccompProfile": {"type": "Localhost", "localhostProfile": "x.json"}}
    default = {"seccompProfile": {"type": "RuntimeDefault"}}
    profile = planned(
        securityContext=default, containers=[{"name": "c", "securityContext": local}]
    ).container.linux.seccomp_profile
    assert profile == api.SecurityProfile(
        profile_type=api.SecurityProfile.LOCALHOST, localhost_ref="x.json"
    )
    inherited = planned(securityContext=default).container.linux.seccomp_profile
    assert inherited.profile_type == api.SecurityProfile.RUNTIME_DEFAULT


def test_a_shared_process_namespace_is_the_pods() -> None:
    shared = planned(shareProcessNamespace=True).container.linux.namespaces[0]
    assert (shared.type, shared.path) == ("pid", "/proc/4194305/ns/pid")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: b\n---\n- 1\n", "f.yaml: document 1: kind is missing"),
        (
            "kind: ConfigMap\n---\n- 1\n",
            "f.yaml: document 2: a list is not a map with kind, apiVersion",
        ),
        (
            "{kind: Deployment, metadata: {name: d}, spec: {template: {spec: {}}}}",
            "f.yaml: document 1: spec.template.spec: containers is missing",
        ),
        (
            "{kind: Pod, metadata: {name: p}, spec: {containers: []}}",
            "f.yaml: document 1: spec.containers: no containers; a pod must have at least one",
        ),
        (
            "{kind: List, items: [{kind: Pod, spec: {containers: [{name: c}]}}]}",
            "f.yaml: document 1: items[0].metadata: name is missing",
        ),
        (
            "&a {kind: List, items: [*a]}",
            "f.yaml: line 1, column 25: alias 'a' is inside its own anchor",
        ),
        (
            "{kind: Pod, metadata: {name: p, annotations: {a: yes}}, spec: {containers: [{}]}}",
            (
                "f.yaml: document 1: metadata.annotations.a: true is not text; put it in quotes;"
                " spec.containers[0]: name is missing"
            ),
        ),
        (
            "{kind: Pod, metadata: {name: p, labels: [a]}, spec: {containers: [{name: c}]}}",
            "f.yaml: document 1: metadata.labels: a list is not a map of text to text",
        ),
    ],
)
def test_a_fault_is_told_by_file_document_and_place(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, "f.yaml")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"command": "sh"}, "command: 'sh' is not a list"),
        ({"env": [{"name": "A", "value": 1}]}, "env[0].value: 1 is not text; put it in quotes"),
        ({"env": [{"value": "1"}]}, "env[0]: name is missing"),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            "volumeMounts[0].name: the pod has no volume 'v'",
        ),
        (
            {"resources": {"limits": {"cpu": "much"}}},
            "resources.limits.cpu: 'much' is not a quantity such as 500m or 2Gi",
        ),
        (
            {"resources": {"limits": {"memory": "-1"}}},
            "resources.limits.memory: '-1' is not a quantity such as 500m or 2Gi",
        ),
        (
            {"securityContext": {"runAsUser": -1}},
            "securityContext.runAsUser: -1 is not between 0 and 4294967295",
        ),
        (
            {"securityContext": {"runAsUser": "root"}},
            "securityContext.runAsUser: 'root' is not an integer",
        ),
        (
            {"securityContext": {"seccompProfile": {"type": "None"}}},
            (
                "securityContext.seccompProfile.type: 'None' must be one of"
                " Unconfined, RuntimeDefault, Localhost"
            ),
        ),
    ],
)
def test_a_containers_fault_is_told_by_place(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        container(**fields)
    assert str(caught.value) == f"p.json: document 1: spec.containers[0].{sentence}"


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\x00", "? [a]\n: b", "[" * 30_000])
def test_a_text_that_is_no_yaml_is_an_error_with_the_files_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^f\.yaml: "):
        read(text, "f.yaml")


def test_the_oci_spec_says_what_the_container_says() -> None:
    told = container(
        command=["sleep", "1"],
        resources={"limits": {"cpu": 1, "memory": "1k"}},
        securityContext={"runAsUser": 5},
    )
    spec = oci_spec(told)
    assert spec["process"] == {
        "user": {"uid": 5, "gid": 0},
        "args": ["sleep", "1"],
        "env": [*told.env],
        "cwd": "/",
    }
    assert spec["mounts"][0] == {
        "destination": "/proc",
        "type": "proc",
        "source": "proc",
        "options": ["nosuid", "noexec", "nodev"],
    }
    assert spec["annotations"] == dict(told.annotations)
    assert spec["linux"]["resources"] == {
        "cpu": {"shares": 1024, "quota": 100_000, "period": 100_000},
        "memory": {"limit": 1000},
        "devices": [{"allow": False, "access": "rwm"}],
    }
    assert spec["linux"]["namespaces"][:2] == [
        {"type": "pid"},
        {"type": "ipc", "path": "/proc/4194305/ns/ipc"},
    ]
    assert sorted(spec["linux"]) == ["cgroupsPath", "namespaces", "resources"]


def test_the_oci_spec_has_its_own_place_for_what_a_runtime_may_tell() -> None:
    told = api.Container(
        rlimits=[api.POSIXRlimit(type="RLIMIT_CORE")],
        hooks=api.Hooks(prestart=[api.Hook(path="/h", timeout=api.OptionalInt(value=0))]),
        linux=api.LinuxContainer(
            devices=[api.LinuxDevice(path="/dev/null", type="c", major=1, minor=3)],
            oom_score_adj=api.OptionalInt(value=0),
            scheduler=api.LinuxScheduler(policy=api.LinuxSchedulerPolicy.SCHED_FIFO, priority=3),
            seccomp_policy=api.LinuxSeccomp(default_action="SCMP_ACT_ALLOW"),
            rdt=api.LinuxRdt(clos_id=api.OptionalString(value="gold")),
            resources=api.LinuxResources(rdt_class=api.OptionalString(value="gold")),
        ),
    )
    spec = oci_spec(told)
    assert spec["process"] == {
        "user": {"uid": 0, "gid": 0},
        "cwd": "/",
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
        "oomScoreAdj": 0,
        "scheduler": {"policy": "SCHED_FIFO", "priority": 3},
    }
    assert spec["hooks"] == {"prestart": [{"path": "/h", "timeout": 0}]}
    assert spec["linux"] == {
        "devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}],
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "intelRdt": {"closID": "gold"},
        "resources": {},
    }


@pytest.mark.slow
def test_manifests_are_read_without_libyaml_as_well() -> None:
    program = (
        "import yaml\ndel yaml.CSafeLoader\n"
        "from nri_inject.runtime.manifests import read\n"
        "text = '{kind: Pod, metadata: {name: p}, spec: {containers: [{name: c}]}}'\n"
        "print(read(text, 'f')[0].container.name)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "c\n"
