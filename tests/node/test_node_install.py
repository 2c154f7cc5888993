"""Installing on a host and taking it back: steps, the record, and what somebody has changed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nri_inject.errors import ConfigError
from nri_inject.node import files, install, texts
from nri_inject.node.install import (
    Build,
    Directory,
    FileStep,
    InstallStep,
    LinkStep,
    Program,
    TreeStep,
)
from nri_inject.node.record import RECORD, PathChange
from nri_inject.node.runtime import Node, look
from nri_inject.service import config

SUITE = Program("nri-inject", "20", "nri-inject")
CONF = "/etc/nri/conf.d/20-nri-inject.conf"
PLUGIN = "/opt/nri/plugins/20-nri-inject"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Make a host with containerd, whose /var/run is a link as ever."""
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
    (folder / "nri-inject").chmod(0o755)
    (folder / "nri-device-injector").symlink_to("nri-inject")
    return Build(str(folder), install.release_of(folder, "1.0"))


def node(host: Path) -> Node:
    return look(str(host))


def steps(host: Path, build: Build, *plugins: Program) -> list[InstallStep]:
    return install.plan(node(host), build, plugins or [SUITE])


def tree(root: Path) -> dict[str, str]:
    """Map paths to what they are: a link's target, a file's content, or a directory."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = f"-> {path.readlink()}"
        else:
            found[str(path.relative_to(root))] = path.read_text() if path.is_file() else "/"
    return found


def what(changes: list[PathChange]) -> dict[str, str]:
    return {change.path: change.what for change in changes}


def test_the_plan_ends_with_the_plugin_when_all_it_needs_is_there(host: Path) -> None:
    build = Build("/dist", "1.0-abc")
    assert steps(host, build) == [
        TreeStep("/opt/nri-inject/1.0-abc", "/dist"),
        LinkStep("/opt/nri-inject/current", "/opt/nri-inject/1.0-abc"),
        LinkStep("/usr/local/bin/nri-inject", "/opt/nri-inject/current/nri-inject"),
        Directory("/etc/cdi"),
        Directory("/etc/containers/oci/hooks.d"),
        FileStep("/etc/nri-inject/policy.yaml", texts.POLICY),
        Directory("/var/log/nri-inject", logs=True),
        FileStep(CONF, texts.drop_in("20-nri-inject")),
        LinkStep(PLUGIN, "/opt/nri-inject/current/nri-inject"),
    ]


@pytest.mark.slow
def test_shared_texts_come_with_the_programs_and_go_with_them(host: Path, build: Build) -> None:
    page = "/usr/local/share/man/man1/nri-inject.1"
    planned = install.plan(node(host), build, [SUITE], shared={page: "a"})
    paths = [step.path for step in planned]
    assert paths[2:4] == ["/usr/local/bin/nri-inject", page]
    before = tree(host)
    install.install(str(host), planned)
    assert (host / page.lstrip("/")).read_text() == "a"
    changed = install.plan(node(host), build, [SUITE], shared={page: "b"})
    assert what(install.install(str(host), changed))[page] == "changed"
    install.uninstall(str(host), purge=True)
    assert tree(host) == before


def test_a_page_of_somebody_else_stays(host: Path, build: Build) -> None:
    page = "/usr/local/share/man/man1/nri-inject.1"
    (host / page.lstrip("/")).parent.mkdir(parents=True)
    (host / page.lstrip("/")).write_text("mine")
    planned = install.plan(node(host), build, [SUITE], shared={page: "ours"})
    assert what(install.install(str(host), planned))[page] == "kept"
    install.uninstall(str(host), purge=True)
    assert (host / page.lstrip("/")).read_text() == "mine"


def test_scripts_of_this_python_are_linked_to_where_they_are(host: Path) -> None:
    last = steps(host, Build("/venv/bin"), Program("nri-device-injector", "11", "device-injector"))[
        -1
    ]
    assert last == LinkStep("/opt/nri/plugins/11-device-injector", "/venv/bin/nri-device-injector")


def test_installing_twice_changes_nothing_the_second_time(host: Path, build: Build) -> None:
    assert set(what(install.install(str(host), steps(host, build))).values()) == {"new"}
    once = tree(host)
    assert set(what(install.install(str(host), steps(host, build))).values()) == {"same"}
    assert tree(host) == once
    assert once[PLUGIN.lstrip("/")] == "-> ../../nri-inject/current/nri-inject"


@pytest.fixture(params=[0o000, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Set a umask of a shell that has another than 022."""
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_whatever_the_umask_others_may_read_what_is_installed_and_not_write_it(
    host: Path, build: Build
) -> None:
    folder = Path(build.folder)
    (folder / "lib/deep").mkdir(parents=True)
    (folder / "lib/deep/data").write_text("x")
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o777 if path.is_dir() or path.stat().st_mode & 0o100 else 0o666)
    before = {*host.rglob("*")}
    install.install(str(host), steps(host, build))
    modes = {
        str(path.relative_to(host)): stat.S_IMODE(path.stat().st_mode)
        for path in {*host.rglob("*")} - before
        if not path.is_symlink()
    }
    home = f"opt/nri-inject/{build.release}"
    assert modes.pop("var/log/nri-inject") == 0o750
    assert {path for path, mode in modes.items() if mode not in (0o755, 0o644)} == set()
    assert {"opt", "opt/nri", "opt/nri/plugins", "etc/nri", "var/lib"} <= modes.keys()
    assert (modes[f"{home}/nri-inject"], modes[f"{home}/lib/deep/data"]) == (0o755, 0o644)
    assert [path.name for path in (host / "opt/nri-inject").iterdir() if path.name[0] == "."] == []


