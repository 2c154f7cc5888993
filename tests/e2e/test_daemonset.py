"""The suite as the pod that deploy/kubernetes makes of it, through kills and restarts.

The manifest itself is read: its arguments, mounts, probes and security context are what runs.
NRI_E2E_ROUNDS is how many rounds of trouble there are.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from nri_inject.version import VERSION

from .conftest import NewRuntime
from .cri import CriError
from .daemon import Daemon
from .poll import until

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "deploy/kubernetes/base/daemonset.yaml"
IMAGE = f"registry.example.com/nri-inject:{VERSION}"
PROGRAM = "/usr/bin/nri-inject"
ROUNDS = int(os.environ.get("NRI_E2E_ROUNDS", "3"))
FUSE = {"devices.noderesource.dev/pod": "- path: /dev/fuse"}


class Suite:
    """The DaemonSet's one pod on a daemon, and the kubelet's part in its life."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self.daemon = daemon
        self.place = place
        self._template = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]
        self.spec = self._template["containers"][0]
        self._pod = daemon.cri.run_pod("nri-inject", "nri-inject")
        self._attempt = 0
        self.container = ""

    def source(self, volume: dict[str, Any]) -> str:
        """Return the host's directory for a volume: the node's own, or one of this test's."""
        if volume["name"] == "nri":
            return str(self.daemon.nri_socket.parent)
        if volume["name"] in ("dev", "sys"):
            return str(volume["hostPath"]["path"])
        directory = self.place / volume["name"]
        directory.mkdir(exist_ok=True)
        if "hostPath" not in volume:  # the kubelet makes these for everybody
            directory.chmod(0o777)
        return str(directory)

    def start(self) -> None:
        """Create and start the container as the manifest says, and wait until it is ready."""
        volumes = {volume["name"]: volume for volume in self._template["volumes"]}
        security = self.spec["securityContext"]
        self.container = self.daemon.cri.create(
            self._pod,
            "nri-inject",
            metadata={"name": "nri-inject", "attempt": self._attempt},
            image={"image": IMAGE, "user_specified_image": IMAGE},
            command=[PROGRAM],
            args=self.spec["args"],
            mounts=[
                {
                    "container_path": mount["mountPath"],
                    "host_path": self.source(volumes[mount["name"]]),
                    "readonly": mount.get("readOnly", False),
                }
                for mount in self.spec["volumeMounts"]
            ],
            linux={
                "security_context": {
                    "namespace_options": {"network": "NODE", "pid": "CONTAINER"},
                    "run_as_user": {"value": security["runAsUser"]},
                    "readonly_rootfs": security["readOnlyRootFilesystem"],
                    "no_new_privs": not security["allowPrivilegeEscalation"],
                    "capabilities": {"drop_capabilities": security["capabilities"]["drop"]},
                    "seccomp": {"profile_type": "RuntimeDefault"},
                }
            },
        )
        self._attempt += 1
        self.daemon.cri.start(self.container)
        self.wait_ready()

    def probe(self, name: str) -> bool:
        """Make an HTTP probe of the manifest; the pod has the network of the node here."""
        (port,) = self.spec["ports"]
        wanted = self.spec[name]["httpGet"]
        assert wanted["port"] == port["name"]
        url = f"http://127.0.0.1:{port['containerPort']}{wanted['path']}"
        try:
            with urllib.request.urlopen(url, timeout=self.spec[name]["timeoutSeconds"]) as page:
                return bool(page.status == 200)
        except OSError:  # it is not ready, or it does not listen
            return False

    def wait_ready(self) -> None:
        until(lambda: self.probe("readinessProbe"), "the suite to be ready")

    def status(self) -> dict[str, Any]:
        shown = self.daemon.cri.exec(self.container, PROGRAM, "status", "--format", "json")
        said: dict[str, Any] = json.loads(shown.stdout)["plugins"][0]
        return said

    def missed(self) -> list[str]:
        """Return the pods that were found to lack something, when all have been compared."""
        until(lambda: self.status()["to_compare"] == 0, "the comparison of all containers")
        return [one["pod"] for one in self.status()["missed"]["containers"]]

    def kill(self) -> None:
        """Kill the plugin as the kernel does when memory runs out."""
        os.kill(self.daemon.cri.details(self.container)["pid"], signal.SIGKILL)
        until(
            lambda: self.daemon.cri.list_containers()[self.container] == "CONTAINER_EXITED",
            "the plugin's end to be noticed",
        )

    def configure(self, text: str) -> None:
        """Change the ConfigMap, and restart the plugin so that it counts."""
        (self.place / "config" / "config.yaml").write_text(text)
        self.kill()
        self.replace()

    def replace(self) -> None:
        """Do as the kubelet does with a container that has ended."""
        self.daemon.cri.remove_container(self.container)
        self.start()


@pytest.fixture
def suite(new_runtime: NewRuntime, suite_image: Path, tmp_path: Path) -> Suite:
    daemon = new_runtime()
    daemon.start()
    daemon.load_archive(suite_image, IMAGE)
    (tmp_path / "config").mkdir()
    config = tmp_path / "config" / "config.yaml"
    config.write_text("policy: unrestricted\nhost_root: /host\n")
    made = Suite(daemon, tmp_path)
    made.start()
    return made


