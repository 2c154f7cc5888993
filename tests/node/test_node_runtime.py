"""Which runtime a host has, and what its configuration says of NRI."""

from __future__ import annotations

from pathlib import Path

import pytest

from nri_inject.capabilities import Version
from nri_inject.errors import ConfigError
from nri_inject.node.layout import DISTRIBUTIONS
from nri_inject.node.runtime import Nri, documents, look, nri_of, release_in

BY_NAME = {one.name: one for one in DISTRIBUTIONS}
CONTAINERD, CRIO = BY_NAME["containerd"], BY_NAME["cri-o"]
TABLE = '[plugins."io.containerd.nri.v1.nri"]\n'


def write(root: Path, name: str, text: str) -> None:
    path = root / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def said(root: Path) -> Nri:
    return look(str(root)).nri


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_each_distribution_is_known_by_its_configuration(tmp_path: Path, name: str) -> None:
    write(tmp_path, BY_NAME[name].config, "")
    assert look(str(tmp_path)).distribution.name == name


def test_each_distribution_is_known_by_its_executable(tmp_path: Path) -> None:
    for one in DISTRIBUTIONS:
        for path in one.binaries:
            root = tmp_path / path.replace("/", "_")
            write(root, path, "")
            assert look(str(root)).distribution is one


def test_no_runtime_and_several_are_errors_that_name_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        look(str(tmp_path))
    assert str(caught.value) == (
        f"no runtime found below {tmp_path}; choose one with --runtime"
        " (k3s, rke2, microk8s, containerd, cri-o)"
    )
    write(tmp_path, CONTAINERD.config, "")
    write(tmp_path, CRIO.config, "")
    with pytest.raises(ConfigError) as caught:
        look(str(tmp_path))
    assert str(caught.value) == (
        "several runtimes found: containerd, cri-o; choose one with --runtime"
    )
    assert look(str(tmp_path), name="cri-o").distribution is CRIO


@pytest.mark.parametrize(
    ("text", "release", "enabled"),
    [
        ("", None, None),
        ("version = 2\n", None, None),
        ("version = 3\n", None, True),
        ("version = 2\n", (1, 7, 24), False),
        ("version = 2\n", (2, 1, 9), True),
        (f"version = 2\n{TABLE}disable = false\n", (1, 7, 24), True),
        (f"version = 3\n{TABLE}disable = true\n", (2, 1, 9), False),
        ('version = 3\ndisabled_plugins = ["io.containerd.nri.v1.nri"]\n', (2, 1, 9), False),
        (f"version = 3\n{TABLE}disable = 'yes'\n", (2, 1, 9), True),
    ],
)
def test_whether_nri_is_on_in_containerd(
    tmp_path: Path, text: str, release: Version | None, enabled: bool | None
) -> None:
    write(tmp_path, CONTAINERD.config, text)
    read = documents(str(tmp_path), CONTAINERD)
    assert nri_of(CONTAINERD, read, release).enabled is enabled


def test_settings_of_containerd(tmp_path: Path) -> None:
    settings = (
        'disable_connections = true\nsocket_path = "/run/a.sock"\nplugin_path = "/p"\n'
        'plugin_config_path = "/c"\n'
    )
    validator = f'{TABLE.rstrip()[:-1]}.default_validator]\nrequired_plugins = ["x"]\n'
    write(tmp_path, CONTAINERD.config, f"version = 3\n{TABLE}{settings}{validator}")
    assert said(tmp_path) == Nri(
        enabled=True,
        connections=False,
        socket="/run/a.sock",
        plugins="/p",
        configurations="/c",
        validator={"required_plugins": ["x"]},
    )


def test_a_setting_that_the_runtime_would_refuse_counts_as_none(tmp_path: Path) -> None:
    write(tmp_path, CONTAINERD.config, f'version = 3\n{TABLE}plugin_path = "p"\nsocket_path = 1\n')
    assert said(tmp_path) == Nri(enabled=True)


def test_imports_are_read_and_win(tmp_path: Path) -> None:
    head = 'version = 2\nimports = ["conf.d/*.toml", "/etc/more.toml"]\n'
    write(tmp_path, CONTAINERD.config, f"{head}{TABLE}disable = true\n")
    write(tmp_path, "/etc/containerd/conf.d/nri.toml", f"version = 2\n{TABLE}disable = false\n")
    write(tmp_path, "/etc/containerd/conf.d/other.txt", "no TOML at all")
    write(tmp_path, "/etc/more.toml", f'version = 2\n{TABLE}plugin_path = "/p"\n')
    nri = said(tmp_path)
    assert (nri.enabled, nri.plugins) == (True, "/p")
    assert nri.imports == ("/etc/containerd/conf.d/*.toml", "/etc/more.toml")


def test_a_file_that_imports_itself_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, CONTAINERD.config, 'version = 3\nimports = ["config.toml"]\n')
    assert len(documents(str(tmp_path), CONTAINERD)) == 1


def test_settings_of_crio_and_its_drop_ins(tmp_path: Path) -> None:
    write(tmp_path, CRIO.config, "[crio.nri]\nenable_nri = false\n")
    assert said(tmp_path).enabled is False
    write(tmp_path, f"{CRIO.drop_ins}/10-on.conf", "[crio.nri]\nenable_nri = true\n")
    write(tmp_path, f"{CRIO.drop_ins}/20.conf", '[crio.nri]\nnri_plugin_dir = "/p"\n')
    nri = said(tmp_path)
    assert (nri.enabled, nri.plugins, nri.connections) == (True, "/p", True)


def test_crios_names_for_the_default_validator_are_understood(tmp_path: Path) -> None:
    rules = 'nri_enable_default_validator = true\nnri_validator_required_plugins = ["p"]\n'
    write(tmp_path, CRIO.config, f"[crio.nri.default_validator]\n{rules}")
    assert said(tmp_path).validator == {"enable": True, "required_plugins": ["p"]}


def test_what_is_no_toml_is_an_error_with_the_file(tmp_path: Path) -> None:
    write(tmp_path, CONTAINERD.config, "version = \n")
    with pytest.raises(ConfigError, match=r"^/etc/containerd/config.toml: Invalid value"):
        look(str(tmp_path))


def test_another_configuration_file_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, CONTAINERD.config, "")
    write(tmp_path, "/etc/other.toml", f"version = 3\n{TABLE}disable = true\n")
    assert look(str(tmp_path), config="/etc/other.toml").nri.enabled is False


@pytest.mark.parametrize(
    ("printed", "release"),
    [
        ("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+b4\n", (1, 7, 24)),
        ("containerd github.com/containerd/containerd/v2 v2.1.9 abc\n", (2, 1, 9)),
        ("crio version 1.31.3\nVersion: 1.31.3\n", (1, 31, 3)),
        ("containerd", None),
    ],
)
def test_the_release_in_what_a_runtime_prints(printed: str, release: Version | None) -> None:
    assert release_in(printed) == release
