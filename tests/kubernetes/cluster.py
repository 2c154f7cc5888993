"""A cluster of one node: etcd, containerd, and Kubernetes' own four servers."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from e2e import image, leftovers, poll
from e2e.archive import REPOSITORY
from e2e.daemon import PREFIX

from . import node
from .keys import write_keys
from .node import Node
from .programs import CACHE, Programs

SERVICE = "10.96.0.1"
"""The address of the API server among the services."""
HELM = REPOSITORY / ".cache" / "bin" / "helm"
"""`make e2e-kubernetes` builds it."""
SECONDS = 120.0
"""For a step of the cluster on a busy machine."""

CONTAINERD = """\
version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{pause}"

[plugins.'io.containerd.cri.v1.runtime']
disable_apparmor = true
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{network_plugins}"]
conf_dir = "{directory}/network"
"""
# As docs/when-it-is-down.md has it.
REQUIRED = """
[plugins.'io.containerd.nri.v1.nri'.default_validator]
enable = true
required_plugins = ["nri-inject"]
tolerate_missing_plugins_annotation = "tolerate-missing-plugins.noderesource.dev"
"""

KUBELET = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {keys}/ca.crt}}
authorization: {{mode: Webhook}}
tlsCertFile: {keys}/kubelet.crt
tlsPrivateKeyFile: {keys}/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
failCgroupV1: false
failSwapOn: false
resolvConf: ""
syncFrequency: 10s
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}}
imageGCHighThresholdPercent: 100
oomScoreAdj: 0
"""
"""It accepts cgroup v1 and a root without CAP_SYS_RESOURCE, and mounts a changed map after 10 s."""

NETWORK = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "cni0",
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.99.0.0/24", "rangeStart": "10.99.0.10"}]],
                "routes": [{"dst": "0.0.0.0/0", "gw": node.ADDRESS}],
            },
        }
    ],
}


class Refused(Exception):
    """kubectl failed; the text is its error."""


