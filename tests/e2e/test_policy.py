"""The policy on real runtimes: what is denied by default, and what a rule allows, exactly."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from .conftest import NewRuntime
from .cri import CriError
from .daemon import Daemon
from .plugin import External, install

COMMAND = "nri-device-injector"
FUSE = {"devices.noderesource.dev": "- path: /dev/fuse\n"}
# The number of /dev/full, under the name of a device that a rule allows.
FAKE = {"devices.noderesource.dev": "- {path: /dev/fuse, type: c, major: 1, minor: 7}\n"}
ROOT = {
    "mounts.noderesource.dev": (
        "- {source: /, destination: /host, type: bind, options: [rbind, rw]}\n"
    )
}
FUSE_ALLOWED = "rules: [{name: fuse, who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}]\n"

FAILED = "pod ci/build, container main: "
NOBODY_MAY = f"{FAILED}annotation "
NO_POLICY = "no rule of this node's policy (none configured) allows it; a rule that allows it: "
DENIED = {
    "device": (
        FUSE,
        (
            "devices.noderesource.dev: device '/dev/fuse': "
            + NO_POLICY
            + "{who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}"
        ),
    ),
    "mount of the root": (
        ROOT,
        (
            "mounts.noderesource.dev: mount of '/' at '/host': "
            + NO_POLICY
            + "{who: {namespaces: [ci]}, allow: {mounts:"
            " [{source: /, access: rw, destination: /host}]}}"
        ),
    ),
    "fake number": (
        FAKE,
        (
            # A pod that may have no device does not learn which one has the number.
            "devices.noderesource.dev: device '/dev/fuse': "
            + NO_POLICY
            + "{who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}"
        ),
    ),
}

StartPlugin = Callable[[str], External]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return the policy file that `start` names when its configuration does."""
    return tmp_path / "policy.yaml"


@pytest.fixture
def start(runtime: Daemon, tmp_path: Path) -> Iterator[StartPlugin]:
    """Start the injector, with a configuration, beside the shared runtime."""
    with ExitStack() as plugins:

        def start_plugin(config: str) -> External:
            file = tmp_path / "config.yaml"
            file.write_text(config)
            plugin = External(COMMAND, runtime, tmp_path / "plugin.log", "--config", str(file))
            return plugins.enter_context(closing(plugin))

        yield start_plugin


def refused(daemon: Daemon, annotations: dict[str, str], namespace: str = "ci") -> str:
    """Return why the container of a pod is not created, as the kubelet shows it."""
    pod = daemon.cri.run_pod("build", namespace, annotations=annotations)
    with pytest.raises(CriError) as caught:
        daemon.cri.create(pod, "main")
    return caught.value.message


def created(daemon: Daemon, annotations: dict[str, str], namespace: str = "ci") -> str:
    pod = daemon.cri.run_pod("build", namespace, annotations=annotations)
    return daemon.cri.run(pod, "main")


def opens_fuse(daemon: Daemon, container: str) -> bool:
    script = "test -c /dev/fuse && exec 3<>/dev/fuse"
    return daemon.cri.exec(container, "sh", "-c", script).exit_code == 0


@pytest.mark.parametrize(("annotations", "reason"), DENIED.values(), ids=DENIED)
def test_a_default_install_denies_what_reaches_for_the_host(
    runtime: Daemon, start: StartPlugin, annotations: dict[str, str], reason: str
) -> None:
    start("")
    assert refused(runtime, annotations) == runtime.refusal + NOBODY_MAY + reason


def test_preinstalled_without_a_configuration_it_denies_too_and_others_go_on(
    new_runtime: NewRuntime,
) -> None:
    daemon = new_runtime()
    install(COMMAND, daemon, "10-device-injector")
    daemon.start()
    for asked, reason in DENIED.values():
        assert refused(daemon, asked) == daemon.refusal + NOBODY_MAY + reason
    assert not opens_fuse(daemon, created(daemon, {}))


