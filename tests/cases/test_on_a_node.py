"""`try` and `policy check` on a node: its configuration, policy, runtime; the cases as commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.trying import NO_NODE

from nri_inject.capabilities import identify
from nri_inject.cli import program
from nri_inject.cli.here import look_here
from nri_inject.runtime import manifests
from nri_inject.runtime.trial import as_reported
from nri_inject.service import options

FILES = Path(__file__).parent / "files"
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: p
  namespace: home
  annotations: {devices.crio.io: /dev/null}
spec: {containers: [{name: main, image: x}]}
"""
CONFIG = """
policy: {file: /etc/nri-inject/policy.yaml}
annotations: {crio: true}
"""
POLICY = "rules: [{name: nulls, who: {namespaces: [home]}, allow: {devices: [/dev/null]}}]\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make the file tree of a node with containerd and our plugin."""
    for path, text in {
        "etc/containerd/config.toml": "version = 2\n",
        "etc/nri/conf.d/20-nri-inject.conf": CONFIG,
        "etc/nri-inject/policy.yaml": POLICY,
        "opt/nri/plugins/20-nri-inject": "",
    }.items():
        file = tmp_path / "root" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "pod.yaml").write_text(POD)
    return tmp_path / "root"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = options.exit_status(program, [*map(str, arguments)])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_the_configuration_of_a_node_is_found(root: Path) -> None:
    here = look_here(str(root))
    assert here.file == str(root / "etc/nri/conf.d/20-nri-inject.conf")
    assert look_here(str(root / "none")).file == ""


def test_policy_check_takes_the_policy_of_the_node(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, _ = run(capsys, "policy", "check", "--root", root, root.parent / "pod.yaml")
    assert (status, output) == (
        0,
        "pod home/p, container main\n  policy allows device '/dev/null' (c 1:3): by rule 'nulls'\n",
    )
    (root / "etc/nri-inject/policy.yaml").write_text("rules: [{alow: {}}]")
    status, output, _ = run(capsys, "policy", "check", "--root", root)
    assert status == 1
    assert "unknown key 'alow'" in output


def test_policy_check_without_a_policy_anywhere_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = run(capsys, "policy", "check", "--root", tmp_path)
    assert (status, output) == (2, "")
    assert errors == (
        "Error: no configuration of a plugin is on this node: it names no policy; name one with"
        " --policy FILE\n"
    )


@pytest.mark.slow
def test_try_takes_configuration_and_policy_of_the_node(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, output, errors = run(capsys, "try", "--root", root, root.parent / "pod.yaml")
    assert status == 0
    assert '  asks   devices.crio.io: "/dev/null"' in output
    assert "  policy allows device '/dev/null' (c 1:3): by rule 'nulls'" in output
    policy = root / "etc/nri-inject/policy.yaml"
    conf = root / "etc/nri/conf.d/20-nri-inject.conf"
    assert f"configuration {conf}, policy {policy}" in errors
    status, output, _ = run(
        *(capsys, "try", "--root", root, "--policy", "unrestricted", root.parent / "pod.yaml")
    )
    assert "  policy unrestricted" in output
    policy.write_text("rules: {")
    status, output, errors = run(capsys, "try", "--root", root, root.parent / "pod.yaml")
    assert (status, output) == (1, "")


@pytest.mark.slow
def test_a_policy_that_others_can_write_is_tried_with_a_warning(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = root / "etc/nri-inject/policy.yaml"
    policy.chmod(0o666)
    status, output, errors = run(capsys, "try", "--root", root, root.parent / "pod.yaml")
    assert (status, "by rule 'nulls'" in output) == (0, True)
    assert f"Warning: {policy}: {policy} can be written by everybody (mode 0666);" in errors


@pytest.mark.parametrize(
    ("runtime", "is_told"),
    [
        (("containerd", "2.1.9+unknown"), False),
        (("containerd", "1.7.24"), False),
        (("containerd", "2.2.1"), False),
        (("containerd", "2.3.0"), True),
        (("cri-o", "1.35.0"), False),
        (("cri-o", "1.36.0"), True),
        (("nri-inject", "try"), True),
    ],
)
def test_a_container_has_its_user_where_the_runtime_tells_it(
    runtime: tuple[str, str], is_told: bool
) -> None:
    (planned,) = manifests.read((FILES / "04" / "pod.yaml").read_text(), "pod.yaml")
    told = as_reported(planned, identify(*runtime))
    assert planned.container.HasField("user")
    assert told.container.HasField("user") == is_told


# Each case as it was brought: the command, its status, and what its output has.
CASES = {
    ("03", "pod.yaml"): (1, "file_mode: 666 is decimal (01232); write 0666"),
    ("03", "pod-quoted.yaml"): (1, "file_mode: '666' is text; write 0666 without quotes"),
    ("07", "keys.yaml"): (
        1,
        "container 'mian'; did you mean devices.noderesource.dev/cont",
    ),
    ("09", "pod.yaml"): (1, "annotation cdi.k8s.io/vfio17: no CDI device 'acme.com/pgpu=17'"),
    ("10", "pod.yaml"): (
        1,
        "'/dev/shm' is a directory; write {device: \"/dev/shm/*\", count: all}",
    ),
    ("12", "pod.yaml"): (1, "write {device: /dev/null, as: /dev/x, access: rwm}"),
    ("12", "bare.yaml"): (1, "write a list: [/dev/null, /dev/zero]"),
    ("14", "pod.yaml"): (1, "'vm.max_map_count' is a setting of the whole node"),
    ("17", "pod.yaml"): (1, "write {device: /dev/zero, as: /dev/null} in its place"),
    ("17", "pod2.yaml"): (1, 'write "usb:1a86:7523" in its place'),
    ("17", "pod3.yaml"): (1, "unknown key 'permissions'; use access"),
    ("26", "pod.yaml"): (1, "owner: container, which gives the device to the user"),
    ("27", "pod.yaml"): (
        0,
        "item 1: minor is missing, and 0 is taken; write minor: 0",
    ),
    ("29", "pod.yaml"): (0, 'write devices.noderesource.dev/pod: "[/dev/fuse, /dev/net/tun]"'),
    ("30", "pod.yaml"): (1, "item 1: hard is missing"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "file"), CASES)
def test_a_case_is_told_with_its_way_out(
    number: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--root", tmp_path, "--policy", "unrestricted", "--cdi-dir", tmp_path)
    status, output, _ = run(capsys, "try", *NO_NODE, *given, FILES / number / file)
    assert (status, CASES[number, file][1] in output) == (CASES[number, file][0], True), output


def test_policy_check_tells_the_same_of_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: []")
    keys = FILES / "07" / "keys.yaml"
    status, output, _ = run(capsys, *("policy", "check", *NO_NODE, "--policy", policy), keys)
    assert status == 1
    assert output.count("  unread annotation ") == 10
    assert "it is on the Deployment and not on its pods" in output


def test_cdi_validate_warns_of_a_mode_in_decimal(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, errors = run(capsys, "cdi", "validate", FILES / "03" / "cdi.yaml")
    assert status == 0
    assert "fileMode: 666 is decimal (01232); write 0666 in YAML, 438 in JSON" in output + errors


def test_devices_explain_says_what_a_directory_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dev" / "snd").mkdir(parents=True)
    status, output, _ = run(capsys, "devices", "explain", "--root", tmp_path, "/dev/snd")
    assert status == 1
    assert output.splitlines()[0] == (
        "/dev/snd matches none of 0 devices: it is a directory; write"
        ' {device: "/dev/snd/*", count: all}, or {device: "class:sound", count: all}'
    )
