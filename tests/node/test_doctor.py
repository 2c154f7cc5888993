"""One host in order, and what the doctor says of every way in which it can be broken."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nri_inject.node.doctor import CHECKS, Finding, diagnose
from nri_inject.node.gather import gather
from nri_inject.node.runtime import look

KNOWN = ("nri-inject", "device-injector", "cdi-injector", "hook-injector")
TABLE = '[plugins."io.containerd.nri.v1.nri"]\n'
CONFIG = "etc/containerd/config.toml"
PLUGINS = "opt/nri/plugins"
CONF = "etc/nri/conf.d/20-nri-inject.conf"
HOOKS = "etc/containers/oci/hooks.d"
RUNNING = {
    "20-nri-inject.7": {
        "plugin": "20-nri-inject",
        "phase": "synchronized",
        "ready": True,
        "missed": {"count": 0, "containers": []},
    }
}


class Host:
    """A root directory with containerd 2, the suite, a policy and a runtime that listens."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.statuses: Mapping[str, Any] = RUNNING
        self.write(CONFIG, "version = 3\n")
        self.write(f"{PLUGINS}/20-nri-inject", "#!/bin/sh\n", 0o755)
        self.write(CONF, "policy:\n  file: /etc/nri-inject/policy.yaml\n")
        self.write("etc/nri-inject/policy.yaml", "rules: []\n")
        (root / "run/nri").mkdir(parents=True)
        (root / "var").mkdir()
        (root / "var/run").symlink_to("/run")
        # A socket's path is short, and a test's directory may be long.
        here = os.open(root / "run/nri", os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/proc/self/fd/{here}/nri.sock")
        os.close(here)

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def findings(self, release: tuple[int, int, int] | None = None) -> list[Finding]:
        node = dataclasses.replace(look(str(self.root)), release=release)
        return diagnose(gather(node, KNOWN, self.statuses))

    def problems(self) -> list[tuple[str, str]]:
        return [(one.check, one.what) for one in self.findings() if one.level == "problem"]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_nothing_is_wrong_with_a_host_in_order(host: Host) -> None:
    assert host.findings() == []


def unlink(host: Host, name: str) -> None:
    (host.root / name).unlink()


def says(host: Host, **said: Any) -> None:
    host.statuses = {"20-nri-inject.7": RUNNING["20-nri-inject.7"] | said}


def silence(host: Host) -> None:
    host.statuses = {"20-nri-inject.7": None}


def nobody(host: Host) -> None:
    host.statuses = {}


def uninstalled(host: Host) -> None:
    unlink(host, f"{PLUGINS}/20-nri-inject")
    nobody(host)


def two_running(host: Host) -> None:
    host.statuses = {**RUNNING, "20-nri-inject.8": RUNNING["20-nri-inject.7"]}


def gone(host: Host) -> None:
    host.write("etc/cdi/part.yaml", GONE)
    host.write("dev/null", "")  # the root has nodes


GONE = """\
cdiVersion: "0.5.0"
kind: example.com/part
devices:
- name: "0"
  containerEdits:
    deviceNodes: [{path: /dev/part0}]
    mounts: [{hostPath: /usr/bin/part-smi, containerPath: /usr/bin/part-smi}]
    hooks: [{hookName: createRuntime, path: /usr/bin/part-hook, env: [A=1]}]
"""


def plain_file_instead_of_socket(host: Host) -> None:
    unlink(host, "run/nri/nri.sock")
    host.write("run/nri/nri.sock", "")


def dangling(host: Host) -> None:
    unlink(host, f"{PLUGINS}/20-nri-inject")
    (host.root / PLUGINS / "20-nri-inject").symlink_to("../../nri-inject/current/nri-inject")


def validator(text: str) -> str:
    table = '[plugins."io.containerd.nri.v1.nri".default_validator]'
    return f"version = 3\n{table}\nenable = true\n{text}\n"


MISSED = {
    "count": 2,
    "containers": [{"pod": "ns/web", "container": "app", "lacks": ["device /dev/fuse"]}],
}
Break = Callable[[Host], None]
BROKEN: Mapping[str, tuple[Break, str, str]] = {
    "NRI off": (
        lambda host: host.write(CONFIG, f"version = 3\n{TABLE}disable = true\n"),
        "nri",
        "NRI is off in containerd",
    ),
    "NRI not told on": (
        lambda host: host.write(CONFIG, "version = 2\n"),
        "nri",
        (
            "/etc/containerd/config.toml does not set whether NRI is on; before containerd 2.0"
            " it is off"
        ),
    ),
    "socket missing": (
        lambda host: unlink(host, "run/nri/nri.sock"),
        "socket",
        "NRI socket /var/run/nri/nri.sock: no such file or directory",
    ),
    "socket is a file": (
        plain_file_instead_of_socket,
        "socket",
        "NRI socket /var/run/nri/nri.sock: is not a socket",
    ),
    "hooks rejected": (
        lambda host: host.write(CONFIG, validator("reject_oci_hook_adjustment = true")),
        "validator",
        "the runtime's default validator rejects every container that gets an OCI hook",
    ),
    "required plugin missing": (
        lambda host: host.write(CONFIG, validator('required_plugins = ["sgx-epc"]')),
        "validator",
        (
            "the runtime requires the plugin sgx-epc, which is not installed: no container can be"
            " created"
        ),
    ),
    "fatal file name": (
        lambda host: host.write(f"{PLUGINS}/notes.sh", "", 0o755),
        "file-names",
        "/opt/nri/plugins/notes.sh is executable, but its name is not NN-name, so containerd stops",
    ),
    "not executable": (
        lambda host: host.write(f"{PLUGINS}/11-other", "", 0o644),
        "launchable",
        "/opt/nri/plugins/11-other is not executable, so runtimes ignore it",
    ),
    "dangling link": (
        dangling,
        "launchable",
        "/opt/nri/plugins/20-nri-inject is a dangling link, so the plugin does not start",
    ),
    "index twice": (
        lambda host: host.write(f"{PLUGINS}/20-other", "", 0o755),
        "indexes",
        ("index 20 is used by 20-nri-inject and 20-other, so their order is undefined"),
    ),
    "suite and part": (
        lambda host: host.write(f"{PLUGINS}/10-device-injector", "", 0o755),
        "twice",
        (
            "/opt/nri/plugins/10-device-injector and /opt/nri/plugins/20-nri-inject both start a"
            " plugin that injects the same, so every container that requests a device fails with a"
            " conflict"
        ),
    ),
    "launched and a service": (
        lambda host: host.write("etc/systemd/system/nri-inject.service", ""),
        "twice",
        (
            "/opt/nri/plugins/20-nri-inject and /etc/systemd/system/nri-inject.service both start"
            " a plugin that injects the same, so every container that requests a device fails with"
            " a conflict"
        ),
    ),
    "two running": (
        two_running,
        "twice",
        (
            "plugin 20-nri-inject runs 2 times, so every container that requests a device fails"
            " with a conflict"
        ),
    ),
    "not installed": (
        uninstalled,
        "installed",
        (
            "nri-inject is not installed: /opt/nri/plugins has no plugin of it, there is no unit,"
            " and no plugin of it runs; pods start without the devices that they request"
        ),
    ),
    "what a spec names is gone": (
        gone,
        "cdi",
        (
            "CDI {root}/etc/cdi/part.yaml: this host has no '/dev/part0', /usr/bin/part-smi does"
            " not exist: there is no '/usr', program /usr/bin/part-hook does not exist: there"
            " is no '/usr'; containers that request its devices fail"
        ),
    ),
    "plugin writable by others": (
        lambda host: (host.root / PLUGINS / "20-nri-inject").chmod(0o777),
        "owners",
        "/opt/nri/plugins/20-nri-inject can be written by everybody (mode 0777)",
    ),
    "configuration writable by others": (
        lambda host: (host.root / CONF).chmod(0o666),
        "owners",
        f"/{CONF} can be written by everybody (mode 0666)",
    ),
    "plugin dropped": (
        nobody,
        "registered",
        (
            "plugin 20-nri-inject is installed and does not run: the runtime has not launched it"
            " yet, or has disconnected it"
        ),
    ),
    "plugin killed or hanging": (
        silence,
        "registered",
        "plugin 20-nri-inject.7 does not answer: it was killed, or it hangs",
    ),
    "plugin not taken in": (
        lambda host: says(host, ready=False, phase="disconnected"),
        "registered",
        "plugin 20-nri-inject runs, but is not registered with a runtime (disconnected)",
    ),
    "containers missed": (
        lambda host: says(host, missed=MISSED),
        "missed",
        (
            "2 running containers were created without the plugin, the first: ns/web app lacks"
            " device /dev/fuse"
        ),
    ),
    "misspelt key": (
        lambda host: host.write(CONF, "policy: unrestricted\non_unsuported: warn\n"),
        "configuration",
        f"/{CONF}: unknown key 'on_unsuported'; did you mean 'on_unsupported'?",
    ),
    "no YAML": (
        lambda host: host.write(CONF, "policy: [\n"),
        "configuration",
        f"/{CONF}: line 2, column 1: did not find expected node content while parsing a flow node",
    ),
    "no policy": (
        lambda host: host.write(CONF, "on_unsupported: warn\n"),
        "policy",
        f"/{CONF} has no policy",
    ),
    "policy file missing": (
        lambda host: unlink(host, "etc/nri-inject/policy.yaml"),
        "policy",
        f"/{CONF}: policy file /etc/nri-inject/policy.yaml does not exist",
    ),
    "policy file broken": (
        lambda host: host.write("etc/nri-inject/policy.yaml", "rules: [{allow: {devices: [x]}}]"),
        "policy",
        (
            "/etc/nri-inject/policy.yaml: rules: rule 1: allow: devices: item 1: 'x' is not an"
            " absolute path without '.', '..' and doubled slashes"
        ),
    ),
    "rules in the configuration broken": (
        lambda host: host.write(CONF, "policy: {rules: [{}]}\n"),
        "configuration",
        f"/{CONF}: policy: rules: rule 1: one of allow, deny, give is required",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found_and_nothing_else(host: Host, name: str) -> None:
    break_it, check, what = BROKEN[name]
    break_it(host)
    found = host.problems()
    assert (check, what.replace("{root}", str(host.root))) in found
    # A plugin that cannot be launched is not running either, and so on: one cause, few words.
    assert len(found) <= 2


def test_files_of_cdi_and_hooks_are_read_as_the_plugins_read_them(host: Host) -> None:
    host.write("etc/cdi/part.json", '{"cdiVersion": "1.1.0"}')
    host.write(f"{HOOKS}/hook.json", '{"version": "1.0.0"}')
    assert {check for check, _ in host.problems()} == {"cdi", "hooks"}


def test_a_file_that_no_program_reads_is_a_note(host: Host) -> None:
    host.write("etc/cdi/part.yml", "")
    host.write(f"{HOOKS}/hook.conf", "")
    unread, only = "is not read: its name ends in", "and only files that end in"
    assert [(one.level, one.what) for one in host.findings()] == [
        ("note", f"{host.root}/etc/cdi/part.yml {unread} '.yml', {only} .json or .yaml are read"),
        ("note", f"{host.root}/{HOOKS}/hook.conf {unread} '.conf', {only} .json are read"),
    ]


def test_connections_that_are_off_matter_to_who_connects(host: Host) -> None:
    host.write(CONFIG, f"version = 3\n{TABLE}disable_connections = true\n")
    assert [(one.check, one.level) for one in host.findings()] == [("connections", "note")]
    entry = {"kind": "file", "path": "/etc/systemd/system/nri-inject.service", "mark": ""}
    host.write("var/lib/nri-inject/installed.json", json.dumps({"installed": [entry]}))
    assert [(one.check, one.level) for one in host.findings()] == [("connections", "problem")]


def test_an_old_runtime_is_a_note_with_what_it_does_not_apply(host: Host) -> None:
    host.write(CONFIG, f"version = 2\n{TABLE}disable = false\n")
    notes = [one.what for one in host.findings((1, 7, 24))]
    assert notes[0] == (
        "containerd 1.7.24 is too old for access to a device that is not rw, io-priority,"
        " scheduling-policy, network-devices, sysctl, memory-policy"
    )
    assert notes[1] == "containerd 1.7.24 stops if a pre-installed plugin does not start"


IGNORES = (
    "containerd {} ignores the failure policy of plugins: if a plugin does not answer within"
    " 2 s, the container starts without it"
)


def no_answer(host: Host, release: tuple[int, int, int] | None = None) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in host.findings(release) if one.check == "no-answer"]


@pytest.mark.parametrize(
    ("said", "found"),
    [("ignored", [("note", IGNORES.format("2.4.2"))]), ("fails", []), ("passes", [])],
)
def test_a_running_plugin_says_whether_the_runtime_keeps_its_failure_policy(
    host: Host, said: str, found: list[tuple[str, str]]
) -> None:
    says(host, no_answer=said, runtime="containerd 2.4.2")
    assert no_answer(host, (2, 4, 0)) == found


def test_without_a_running_plugin_the_release_says_whether_a_failure_policy_is_kept(
    host: Host,
) -> None:
    nobody(host)
    assert no_answer(host, (2, 1, 9)) == [("note", IGNORES.format("2.1.9"))]
    assert no_answer(host) == []
    unlink(host, f"{PLUGINS}/20-nri-inject")
    assert no_answer(host, (2, 1, 9)) == []


def test_a_runtime_too_old_for_native_cdi_is_a_problem(host: Host) -> None:
    host.write(CONF, "policy: unrestricted\ncdi: {mode: native}\n")
    found = [one for one in host.findings((1, 7, 24)) if one.check == "configuration"]
    assert found[0].level == "problem"
    assert "does not apply CDI_devices" in found[0].what


def test_a_default_validator_that_is_not_switched_on_rejects_nothing(host: Host) -> None:
    host.write(CONFIG, validator('required_plugins = ["sgx-epc"]').replace("enable = true\n", ""))
    assert host.findings() == []


def test_a_default_validator_that_the_runtime_does_not_have_checks_nothing(host: Host) -> None:
    host.write(CONFIG, validator("reject_oci_hook_adjustment = true"))
    told = [one.what for one in host.findings((2, 1, 9)) if one.check == "validator"]
    assert told == [
        ("containerd 2.1.9 has no default validator, so the configured one checks nothing")
    ]
    told = [one.what for one in host.findings((2, 2, 0)) if one.check == "validator"]
    assert told == ["the runtime's default validator rejects every container that gets an OCI hook"]


def test_a_policy_of_nothing_at_all_is_a_note(host: Host) -> None:
    host.write(CONF, "policy: unrestricted\nunsafe_files: true\n")
    assert {(one.check, one.level) for one in host.findings()} == {
        ("policy", "note"),
        ("configuration", "note"),
    }


def test_what_a_plugin_cannot_see_is_a_note(host: Host) -> None:
    says(host, notes=["the plugin sees no database of udev"])
    (found,) = host.findings()
    assert (found.check, found.level) == ("notes", "note")
    assert found.what == "20-nri-inject: the plugin sees no database of udev"


def test_a_policy_that_names_links_on_a_host_without_udev_is_a_note(host: Host) -> None:
    rules = "rules: [{name: never, deny: {devices: [/dev/null, /dev/disk/by-id/x]}}]\n"
    host.write("etc/nri-inject/policy.yaml", rules)
    (found,) = host.findings()
    assert (found.check, found.level) == ("policy", "note")
    assert found.what.startswith(
        "/etc/nri-inject/policy.yaml names links to devices, such as /dev/disk/by-id/x, and this"
        " host has no database of udev in /run/udev/data"
    )
    host.write("run/udev/data/b7:0", "S:disk/by-id/x\n")
    assert host.findings() == []


@pytest.mark.parametrize("name", BROKEN)
def test_every_finding_says_what_to_do(host: Host, name: str) -> None:
    BROKEN[name][0](host)
    assert all(finding.do for finding in host.findings())


def test_every_check_has_a_test() -> None:
    tested = {check for _, check, _ in BROKEN.values()}
    tested |= {"cdi", "hooks", "unread", "connections", "release", "notes", "no-answer"}
    assert tested == set(CHECKS)