def test_a_policy_allows_exactly_what_it_names(
    runtime: Daemon, start: StartPlugin, policy: Path
) -> None:
    policy.write_text(FUSE_ALLOWED)
    start(f"policy: {{file: {policy}}}\n")
    assert opens_fuse(runtime, created(runtime, FUSE))

    assert refused(runtime, FAKE).endswith(
        "device '/dev/fuse' (c 1:7, /dev/full): the host's '/dev/fuse' is c 10:229, another device"
    )
    assert f"mount of '/' at '/host': no rule of {policy} allows it" in refused(runtime, ROOT)
    other = {"devices.noderesource.dev": "- path: /dev/zero\n"}
    assert f"device '/dev/zero' (c 1:5): no rule of {policy} allows it" in refused(runtime, other)
    elsewhere = refused(runtime, FUSE, namespace="lab")
    assert f"device '/dev/fuse': no rule of {policy} allows it" in elsewhere


def test_a_rule_for_reading_gives_a_mount_that_cannot_be_written(
    runtime: Daemon, start: StartPlugin, policy: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "weights").write_text("from the host\n")
    policy.write_text(f"rules: [{{allow: {{mounts: [{models}]}}}}]\n")
    start(f"policy: {{file: {policy}}}\n")

    def mount(options: str) -> dict[str, str]:
        wish = f"- {{source: {models}, destination: /in, type: bind, options: [{options}]}}\n"
        return {"mounts.noderesource.dev": wish}

    container = created(runtime, mount("bind, ro"))
    assert runtime.cri.exec(container, "cat", "/in/weights").stdout == "from the host\n"
    assert "Read-only file system" in runtime.cri.exec(container, "touch", "/in/x").stderr
    assert "it allows only reading (access: ro)" in refused(runtime, mount("bind"))
    assert "it contains both ro and rw" in refused(runtime, mount("bind, rw, ro"))
    assert "ro keeps mounts below the source writable" in refused(runtime, mount("rbind, ro"))


