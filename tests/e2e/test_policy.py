"""The policy on real runtimes: what is denied by default, and what a rule allows, exactly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from .conftest import NewRuntime
from .containerd import Containerd
from .cri import CriError
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

NOBODY_MAY = "pod ci/build, container main: annotation "
NO_POLICY = "no rule of this node's policy (none is configured) allows it; a rule that does: "
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
            "devices.noderesource.dev: device '/dev/fuse' (c 1:7, /dev/full): "
            + NO_POLICY
            + "{who: {namespaces: [ci]}, allow: {devices: [/dev/full]}}"
        ),
    ),
}

StartPlugin = Callable[[str], External]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Return the policy file that `start` names when its configuration does."""
    return tmp_path / "policy.yaml"


@pytest.fixture
def start(runtime: Containerd, tmp_path: Path) -> Iterator[StartPlugin]:
    """Start the injector, with a configuration, beside the shared runtime."""
    with ExitStack() as plugins:

        def start_plugin(config: str) -> External:
            file = tmp_path / "config.yaml"
            file.write_text(config)
            plugin = External(COMMAND, runtime, tmp_path / "plugin.log", "--config", str(file))
            return plugins.enter_context(closing(plugin))

        yield start_plugin


def refused(daemon: Containerd, annotations: dict[str, str], namespace: str = "ci") -> str:
    """Return why the container of a pod is not created, as the kubelet shows it."""
    pod = daemon.cri.run_pod("build", namespace, annotations=annotations)
    with pytest.raises(CriError) as caught:
        daemon.cri.create(pod, "main")
    return caught.value.message


def created(daemon: Containerd, annotations: dict[str, str]) -> str:
    pod = daemon.cri.run_pod("build", "ci", annotations=annotations)
    return daemon.cri.run(pod, "main")


def opens_fuse(daemon: Containerd, container: str) -> bool:
    script = "test -c /dev/fuse && exec 3<>/dev/fuse"
    return daemon.cri.exec(container, "sh", "-c", script).exit_code == 0


@pytest.mark.parametrize(("annotations", "reason"), DENIED.values(), ids=DENIED)
def test_a_default_install_denies_what_reaches_for_the_host(
    runtime: Containerd, start: StartPlugin, annotations: dict[str, str], reason: str
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
    runtime: Containerd, start: StartPlugin, policy: Path
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
    runtime: Containerd, start: StartPlugin, policy: Path, tmp_path: Path
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
    assert "it is for reading only (access: ro)" in refused(runtime, mount("bind"))
    assert "it has ro and rw" in refused(runtime, mount("bind, rw, ro"))
    assert "ro leaves what is mounted below writable" in refused(runtime, mount("rbind, ro"))


def audited(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_warn_mode_creates_the_container_and_tells_what_enforcing_would_deny(
    runtime: Containerd, start: StartPlugin, policy: Path, tmp_path: Path
) -> None:
    policy.write_text("mode: warn\n")
    audit = tmp_path / "audit.jsonl"
    plugin = start(f"policy: {{file: {policy}}}\naudit: {{file: {audit}}}\n")
    container = created(runtime, FUSE)
    assert opens_fuse(runtime, container)
    assert (
        "pod ci/build, container main: would be denied: device '/dev/fuse' (c 10:229): "
        f"no rule of {policy} allows it; a rule that does: "
        "{who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}"
    ) in plugin.log
    (line,) = audited(audit)
    told = ("container_id", "namespace", "pod", "container", "decision", "outcome", "resolved")
    assert [line[key] for key in told] == [
        *(container, "ci", "build", "main", "warn", "injected", "c 10:229 /dev/fuse")
    ]


def test_skipping_creates_the_container_without_what_it_may_not_have(
    runtime: Containerd, start: StartPlugin, policy: Path
) -> None:
    policy.write_text(f"on_deny: skip\n{FUSE_ALLOWED}")
    plugin = start(f"policy: {{file: {policy}}}\n")
    container = created(runtime, {**FUSE, **ROOT})
    assert opens_fuse(runtime, container)
    assert runtime.cri.exec(container, "ls", "/host").exit_code != 0
    assert "pod ci/build, container main: left out: mount of '/' at '/host'" in plugin.log


def test_a_changed_policy_counts_for_the_next_container_and_a_bad_version_never(
    runtime: Containerd, start: StartPlugin, policy: Path
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
        "policy not taken over, the version before it stays in force: "
        f"{policy}: rules: rule 1: unknown key 'denny'; did you mean deny?"
    ) in plugin.log

    policy.chmod(0o666)
    policy.write_text("rules: [{allow: {mounts: [{source: /, access: rw}]}}]\n")
    assert f"no rule of {policy} allows it" in refused(runtime, ROOT)
    assert f"{policy} can be written by everybody (mode 0666); it is not believed" in plugin.log