def test_uninstall_leaves_no_trace(host: Path, build: Build) -> None:
    before = tree(host)
    install.install(str(host), steps(host, build))
    changes = install.uninstall(str(host))
    assert changes[0] == PathChange("removed", PLUGIN)
    assert tree(host) == before
    assert install.uninstall(str(host)) == []


def test_a_dry_run_changes_nothing(host: Path, build: Build) -> None:
    before = tree(host)
    assert what(install.install(str(host), steps(host, build), dry=True))[PLUGIN] == "new"
    assert tree(host) == before
    install.install(str(host), steps(host, build))
    installed = tree(host)
    assert what(install.uninstall(str(host), dry=True))[PLUGIN] == "removed"
    assert tree(host) == installed


def test_a_changed_configuration_is_kept_by_both(host: Path, build: Build) -> None:
    before = tree(host)
    install.install(str(host), steps(host, build))
    (host / CONF.lstrip("/")).write_text("policy: unrestricted\n")
    assert what(install.install(str(host), steps(host, build)))[CONF] == "kept"
    assert what(install.uninstall(str(host)))[CONF] == "kept"
    left = tree(host)
    assert left[CONF.lstrip("/")] == "policy: unrestricted\n"
    assert PLUGIN.lstrip("/") not in left
    assert what(install.uninstall(str(host), purge=True))[CONF] == "removed"
    assert tree(host) == before


@pytest.mark.slow
def test_a_configuration_from_before_us_is_never_taken_away(host: Path, build: Build) -> None:
    conf = host / CONF.lstrip("/")
    conf.parent.mkdir(parents=True)
    for text in ("policy: unrestricted\n", texts.drop_in("20-nri-inject")):
        conf.write_text(text)
        before = tree(host)
        install.install(str(host), steps(host, build))
        install.uninstall(str(host), purge=True)
        assert tree(host) == before


def test_a_plugin_that_is_not_ours_stops_it_before_anything_is_changed(
    host: Path, build: Build
) -> None:
    (host / "opt/nri/plugins").mkdir(parents=True)
    (host / PLUGIN.lstrip("/")).write_text("somebody's")
    before = tree(host)
    with pytest.raises(ConfigError) as caught:
        install.install(str(host), steps(host, build))
    assert str(caught.value) == (
        f"{PLUGIN} exists, and install did not write it; remove it, or use another --idx"
    )
    assert tree(host) == before


def test_directories_that_others_use_stay(host: Path, build: Build) -> None:
    install.install(str(host), steps(host, build))
    (host / "opt/nri/plugins/90-other").write_text("")
    install.uninstall(str(host))
    assert [path for path in tree(host) if path.startswith("opt")] == [
        "opt",
        "opt/nri",
        "opt/nri/plugins",
        "opt/nri/plugins/90-other",
    ]


def test_an_upgrade_keeps_the_copy_in_use_until_the_next(host: Path, build: Build) -> None:
    def upgrade(number: int) -> list[str]:
        Path(build.folder, "nri-inject").write_text(f"#!/bin/sh\n# {number}\n")
        new = Build(build.folder, f"{number}.0")
        old = install.outdated(str(host), new)
        install.install(str(host), steps(host, new))
        install.forget(str(host), old)
        return sorted(path.name for path in (host / "opt/nri-inject").iterdir())

    before = tree(host)
    assert upgrade(1) == ["1.0", "current"]
    assert upgrade(2) == ["1.0", "2.0", "current"]
    assert upgrade(2) == ["1.0", "2.0", "current"]
    assert upgrade(3) == ["2.0", "3.0", "current"]
    assert (host / PLUGIN.lstrip("/")).resolve().parent.name == "3.0"
    install.uninstall(str(host))
    assert tree(host) == before