def audited(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_warn_mode_creates_the_container_and_tells_what_enforcing_would_deny(
    runtime: Daemon, start: StartPlugin, policy: Path, tmp_path: Path
) -> None:
    policy.write_text("mode: warn\n")
    audit = tmp_path / "audit.jsonl"
    plugin = start(f"policy: {{file: {policy}}}\naudit: {{file: {audit}}}\n")
    container = created(runtime, FUSE)
    assert opens_fuse(runtime, container)
    assert (
        "pod ci/build, container main: would be denied: device '/dev/fuse' (c 10:229): "
        f"no rule of {policy} allows it; a rule that allows it: "
        "{who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}"
    ) in plugin.log
    (line,) = audited(audit)
    told = ("container_id", "namespace", "pod", "container", "decision", "outcome", "resolved")
    assert [line[key] for key in told] == [
        *(container, "ci", "build", "main", "warn", "injected", "c 10:229 /dev/fuse")
    ]


def test_skipping_creates_the_container_without_what_it_may_not_have(
    runtime: Daemon, start: StartPlugin, policy: Path
) -> None:
    policy.write_text(f"on_deny: skip\n{FUSE_ALLOWED}")
    plugin = start(f"policy: {{file: {policy}}}\n")
    container = created(runtime, {**FUSE, **ROOT})
    assert opens_fuse(runtime, container)
    assert runtime.cri.exec(container, "ls", "/host").exit_code != 0
    assert "pod ci/build, container main: left out: mount of '/' at '/host'" in plugin.log


def test_a_changed_policy_counts_for_the_next_container_and_a_bad_version_never(
    runtime: Daemon, start: StartPlugin, policy: Path
) -> None:
    policy.write_text("")
    plugin = start(f"policy: {{file: {policy}}}\n")
    assert f"no rule of {policy} allows it" in refused(runtime, FUSE)

    policy.write_text(FUSE_ALLOWED)
    assert opens_fuse(runtime, created(runtime, FUSE))

    policy.write_text("rules: [{allow: {devices: ['/**']}, denny: {}}]\n")
    assert opens_fuse(runtime, created(runtime, FUSE))
    assert "another device" in refused(runtime, FAKE)
    assert (
        "policy rejected, the previous version stays in force: "
        f"{policy}: rules: rule 1: unknown key 'denny'; did you mean 'deny'?"
    ) in plugin.log

    policy.chmod(0o666)
    policy.write_text("rules: [{allow: {mounts: [{source: /, access: rw}]}}]\n")
    assert f"no rule of {policy} allows it" in refused(runtime, ROOT)
    assert f"{policy} can be written by everybody (mode 0666); refusing to read it" in plugin.log


# --- CDI devices and hooks --------------------------------------------------------------------

PART = {"cdi-devices.noderesource.dev": "[example.com/part=0]"}
OTHER = {"cdi-devices.noderesource.dev": "[example.com/part=0, example.com/part=1]"}
PART_ALLOWED = (
    "rules: [{name: part, who: {namespaces: [ci]}, allow: {cdi_devices: [example.com/part=0]}}]\n"
)
NOTE_DENIED = "rules: [{name: quiet, who: {namespaces: [ci]}, deny: {hooks: [note.json]}}]\n"

SUITE = f"#!{sys.executable}\nfrom nri_inject.plugins.suite import main\nmain()\n"

StartSuite = Callable[[str], External]


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """Return the file to which the suite's one hook adds a line."""
    return tmp_path / "noted"


@pytest.fixture
def suite(runtime: Daemon, tmp_path: Path, noted: Path, policy: Path) -> Iterator[StartSuite]:
    """Start the suite with two CDI devices and a hook, under the text of a policy, or none."""
    for name in ("cdi", "hooks.d"):
        (tmp_path / name).mkdir()
    devices = [{"name": name, "containerEdits": {"env": [f"PART{name}=on"]}} for name in ("0", "1")]
    spec = {"cdiVersion": "0.6.0", "kind": "example.com/part", "devices": devices}
    (tmp_path / "cdi/part.json").write_text(json.dumps(spec))
    program, note = tmp_path / "suite", tmp_path / "note"
    for file, script in ((program, SUITE), (note, f"#!/bin/sh\necho ran >> {noted}\n")):
        file.write_text(script)
        file.chmod(0o755)
    hook = {"version": "1.0.0", "hook": {"path": str(note)}, "when": {"always": True}}
    hook["stages"] = ["createRuntime"]
    (tmp_path / "hooks.d/note.json").write_text(json.dumps(hook))
    dirs = ("--cdi-dir", str(tmp_path / "cdi"), "--hooks-dir", str(tmp_path / "hooks.d"))
    with ExitStack() as plugins:

        def start_suite(text: str) -> External:
            policy.write_text(text)
            named = ("--policy", str(policy)) if text else ()
            log = tmp_path / "plugin.log"
            plugin = External(str(program), runtime, log, *dirs, *named)
            return plugins.enter_context(closing(plugin))

        yield start_suite


def parts(daemon: Daemon, container: str) -> str:
    return daemon.cri.exec(container, "sh", "-c", "echo $PART0 $PART1").stdout.strip()


def test_without_a_policy_cdi_devices_are_denied_and_the_admins_hooks_run(
    runtime: Daemon, suite: StartSuite, noted: Path
) -> None:
    suite("")
    place = "annotation cdi-devices.noderesource.dev: "
    reason = f"{place}CDI device 'example.com/part=0': {NO_POLICY}"
    rule = "{who: {namespaces: [ci]}, allow: {cdi_devices: [example.com/part=0]}}"
    assert refused(runtime, PART) == runtime.refusal + FAILED + reason + rule
    assert not noted.exists()
    created(runtime, {})
    assert noted.read_text() == "ran\n"


def test_a_policy_allows_exactly_the_cdi_devices_that_it_names(
    runtime: Daemon, suite: StartSuite, policy: Path
) -> None:
    suite(PART_ALLOWED)
    assert parts(runtime, created(runtime, PART)) == "on"
    other = f"CDI device 'example.com/part=1': no rule of {policy} allows it"
    assert other in refused(runtime, OTHER)
    elsewhere = f"CDI device 'example.com/part=0': no rule of {policy} allows it"
    assert elsewhere in refused(runtime, PART, namespace="lab")


def test_skipping_leaves_out_the_cdi_device_and_the_hook_that_may_not_be(
    runtime: Daemon, suite: StartSuite, noted: Path
) -> None:
    plugin = suite(f"on_deny: skip\nrules: [{rule_of(PART_ALLOWED)}, {rule_of(NOTE_DENIED)}]\n")
    assert parts(runtime, created(runtime, OTHER)) == "on"
    assert not noted.exists()
    assert "pod ci/build, container main: left out: CDI device 'example.com/part=1'" in plugin.log
    assert "pod ci/build, container main: left out: hook " in plugin.log


def test_a_hook_that_a_rule_denies_is_left_out_and_what_was_requested_fails(
    runtime: Daemon, suite: StartSuite, policy: Path, noted: Path
) -> None:
    plugin = suite(NOTE_DENIED)
    created(runtime, {})
    assert not noted.exists()
    denied = f"hook 'note.json': rule 'quiet' of {policy} denies it"
    assert f"pod ci/build, container main: left out: {denied}" in plugin.log
    assert f"CDI device 'example.com/part=0': no rule of {policy} allows it" in refused(
        runtime, PART
    )
    created(runtime, {}, namespace="lab")
    assert noted.read_text() == "ran\n"


def test_warn_mode_gives_cdi_devices_and_hooks_and_tells_what_enforcing_would_deny(
    runtime: Daemon, suite: StartSuite, policy: Path, noted: Path
) -> None:
    plugin = suite(f"mode: warn\n{NOTE_DENIED}")
    assert parts(runtime, created(runtime, PART)) == "on"
    assert noted.read_text() == "ran\n"
    would = "pod ci/build, container main: would be denied: "
    assert f"{would}CDI device 'example.com/part=0': no rule of {policy} allows it" in plugin.log
    assert f"{would}hook " in plugin.log


def rule_of(policy: str) -> str:
    """Return the one rule of a policy."""
    return policy.removeprefix("rules: [").removesuffix("]\n")


# --- sources through another process ------------------------------------------------------------

MEDIA_ALLOWED = "rules: [{{allow: {{mounts: [{media}]}}}}]\n"


def asked_mount(source: str) -> dict[str, str]:
    wish = f"- {{source: {source}, destination: /x, type: bind, options: [rbind, rro]}}\n"
    return {"mounts.noderesource.dev": wish}


def host_pid(daemon: Daemon, container: str) -> int:
    return int(daemon.cri.details(container)["pid"])


@pytest.mark.parametrize("way", ["launched", "external"])
def test_no_source_leads_through_another_containers_file_tree(
    new_runtime: NewRuntime, policy: Path, tmp_path: Path, way: str
) -> None:
    """A container plants a link in its own tree; another one reaches for it by /proc/PID/root."""
    media = tmp_path / "media"
    media.mkdir()
    policy.write_text(MEDIA_ALLOWED.format(media=media))
    daemon = new_runtime()
    with ExitStack() as plugins:
        if way == "launched":
            install(COMMAND, daemon, "10-device-injector", f"policy: {{file: {policy}}}\n")
            daemon.start()
        else:
            daemon.start()
            options = ("--policy", str(policy))
            plugin = External(COMMAND, daemon, tmp_path / "plugin.log", *options)
            plugins.enter_context(closing(plugin))
        planter = created(daemon, {})
        assert daemon.cri.exec(planter, "mkdir", "-p", str(media.parent)).exit_code == 0
        assert daemon.cri.exec(planter, "ln", "-s", "/", str(media)).exit_code == 0
        tree = f"/proc/{host_pid(daemon, planter)}"
        climb = "../" * len(media.parts)
        root = f"{tree}/root"
        for source in (f"{root}/{climb}{media}", f"{media}/../{media.name}"):
            told = refused(daemon, asked_mount(source))
            assert told.endswith("contains '..'; name the path without it")
        policy.write_text(MEDIA_ALLOWED.format(media="'/**'"))
        for start in (root, f"{tree}/cwd", "/proc/self/root", "/dev/fd/0"):
            assert refused(daemon, asked_mount(f"{start}{media}")).endswith(", a link on procfs")
        assert refused(daemon, asked_mount("/proc/1")).endswith("its source leads through procfs")
        (tmp_path / "link").symlink_to(f"{tree}/root")
        assert refused(daemon, asked_mount(f"{tmp_path}/link/etc")).endswith(", a link on procfs")


def test_the_runtime_mounts_the_path_that_was_judged(
    runtime: Daemon, start: StartPlugin, policy: Path, tmp_path: Path
) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media/file").write_text("from the host\n")
    (tmp_path / "link").symlink_to("media")
    audit = tmp_path / "audit.jsonl"
    policy.write_text(MEDIA_ALLOWED.format(media=tmp_path))
    start(f"policy: {{file: {policy}}}\naudit: {{file: {audit}}}\n")
    container = created(runtime, asked_mount(f"{tmp_path}/link/"))
    assert runtime.cri.exec(container, "cat", "/x/file").stdout == "from the host\n"
    mounts = runtime.bundle_spec(container)["mounts"]
    assert [m["source"] for m in mounts if m["destination"] == "/x"] == [f"{tmp_path}/media"]
    (line,) = audited(audit)
    assert line["resolved"] == f"{tmp_path}/media bind ro"