class Cluster:
    """The cluster, with everything that it writes in one directory of .cache."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        CACHE.mkdir(parents=True, exist_ok=True)
        leftovers.sweep(CACHE, PREFIX)  # of runs that were killed
        self.directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=CACHE))
        self._claim = leftovers.claim(self.directory)
        self._node = Node(self.directory)
        self._keys = self.directory / "keys"
        write_keys(self._keys, node.NAME, node.ADDRESS, SERVICE)
        network = self.directory / "network"
        network.mkdir()
        (network / "pods.conflist").write_text(json.dumps(NETWORK))
        self._write("kubelet.yaml", KUBELET)

    def start(self, *, plugin_required: bool = False) -> None:
        """Boot the node and start all daemons, each when the ones that it needs are ready."""
        self._write("containerd.toml", CONTAINERD + (REQUIRED if plugin_required else ""))
        self._node.boot()
        self._start_etcd()
        self._start_containerd()
        self._start_apiserver()
        self._start_controller_manager()
        self._start_scheduler()
        self._start_kubelet()

    def reboot(self, *, plugin_required: bool = False) -> None:
        """Cut the node's power and start it again, its disk as it was."""
        self._node.cut_power()
        self.start(plugin_required=plugin_required)

    def close(self) -> None:
        """End everything, and remove its cgroups and files."""
        self._node.cut_power()
        leftovers.clear(self.directory)
        self._claim.close()

    def load_image(self) -> None:
        """Make the image of the tests' pods (see `image.write_image`), and load it."""
        archive = self.directory / "image.tar"
        image.write_image(self._programs.archive.busybox, archive)
        self.load_archive(archive)
        archive.unlink()

    def load_archive(self, archive: Path) -> None:
        """Load an image from its archive, as on a node without a registry."""
        self._ctr("images", "import", str(archive))

    def kubectl(
        self, *arguments: str | Path, given: str | None = None, statuses: Collection[int] = (0,)
    ) -> str:
        """Run kubectl as an admin, and return its output. Raises Refused for other statuses."""
        config = ("--kubeconfig", self._keys / "admin.conf")
        program = self._programs.debian / "usr/bin/kubectl"
        done = self._node.run(program, *config, *arguments, input=given)
        if done.returncode not in statuses:
            raise Refused(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def helm(self, *arguments: str | Path, given: str | None = None) -> str:
        """Run helm as an admin, with its files in the cluster's directory. Raises Refused."""
        directory = self.directory / "helm"
        places = {f"HELM_{name}_HOME": str(directory) for name in ("CACHE", "CONFIG", "DATA")}
        config = ("--kubeconfig", self._keys / "admin.conf")
        done = self._node.run(
            *(HELM, *config, *arguments), input=given, env={"PATH": self._programs.path, **places}
        )
        if done.returncode:
            raise Refused(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def apply(self, *documents: Any) -> None:
        """Create or change objects."""
        self.kubectl("apply", "--filename=-", given=yaml.safe_dump_all(documents))

    def get(self, *arguments: str) -> Any:
        """Return an object, or a list of them."""
        return json.loads(self.kubectl("get", *arguments, "--output=json"))

    def describe(self, pod: str, namespace: str) -> str:
        """Return what a pod's author reads, with all spaces as one."""
        said = self.kubectl("describe", "pod", pod, f"--namespace={namespace}")
        return " ".join(said.split())

    def logs(self) -> str:
        """Return the end of each daemon's log, for a failure."""
        logs = sorted(self.directory.glob("*.log"))
        return "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in logs)

    def _start_etcd(self) -> None:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self._start(
            "etcd",
            *("--data-dir=/var/lib/etcd/data", "--unsafe-no-fsync"),
            *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
            f"--listen-peer-urls={peer}",
        )

    def _start_containerd(self) -> None:
        self._start("containerd", f"--config={self.directory}/containerd.toml")
        poll.until(self._containerd_is_ready, "containerd", SECONDS)

    def _start_apiserver(self) -> None:
        keys = self._keys
        self._start(
            "kube-apiserver",
            f"--advertise-address={node.ADDRESS}",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--tls-cert-file={keys}/apiserver.crt",
            f"--tls-private-key-file={keys}/apiserver.key",
            f"--client-ca-file={keys}/ca.crt",
            f"--kubelet-client-certificate={keys}/apiserver.crt",
            f"--kubelet-client-key={keys}/apiserver.key",
            f"--kubelet-certificate-authority={keys}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}/accounts.pub",
            f"--service-account-signing-key-file={keys}/accounts.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
        )
        poll.until(self._apiserver_is_ready, "the API server", SECONDS)

    def _start_controller_manager(self) -> None:
        self._start(
            "kube-controller-manager",
            *self._client("controller-manager"),
            f"--service-account-private-key-file={self._keys}/accounts.key",
            f"--root-ca-file={self._keys}/ca.crt",
            *("--use-service-account-credentials", "--leader-elect=false"),
        )

    def _start_scheduler(self) -> None:
        self._start("kube-scheduler", *self._client("scheduler"), "--leader-elect=false")

    def _start_kubelet(self) -> None:
        self._start(
            "kubelet",
            f"--config={self.directory}/kubelet.yaml",
            f"--kubeconfig={self._keys}/kubelet.conf",
            f"--node-ip={node.ADDRESS}",
            f"--hostname-override={node.NAME}",
            "--v=2",
        )
        poll.until(self._node_is_there, "the kubelet to register the node", SECONDS)
        self.kubectl("wait", "--for=condition=Ready", f"node/{node.NAME}", "--timeout=120s")

    def _client(self, name: str) -> list[str]:
        """Return the options by which a server uses the API as a client."""
        config = self._keys / f"{name}.conf"
        kinds = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
        return [f"--{kind}={config}" for kind in kinds]

    def _start(self, program: str, *arguments: str) -> None:
        self._node.start(program, (program, *arguments), self._programs.path)

    def _containerd_is_ready(self) -> bool:
        try:
            self._ctr("version")
        except subprocess.CalledProcessError:
            return False
        return True

    def _apiserver_is_ready(self) -> bool:
        try:
            return self.kubectl("get", "--raw=/readyz") == "ok"
        except Refused:
            return False

    def _node_is_there(self) -> bool:
        try:
            return bool(self.get("node", node.NAME))
        except Refused:
            return False

    def _ctr(self, *arguments: str) -> None:
        ctr = self._programs.built / "ctr"
        self._node.run(ctr, "--namespace=k8s.io", *arguments).check_returncode()

    def _write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(
            text.format(
                cgroup=self._node.cgroup,
                directory=self.directory,
                keys=self._keys,
                network_plugins=self._programs.network_plugins,
                pause=image.NAME,
            )
        )