def test_an_install_that_was_interrupted_can_be_undone(
    host: Path, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(host)

    def full(_where: Path, _target: str) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(files, "link", full)
        with pytest.raises(OSError, match="no space left"):
            install.install(str(host), steps(host, build))
    assert tree(host) != before
    install.uninstall(str(host))
    assert tree(host) == before


def test_a_damaged_record_is_an_error_that_names_it(host: Path) -> None:
    record = host / RECORD.lstrip("/")
    record.parent.mkdir(parents=True)
    for text in ("{", "[]", "{}", json.dumps({"installed": [{"what": 1}]})):
        record.write_text(text)
        with pytest.raises(ConfigError, match=f"^{RECORD} is damaged: "):
            install.uninstall(str(host))


def test_a_service_has_a_unit_and_one_configuration(host: Path) -> None:
    planned = install.plan(node(host), Build("/venv/bin"), [SUITE], systemd=True)
    assert [step.path for step in planned] == [
        "/usr/local/bin/nri-inject",
        "/etc/cdi",
        "/etc/containers/oci/hooks.d",
        "/etc/nri-inject/policy.yaml",
        "/etc/nri-inject/config.yaml",
        "/etc/systemd/system/nri-inject.service",
    ]
    unit = planned[-1]
    assert isinstance(unit, FileStep)
    assert (
        "ExecStart=/venv/bin/nri-inject run --idx 20 --name nri-inject"
        " --socket-path /var/run/nri/nri.sock --config /etc/nri-inject/config.yaml\n"
    ) in unit.text
    assert "After=containerd.service\n" in unit.text


def test_nri_is_switched_on_by_a_file_where_the_runtime_reads_one(tmp_path: Path) -> None:
    def enabling(name: str, config_file: str, text: str | None) -> FileStep:
        root = tmp_path / name
        path = root / config_file.lstrip("/")
        path.parent.mkdir(parents=True)
        if text is None:
            (root / "usr/bin").mkdir(parents=True)
            (root / "usr/bin/containerd").touch()
        else:
            path.write_text(text)
        return install.enabling(node(root))

    containerd = "/etc/containerd/config.toml"
    assert enabling("crio", "/etc/crio/crio.conf", "").path == (
        "/etc/crio/crio.conf.d/99-nri-inject.conf"
    )
    imports = 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n'
    dropped = enabling("imports", containerd, imports)
    assert dropped.path == "/etc/containerd/conf.d/nri-inject.toml"
    assert dropped.text.startswith("version = 2\n")
    assert enabling("none", containerd, None).path == containerd
    with pytest.raises(ConfigError) as caught:
        enabling("own", containerd, "version = 2\n")
    assert str(caught.value) == (
        "/etc/containerd/config.toml reads no drop-in directory; install without"
        " --enable-nri, and enable NRI in /etc/containerd/config.toml: disable = false and"
        " disable_connections = false"
        ' in [plugins."io.containerd.nri.v1.nri"]'
    )


def test_k3s_is_changed_in_its_template(tmp_path: Path) -> None:
    path = tmp_path / "var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("version = 3\n")
    assert install.how_to_enable(node(tmp_path)).startswith(
        "enable NRI in /var/lib/rancher/k3s/agent/etc/containerd/config-v3.toml.tmpl: "
    )


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("nri-inject", SUITE),
        ("31-nri-inject", Program("nri-inject", "31", "nri-inject")),
        ("device-injector", Program("nri-device-injector", "10", "device-injector")),
        ("nri-cdi-injector", Program("nri-cdi-injector", "20", "cdi-injector")),
        ("05-hook-injector", Program("nri-hook-injector", "05", "hook-injector")),
    ],
)
def test_a_plugin_is_chosen_by_name_and_perhaps_index(name: str, program: Program) -> None:
    assert install.find_program(name) == program


def test_a_name_that_no_plugin_has_is_an_error_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^no plugin 'fly'; known: nri-inject, cdi-injector, "):
        install.find_program("fly")


def test_the_release_of_a_folder_follows_its_content(build: Build) -> None:
    folder = Path(build.folder)
    assert install.release_of(folder, "1.0") == build.release
    (folder / "nri-inject").write_text("#!/bin/sh\nexit 1\n")
    assert install.release_of(folder, "1.0") != build.release


def test_what_is_written_is_what_the_plugins_read() -> None:
    for text in (texts.drop_in("20-a"), texts.CONFIG, texts.POLICY):
        assert config.read_document(text, "text")
