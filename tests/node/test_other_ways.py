"""A node that was installed in another way before: never two plugins of one kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nri_inject.cli.install import _enabling, _starting, _unused
from nri_inject.errors import ConfigError
from nri_inject.node import install, record, starters, texts
from nri_inject.node.install import Build, Program
from nri_inject.node.record import PathChange
from nri_inject.node.runtime import Node, look
from nri_inject.policy import document

pytestmark = pytest.mark.slow

SUITE = Program("nri-inject", "20", "nri-inject")
DEVICES = Program("nri-device-injector", "10", "device-injector")
DEVICES_LATER = Program("nri-device-injector", "15", "device-injector")
HOOKS = Program("nri-hook-injector", "30", "hook-injector")
LOGGER = Program("nri-logger", "00", "logger")
SYSTEMD_UPGRADE = "systemctl reload-or-restart nri-inject.service"
ALL = [SUITE, DEVICES, DEVICES_LATER, HOOKS, LOGGER]


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = tmp_path / "host"
    (root / "etc/containerd").mkdir(parents=True)
    (root / "etc/containerd/config.toml").write_text("version = 3\n")
    (root / "usr/bin").mkdir(parents=True)
    return root


@pytest.fixture
def build(tmp_path: Path) -> Build:
    folder = tmp_path / "dist"
    folder.mkdir()
    (folder / "nri-inject").write_text("#!/bin/sh\n")
    return Build(str(folder), install.release_of(folder, "1.0"))


def node(host: Path) -> Node:
    return look(str(host))


def installed(
    host: Path, build: Build, *programs: Program, systemd: bool = False
) -> list[PathChange]:
    root = str(host)
    steps = install.plan(node(host), build, programs, systemd=systemd)
    planned = [step.path for step in steps]
    replaced = starters.replaced(node(host), record.recorded(root), programs, planned)
    return install.install(root, steps, replaced=replaced)


def running(host: Path) -> list[str]:
    """Return what would start a plugin, by its last part."""
    return [path.rpartition("/")[2] for path, _ in starters.starters(node(host))]


def removed(changes: list[PathChange]) -> list[str]:
    return [change.path for change in changes if change.what == "removed"]


@pytest.mark.parametrize("after", ALL, ids=lambda one: one.file_name)
@pytest.mark.parametrize("before", ALL, ids=lambda one: one.file_name)
@pytest.mark.parametrize("ways", [(False, False), (False, True), (True, False), (True, True)])
def test_one_starter_is_left_of_what_would_inject_the_same(
    ways: tuple[bool, bool], before: Program, after: Program, host: Path, build: Build
) -> None:
    installed(host, build, before, systemd=ways[0])
    installed(host, build, after, systemd=ways[1])
    kinds = [plugin for _, plugin in starters.starters(node(host))]
    assert after.name in kinds
    assert kinds.count(after.name) == 1
    assert starters.is_same(before.name, after.name) or before.name in kinds
    assert not any(starters.is_same(kind, after.name) for kind in kinds if kind != after.name)
    install.uninstall(str(host))
    assert running(host) == []


def test_a_service_takes_the_place_of_the_launched_plugin(host: Path, build: Build) -> None:
    installed(host, build, SUITE)
    assert running(host) == ["20-nri-inject"]
    changes = installed(host, build, SUITE, systemd=True)
    assert running(host) == ["nri-inject.service"]
    assert removed(changes) == [
        "/opt/nri/plugins/20-nri-inject",
        "/etc/nri/conf.d/20-nri-inject.conf",
    ]
    assert _starting(node(host), changes, systemd=True) == [
        "restart containerd, which ends the plugin that it has launched",
        "systemctl daemon-reload",
        "systemctl enable --now nri-inject.service",
    ]


def test_a_launched_plugin_takes_the_place_of_the_service(host: Path, build: Build) -> None:
    installed(host, build, SUITE, systemd=True)
    wants = host / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "nri-inject.service").symlink_to("../nri-inject.service")  # systemctl enable
    changes = installed(host, build, SUITE)
    assert running(host) == ["20-nri-inject"]
    assert [*wants.iterdir()] == []
    assert removed(changes) == [
        "/etc/systemd/system/nri-inject.service",
        "/etc/nri-inject/config.yaml",
    ]
    assert _starting(node(host), changes, systemd=False) == [
        "systemctl stop nri-inject.service",
        "systemctl daemon-reload",
        "restart containerd",
    ]


@pytest.mark.parametrize(
    ("systemd", "todo"),
    [(False, "/usr/local/bin/nri-inject upgrade"), (True, SYSTEMD_UPGRADE)],
)
def test_a_running_plugin_takes_another_build_without_a_restart(
    host: Path, build: Build, systemd: bool, todo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    installed(host, build, SUITE, systemd=systemd)
    folder = Path(build.folder)
    (folder / "nri-inject").write_text("#!/bin/sh\n# a newer one\n")
    newer = Build(str(folder), install.release_of(folder, "1.1"))
    changes = installed(host, newer, SUITE, systemd=systemd)
    assert [change.path.rpartition("/")[2] for change in changes if change.what != "same"] == [
        newer.release,
        "current",
    ]
    changes.append(PathChange("changed", "/usr/local/share/man/man1/nri-inject.1"))
    assert _starting(node(host), changes, systemd=systemd) == [todo]


def test_a_launched_plugin_with_another_configuration_needs_a_restart(
    host: Path, build: Build
) -> None:
    installed(host, build, SUITE)
    (host / "etc/nri/conf.d/20-nri-inject.conf").unlink()
    changes = installed(host, build, SUITE)
    assert _starting(node(host), changes, systemd=False) == ["restart containerd"]


def test_a_service_with_another_unit_reads_it_and_goes_on(host: Path, build: Build) -> None:
    installed(host, build, SUITE, systemd=True)
    (host / "etc/systemd/system/nri-inject.service").unlink()
    changes = [
        PathChange("changed" if change.what == "new" else change.what, change.path)
        for change in installed(host, build, SUITE, systemd=True)
    ]
    assert _starting(node(host), changes, systemd=True) == [
        "systemctl daemon-reload",
        SYSTEMD_UPGRADE,
    ]


def test_settings_of_the_other_way_are_kept_and_told(host: Path, build: Build) -> None:
    installed(host, build, SUITE)
    conf = "/etc/nri/conf.d/20-nri-inject.conf"
    (host / conf.lstrip("/")).write_text("policy: unrestricted\n")
    root = str(host)
    steps = install.plan(node(host), build, [SUITE], systemd=True)
    planned = [step.path for step in steps]
    replaced = starters.replaced(node(host), record.recorded(root), [SUITE], planned)
    changes = install.install(root, steps, replaced=replaced)
    assert PathChange("kept", conf) in changes
    assert _unused(changes, replaced) == [
        f"move your settings out of {conf}, which is not read any more"
    ]
    assert conf in removed(install.uninstall(root, purge=True))


@pytest.mark.parametrize(
    ("path", "plugin"),
    [
        ("/opt/nri/plugins/10-device-injector", "device-injector"),
        ("/opt/nri/plugins/10-nri-device-injector", "device-injector"),
        ("/opt/nri/plugins/90-nri-inject", "nri-inject"),
        ("/etc/systemd/system/nri-inject.service", "nri-inject"),
        ("/usr/lib/systemd/system/nri-cdi-injector.service", "cdi-injector"),
    ],
)
def test_a_starter_that_somebody_made_by_hand_stops_it(
    path: str, plugin: str, host: Path, build: Build
) -> None:
    (host / path.lstrip("/")).parent.mkdir(parents=True)
    (host / path.lstrip("/")).write_text("by hand")
    with pytest.raises(ConfigError) as caught:
        installed(host, build, SUITE)
    assert str(caught.value) == (
        f"{path} starts the plugin {plugin} already, and this program did not write it: with two"
        " plugins every container that requests a device fails; remove it first"
    )
    assert not (host / "opt/nri-inject").exists()


def test_other_plugins_stay(host: Path, build: Build) -> None:
    for name in ("05-somebody", "nri.service"):
        (host / "opt/nri/plugins").mkdir(parents=True, exist_ok=True)
        (host / "opt/nri/plugins" / name).write_text("")
    installed(host, build, SUITE)
    assert running(host) == ["20-nri-inject"]


@pytest.mark.parametrize(
    ("config", "enabled", "said"),
    [
        ("version = 3\n", False, []),
        ("version = 2\n", True, []),
        ("version = 2\n", False, [r"enable NRI in /etc/containerd/config\.toml: .*\]$"]),
        (
            'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
            False,
            [r"enable NRI in .* \(or use --enable-nri\)$"],
        ),
    ],
)
def test_enable_nri_is_offered_where_it_works(
    config: str, enabled: bool, said: list[str], host: Path
) -> None:
    (host / "etc/containerd/config.toml").write_text(config)
    lines = _enabling(node(host), enabled=enabled)
    assert len(lines) == len(said)
    assert all(re.match(pattern, line) for pattern, line in zip(said, lines, strict=True))


def test_the_first_policy_has_examples_that_work_when_they_are_uncommented() -> None:
    assert document.read(texts.POLICY, "policy.yaml").rules == ()
    head, _, examples = texts.POLICY.partition("rules:\n")
    assert head.endswith("to use it:\n")
    text = "rules:\n" + examples.replace("#", "")
    names = [rule.name for rule in document.read(text, "policy.yaml").rules]
    assert len(names) == 5


def test_the_rule_of_an_error_can_be_appended_to_the_first_policy() -> None:
    offered = "{who: {namespaces: [ci]}, allow: {devices: [/dev/fuse]}}"
    assert len(document.read(f"{texts.POLICY}- {offered}\n", "policy.yaml").rules) == 1


def test_logs_are_kept_until_a_purge(host: Path, build: Build) -> None:
    installed(host, build, SUITE)
    log = host / "var/log/nri-inject/20-nri-inject.log"
    log.write_text("a line\n")
    changes = install.uninstall(str(host))
    assert PathChange("kept", "/var/log/nri-inject") in changes
    assert log.exists()
    assert PathChange("removed", "/var/log/nri-inject") in install.uninstall(str(host), purge=True)
    assert not log.parent.exists()


@pytest.mark.parametrize("journal", [True, False])
def test_the_log_goes_to_the_journal_where_there_is_one(
    journal: bool, host: Path, build: Build
) -> None:
    if journal:
        (host / "run/systemd/journal").mkdir(parents=True)
        (host / "run/systemd/journal/socket").touch()
    installed(host, build, SUITE)
    conf: Any = (host / "etc/nri/conf.d/20-nri-inject.conf").read_text()
    line = "log: journal" if journal else "log: {file: /var/log/nri-inject/20-nri-inject.log}"
    assert line in conf
    assert (host / "var/log/nri-inject").exists() is not journal


def test_programs_are_on_path(host: Path, build: Build) -> None:
    names = ("nri-inject", "nri-logger", "nri-differ")
    several = Build(build.folder, build.release, names)
    (host / "usr/local/bin").mkdir(parents=True)
    (host / "usr/local/bin/nri-differ").write_text("somebody's")
    changes = {change.path: change.what for change in installed(host, several, SUITE)}
    assert [changes[f"/usr/local/bin/{name}"] for name in names] == ["new", "new", "kept"]
    assert (host / "usr/local/bin/nri-logger").readlink().name == "nri-logger"
    install.uninstall(str(host))
    assert [path.name for path in (host / "usr/local/bin").iterdir()] == ["nri-differ"]
