"""Where runtimes and distributions of Kubernetes keep what matters to NRI: a table of facts.

Sources: containerd's docs/NRI.md and man page containerd-config.toml(5) (1.7 and 2.2), CRI-O's
crio.conf(5) (1.37), the page "Advanced options" of k3s and the same of RKE2 (1.33: containerd's
configuration is generated, from a template if there is one, and imports the directory
`config-v3.toml.d`), and MicroK8s' default arguments (1.33: `${SNAP_DATA}/args`). NRI's own
directories are the same in all of them unless their configuration says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SOCKET: Final = "/var/run/nri/nri.sock"
PLUGINS: Final = "/opt/nri/plugins"
CONFIGURATIONS: Final = "/etc/nri/conf.d"

_RANCHER: Final = "agent/etc/containerd"


@dataclass(frozen=True, slots=True)
class Distribution:
    """One way in which a runtime comes to a node.

    `config` is what the runtime reads. Where that is generated at each start, `template` is what
    an admin changes instead. `drop_ins` is a directory of which every `*.toml` or `*.conf` is
    read as well, if the runtime does so by default. `binaries` are where the
    runtime's executable may be; one of them or `config` means that the distribution is there.
    """

    name: str
    runtime: Literal["containerd", "cri-o"]
    config: str
    binaries: tuple[str, ...]
    unit: str
    template: str = ""
    drop_ins: str = ""


DISTRIBUTIONS: Final = (
    Distribution(
        "k3s",
        "containerd",
        f"/var/lib/rancher/k3s/{_RANCHER}/config.toml",
        ("/var/lib/rancher/k3s/data/current/bin/containerd",),
        "k3s (k3s-agent on a worker)",
        template=f"/var/lib/rancher/k3s/{_RANCHER}/config-v3.toml.tmpl",
    ),
    Distribution(
        "rke2",
        "containerd",
        f"/var/lib/rancher/rke2/{_RANCHER}/config.toml",
        ("/var/lib/rancher/rke2/bin/containerd",),
        "rke2-server (rke2-agent on a worker)",
        template=f"/var/lib/rancher/rke2/{_RANCHER}/config-v3.toml.tmpl",
    ),
    Distribution(
        "microk8s",
        "containerd",
        "/var/snap/microk8s/current/args/containerd.toml",
        ("/snap/microk8s/current/bin/containerd",),
        "snap.microk8s.daemon-containerd",
        template="/var/snap/microk8s/current/args/containerd-template.toml",
    ),
    Distribution(
        "containerd",
        "containerd",
        "/etc/containerd/config.toml",
        ("/usr/bin/containerd", "/usr/local/bin/containerd"),
        "containerd",
    ),
    Distribution(
        "cri-o",
        "cri-o",
        "/etc/crio/crio.conf",
        ("/usr/bin/crio", "/usr/local/bin/crio"),
        "crio",
        drop_ins="/etc/crio/crio.conf.d",
    ),
)
