"""What rules give to pods without an annotation, on real runtimes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from . import image
from .cri import CriError
from .daemon import Daemon
from .plugin import External

Start = Callable[[str], External]


@pytest.fixture
def start(runtime: Daemon, tmp_path: Path) -> Iterator[Start]:
    """Start the suite with a policy, beside the shared runtime."""
    with ExitStack() as plugins:

        def start_with(rules: str) -> External:
            (tmp_path / "policy.yaml").write_text(rules)
            config = tmp_path / "config.yaml"
            config.write_text(
                f"policy: {{file: {tmp_path}/policy.yaml}}\naudit: {{file: {tmp_path}/audit}}\n"
            )
            options = ("--unsafe-files", "--config", str(config))
            plugin = External("nri-inject run", runtime, tmp_path / "plugin.log", *options)
            return plugins.enter_context(closing(plugin))

        yield start_with


def shown(runtime: Daemon, namespace: str = "ci", **pod: Any) -> list[str]:
    """Return what a container without a request has: device, mount, limit and variable."""
    sandbox = runtime.cri.run_pod("build", namespace, **pod)
    container = runtime.cri.run(sandbox, "main")
    script = "ls -d /dev/fuse /given/file 2>/dev/null; ulimit -n; echo $WHO"
    return runtime.cri.exec(container, "sh", "-c", script).stdout.split()


def test_a_pod_without_annotations_gets_devices_mounts_and_limits(
    runtime: Daemon, start: Start, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "file").touch()
    mount = f"{{source: {given}, destination: /given, type: bind, options: [bind, ro]}}"
    start(f"""
rules:
  - name: by namespace
    who: {{namespaces: [ci]}}
    give:
      devices: [/dev/fuse]
      mounts: [{mount}]
      ulimits: [{{type: nofile, hard: 777, soft: 777}}]
      env: {{WHO: rule}}
  - who: {{namespaces: [ci, lab], pods: {{matchLabels: {{app: web}}}}}}
    give: {{env: {{WHO: label}}}}
  - {{who: {{namespaces: [store], images: ["{image.NAME}"]}}, give: {{env: {{WHO: image}}}}}}
  - {{who: {{namespaces: [store], images: [other]}}, give: {{devices: [/dev/fuse]}}}}
""")
    assert shown(runtime) == ["/dev/fuse", "/given/file", "777", "rule"]
    assert shown(runtime, labels={"app": "web"})[-1] == "rule"
    assert shown(runtime, "lab", labels={"app": "web"})[-1] == "label"
    assert shown(runtime, "store")[-1] == "image"
    assert "/dev/fuse" not in shown(runtime, "store")
    assert len(shown(runtime, "lab")) == 1
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    first = [(line["kind"], line["rule"], line["reason"]) for line in lines if line["rule"]][:2]
    assert first == [
        ("devices", "by namespace", "given, not requested"),
        ("mounts", "by namespace", "given, not requested"),
    ]


def test_a_pod_that_refuses_gets_nothing_and_a_denied_thing_is_left_out(
    runtime: Daemon, start: Start
) -> None:
    start("""
rules:
  - {deny: {ulimits: [nofile]}}
  - who: {namespaces: [ci]}
    give: {devices: [/dev/fuse], ulimits: [{type: nofile, hard: 1048577, soft: 777}]}
""")
    usual = shown(runtime, "lab")
    assert shown(runtime) == ["/dev/fuse", *usual]
    refusing = {"refuse.noderesource.dev/container.main": "[devices]"}
    assert shown(runtime, annotations=refusing) == usual


def test_a_required_device_that_is_not_there_fails_the_container(
    runtime: Daemon, start: Start
) -> None:
    start("""
rules:
  - {name: a, who: {namespaces: [ci]}, give: {devices: [/dev/none]}}
  - {name: b, who: {namespaces: [lab]}, give: {devices: [/dev/none, /dev/fuse]}, required: true}
""")
    assert "/dev/fuse" not in shown(runtime)
    refusing = {"refuse.noderesource.dev": "all"}
    pod = runtime.cri.run_pod("build", "lab", annotations=refusing)
    with pytest.raises(CriError) as caught:
        runtime.cri.create(pod, "main")
    assert caught.value.message.endswith(
        "pod lab/build, container main: device /dev/none: '/dev/none' does not exist on the host;"
        " rule 'b' requires it"
    )


def test_a_profile_is_requested_or_given_by_its_name(runtime: Daemon, start: Start) -> None:
    start("""
profiles:
  fuse: {devices: [/dev/fuse], ulimits: [{type: nofile, hard: 777, soft: 777}], env: {WHO: profile}}
rules:
  - {who: {namespaces: [ci]}, allow: {profiles: [fuse]}}
  - {who: {namespaces: [lab]}, give: {profiles: [fuse]}}
""")
    asking = {"profiles.noderesource.dev": "[fuse]"}
    assert shown(runtime, annotations=asking) == ["/dev/fuse", "777", "profile"]
    assert shown(runtime, "lab") == ["/dev/fuse", "777", "profile"]
    assert len(shown(runtime)) == 1
    pod = runtime.cri.run_pod("build", "store", annotations=asking)
    with pytest.raises(CriError) as caught:
        runtime.cri.create(pod, "main")
    assert (
        "annotation profiles.noderesource.dev: profile 'fuse': no rule of" in caught.value.message
    )