def has_fuse(suite: Suite, container: str) -> bool:
    shown = suite.daemon.cri.exec(container, "stat", "-c", "%t:%T", "/dev/fuse")
    return shown.stdout == "a:e5\n"


def run(suite: Suite, name: str) -> str:
    return suite.daemon.cri.run(suite.daemon.cri.run_pod(name, annotations=FUSE), "main")


def test_the_manifests_pod_has_no_powers_and_injects(suite: Suite) -> None:
    assert suite.probe("livenessProbe")
    assert has_fuse(suite, run(suite, "asks"))
    spec = suite.daemon.bundle_spec(suite.container)
    assert not spec["process"].get("capabilities", {}).get("bounding")
    assert spec["process"]["noNewPrivileges"]
    assert spec["root"]["readonly"]
    assert suite.status()["containers"]["changed"] == 1
    for path, mode, reason in (
        ("/host/dev/kmsg", "r", "Operation not permitted"),
        ("/x", "w", "Read-only file system"),
    ):
        opening = ("python3", "-c", f"open({path!r}, {mode!r})")
        assert reason in suite.daemon.cri.exec(suite.container, *opening).stderr


def test_a_device_that_is_denied_by_a_name_of_udev_is_not_injected(suite: Suite) -> None:
    rules = "{name: never, deny: {devices: [/dev/by-id/secret]}}, {allow: {devices: ['/dev/**']}}"
    suite.configure(f"policy: {{rules: [{rules}]}}\nhost_root: /host\n")
    assert has_fuse(suite, run(suite, "before"))
    note, _ = suite.status()["notes"]
    assert note.startswith("no udev database in /run/udev/data, and rules of")
    record = suite.place / "udev/data/c10:229"
    record.parent.mkdir()
    record.write_text("S:by-id/secret\n")
    with pytest.raises(CriError) as refused:
        run(suite, "after")
    assert "rule 'never' of this node's policy denies it" in str(refused.value)


def test_a_device_that_is_denied_by_a_link_is_not_injected_without_udev(suite: Suite) -> None:
    link = Path("/dev/nri-inject-test-link")
    rules = f"{{name: never, deny: {{devices: [{link}]}}}}, {{allow: {{devices: ['/dev/**']}}}}"
    suite.configure(f"policy: {{rules: [{rules}]}}\nhost_root: /host\n")
    link.unlink(missing_ok=True)
    assert has_fuse(suite, run(suite, "before"))
    link.symlink_to("fuse")
    try:
        with pytest.raises(CriError) as refused:
            run(suite, "after")
    finally:
        link.unlink()
    assert "rule 'never' of this node's policy denies it" in str(refused.value)


def test_what_the_pod_does_not_see_is_refused_and_not_said_to_be_missing(suite: Suite) -> None:
    cri = suite.daemon.cri
    source = "- {source: /etc/shadow, destination: /s, type: bind, options: [bind, ro]}"
    pod = cri.run_pod("asks", annotations={"mounts.noderesource.dev/pod": source})
    rules = "{allow: {mounts: [/etc/shadow], devices: ['/**']}}"
    suite.configure(f"policy: {{rules: [{rules}]}}\nhost_root: /host\n")
    with pytest.raises(CriError) as refused:
        cri.create(pod, "main")
    sees = "is not visible to the plugin, which sees only /dev, "
    assert f"/etc/shadow {sees}" in str(refused.value)
    fake = "- {path: /etc/shadow, type: c, major: 1, minor: 3}"
    pod = cri.run_pod("fakes", annotations={"devices.noderesource.dev/pod": fake})
    with pytest.raises(CriError) as refused:
        cri.create(pod, "main")
    assert f"on the host '/etc/shadow' {sees}" in str(refused.value)
    (note,) = suite.status()["notes"]
    assert note.startswith("the plugin sees only /dev, ")


@pytest.mark.soak
def test_nothing_is_lost_or_passed_over_through_kills_and_restarts(suite: Suite) -> None:
    cri = suite.daemon.cri
    # Else a container that is created too early would be refused at its start.
    suite.configure("policy: unrestricted\nhost_root: /host\non_no_answer: pass\n")
    for number in range(ROUNDS):
        before = run(suite, f"up-{number}")
        assert has_fuse(suite, before)

        suite.kill()
        down = run(suite, f"down-{number}")
        assert not has_fuse(suite, down)
        suite.replace()
        assert suite.missed() == [f"default/down-{number}"]

        again = run(suite, f"again-{number}")
        assert has_fuse(suite, again)
        suite.daemon.restart()
        between = run(suite, f"between-{number}")
        suite.wait_ready()
        # Whether the plugin was back in time is chance; that nobody is passed over is not.
        unlucky = [] if has_fuse(suite, between) else [f"default/between-{number}"]
        assert sorted(suite.missed()) == sorted([f"default/down-{number}", *unlucky])

        states = cri.list_containers()
        for container in (before, down, again, between, suite.container):
            assert states[container] == "CONTAINER_RUNNING"
        for pod in cri.list_pods():
            if pod != suite._pod:
                cri.remove_pod(pod)
        until(lambda: suite.status()["missed"]["count"] == 0, "removed pods to be forgotten")
