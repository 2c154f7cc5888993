"""What `install` writes: the text of each file, a function of names."""

from __future__ import annotations

from typing import Final

DIRECTORY: Final = "/etc/nri-inject"
POLICY_FILE: Final = f"{DIRECTORY}/policy.yaml"
CONFIG_FILE: Final = f"{DIRECTORY}/config.yaml"

LOGS: Final = "/var/log/nri-inject"

POLICY: Final = """\
# Which container may have which device, mount or CDI device of this node. Only a rule allows
# something: a container that requests more fails, and its error in `kubectl describe pod` has the
# rule that is missing. Append that rule below, with "- " in front.
#
# The plugin reads this file when it changes. A version with a fault is not used, and
# `nri-inject status` reports the fault. Check it: nri-inject policy check --policy FILE
#
# Examples; remove the # in front of the lines of a rule to use it:
rules:
#- name: builds may mount with fuse
#  who: {namespaces: [ci]}
#  allow: {devices: [/dev/fuse]}
#- name: the stick by its lasting name, in one container of the pods with a label
#  who: {namespaces: [home], pods: {matchLabels: {app: zigbee}}, containers: [main]}
#  allow: {devices: ["/dev/serial/by-id/usb-*"]}
#- name: all GPUs by their CDI names
#  who: {namespaces: [ml]}
#  allow: {cdi_devices: ["nvidia.com/gpu=*"]}
#- name: models, to read only
#  who: {namespaces: [ml]}
#  allow: {mounts: ["/srv/models/**"]}
#- name: an agent's own pods start without its hook
#  who: {namespaces: [kube-system]}
#  deny: {hooks: [agent.json]}
"""


def drop_in(file_name: str, *, journal: bool = False) -> str:
    """Return the configuration that a runtime hands to the plugin `NN-name`.

    The log, which has the audit in it, goes to systemd's journal where there is one.
    """
    log = f"log: {{file: {LOGS}/{file_name}.log}}"
    if journal:
        log = "log: journal  # journalctl -t nri-inject"
    return f"""\
# Configuration of the plugin {file_name}. The runtime reads it when it starts, and passes it on.
policy:
  file: {POLICY_FILE}
{log}
"""


CONFIG: Final = f"""\
# Configuration of the service nri-inject, which reads this file again when it changes.
policy:
  file: {POLICY_FILE}
"""


def enabling(runtime: str, *, version: int | None = None) -> str:
    """Return the lines that switch NRI on in a runtime's configuration.

    `version` is that of a containerd file which has nothing else.
    """
    if runtime == "cri-o":
        return "[crio.nri]\nenable_nri = true\n"
    head = "" if version is None else f"version = {version}\n\n"
    table = '[plugins."io.containerd.nri.v1.nri"]'
    return f"{head}{table}\ndisable = false\ndisable_connections = false\n"


def unit(command: str, reload: str, runtime_unit: str) -> str:
    """Return the systemd unit of a plugin that connects to the runtime by itself.

    `command` is its whole command line, `reload` the one that upgrades it in place, and
    `runtime_unit` the unit of the runtime.

    It starts before the kubelet, so that no pod is created without it: with `Type=notify` it has
    started when a runtime has synchronized it. It needs the runtime's socket, the host's files to
    read, and its own status socket; the settings deny all else.
    """
    return f"""\
[Unit]
Description=Devices, CDI devices and OCI hooks for pods, through NRI
Documentation=man:systemd.service(5)
After={runtime_unit}.service
Before=kubelet.service
StartLimitIntervalSec=0

[Service]
Type=notify
# The worker sends READY, and its parent answers the watchdog.
NotifyAccess=all
ExecStart={command}
# The process becomes the version that is installed now, and keeps its connection.
ExecReload={reload}
Restart=always
RestartSec=2
WatchdogSec=30
TimeoutStartSec=90
OOMScoreAdjust=-500
RuntimeDirectory=nri-inject
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=restart
StateDirectory=nri-inject
StateDirectoryMode=0700

# The plugin reads the nodes in /dev, which PrivateDevices= would hide, and opens no device. The
# kernel tells it of devices by netlink. http_address needs PrivateNetwork=no, IPAddressAllow= and
# RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6.
CapabilityBoundingSet=
AmbientCapabilities=
DevicePolicy=closed
IPAddressDeny=any
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateNetwork=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@resources @privileged
UMask=0077

[Install]
WantedBy=multi-user.target
"""
