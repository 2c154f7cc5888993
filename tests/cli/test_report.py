"""`nri-inject report`: what is in the archive, and which secrets of the node are not."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nri_inject.cli.report import command
from nri_inject.node.report import MAX_FILE, MAX_FILES, Report
from nri_inject.service.health.state import State, document
from nri_inject.service.health.status import StatusSocket
from nri_inject.version import VERSION

SECRETS = [f"planted-{number}-Zebra" for number in range(12)]
CONFIG = "etc/nri/conf.d/20-nri-inject.conf"
LOG = "var/log/nri-inject/20-nri-inject.log"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = tmp_path / "host"
    for name, text in {
        "etc/containerd/config.toml": (
            f'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.auth]\n'
            f'password = "{SECRETS[0]}"\n'
        ),
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n',
        CONFIG: (
            f"# the old password is {SECRETS[1]}\n"
            "policy: {file: /etc/nri-inject/policy.yaml}\n"
            "log: {file: /var/log/nri-inject/20-nri-inject.log}\n"
            f"logger: {{set_env: LOGIN={SECRETS[2]}}}\n"
        ),
        "etc/nri-inject/policy.yaml": (
            f"# {SECRETS[3]}\n"
            "rules:\n- name: fuse\n  allow: {devices: [/dev/fuse]}\n"
            f"- name: 'token: {SECRETS[4]}'\n  allow: {{devices: [/dev/null]}}\n"
        ),
        LOG: (
            f"info    started\nwarning DB_PASSWORD={SECRETS[5]} is odd\n"
            f'{{"pod": "ci/web", "apiKey": "{SECRETS[6]}"}}\n'
            f"https://robot:{SECRETS[7]}@registry/x\n"
        ),
        "etc/cdi/vendor.json": json.dumps(
            {
                "cdiVersion": "0.6.0",
                "kind": "vendor.com/x",
                "devices": [{"name": "0", "containerEdits": {"env": [f"KEY={SECRETS[8]}"]}}],
            }
        ),
        "etc/containers/oci/hooks.d/h.json": json.dumps({"hook": {"env": [SECRETS[9]]}}),
        "opt/nri/plugins/20-nri-inject": "",
        "etc/secret": SECRETS[10],
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "opt/nri/plugins/20-nri-inject").chmod(0o755)
    return root


def reported(host: Path, *arguments: str) -> tuple[Result, dict[str, str]]:
    """Run the command on a host; return its result, and the texts of the archive by name."""
    archive = host.parent / "report.tar.gz"
    runner = CliRunner(env={"HOME": SECRETS[11], "API_TOKEN": SECRETS[11]})
    flags = ["--root", str(host), "--output", str(archive), *arguments]
    result = runner.invoke(command, flags, standalone_mode=False)
    return result, opened(archive.read_bytes()) if archive.exists() else {}


def opened(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {
            entry.name.removeprefix("nri-inject-report/"): file.read().decode()
            for entry in tar
            if (file := tar.extractfile(entry)) is not None
        }


def test_the_archive_has_what_a_maintainer_asks_for(host: Path) -> None:
    result, files = reported(host)
    assert result.return_value == 0
    assert sorted(files) == [
        "README.txt",
        "configuration/etc_nri_conf.d_20-nri-inject.conf.json",
        "doctor.json",
        "installed.json",
        "logs/var_log_nri-inject_20-nri-inject.log",
        "node.json",
        "policy/etc_nri-inject_policy.yaml.json",
        "status.json",
        "versions.json",
    ]
    versions = json.loads(files["versions.json"])
    assert (versions["nri-inject"], versions["runtime"]) == (VERSION, "containerd")
    assert versions["system"]["PRETTY_NAME"] == "Debian 12"
    assert "nri" in [finding["check"] for finding in json.loads(files["doctor.json"])]
    policy = json.loads(files["policy/etc_nri-inject_policy.yaml.json"])
    assert policy["rules"][0] == {"name": "fuse", "allow": {"devices": ["/dev/fuse"]}}
    assert files["logs/var_log_nri-inject_20-nri-inject.log"].startswith("info    started\n")


def test_no_planted_secret_is_in_it(host: Path) -> None:
    result, files = reported(host)
    everything = "\n".join([*files, *files.values()])
    assert [secret for secret in SECRETS if secret in everything] == []
    assert [secret for secret in SECRETS if secret in result.output] == []
    assert os.uname().nodename not in files["versions.json"]


def test_it_is_readable_by_its_owner_only_and_takes_the_place_of_no_file(host: Path) -> None:
    archive = host.parent / "report.tar.gz"
    assert reported(host)[0].return_value == 0
    assert archive.stat().st_mode & 0o777 == 0o600
    before = archive.read_bytes()
    result, _ = reported(host)
    assert (result.return_value, archive.read_bytes()) == (1, before)
    assert result.output == f"Error: cannot write {archive}: File exists\n"


def test_it_is_not_written_through_a_link(host: Path) -> None:
    (host.parent / "report.tar.gz").symlink_to(host.parent / "victim")
    assert reported(host)[0].return_value == 1
    assert not (host.parent / "victim").exists()


@pytest.mark.parametrize("name", [LOG, CONFIG, "etc/nri-inject/policy.yaml"])
def test_a_link_to_another_directory_is_not_followed(host: Path, name: str) -> None:
    (host / name).unlink()
    (host / name).symlink_to("/etc/secret")
    files = reported(host)[1]
    assert f"Left out: /{name}: " in files["README.txt"]
    assert SECRETS[10] not in "".join(files.values())


def test_a_file_of_a_config_map_is_read_through_its_links(host: Path) -> None:
    policy = host / "etc/nri-inject/policy.yaml"
    (policy.parent / "..2026").mkdir()
    policy.rename(policy.parent / "..2026/policy.yaml")
    (policy.parent / "..data").symlink_to("..2026")
    policy.symlink_to("..data/policy.yaml")
    assert "policy/etc_nri-inject_policy.yaml.json" in reported(host)[1]


def test_a_log_that_is_no_regular_file_or_that_others_can_write_is_left_out(host: Path) -> None:
    (host / LOG).chmod(0o666)
    assert f"Left out: /{LOG}: " in reported(host)[1]["README.txt"]
    (host.parent / "report.tar.gz").unlink()
    (host / LOG).unlink()
    os.mkfifo(host / LOG)
    assert f"Left out: /{LOG}: it is not a regular file" in reported(host)[1]["README.txt"]


@pytest.mark.slow
def test_of_a_long_log_the_last_lines_are_there(host: Path) -> None:
    with (host / LOG).open("a") as log:
        for number in range(MAX_FILE // 20):
            log.write(f"info    line {number:020}\n")
    text = reported(host)[1]["logs/var_log_nri-inject_20-nri-inject.log"]
    assert MAX_FILE // 2 < len(text) <= MAX_FILE
    assert text.startswith("info    line ")
    assert text.endswith(f"{MAX_FILE // 20 - 1:020}\n")


def test_the_size_of_a_report_is_bounded() -> None:
    report = Report()
    for number in range(MAX_FILES + 1):
        report.add(f"{number}", "x" * (2 * MAX_FILE if number == 0 else 1))
    assert len(report.content) == MAX_FILES
    assert len(report.content["0"]) == MAX_FILE
    assert [*report.left_out] == ["0", str(MAX_FILES)]


def test_a_faulty_configuration_is_named_with_its_fault(host: Path) -> None:
    (host / CONFIG).write_text("- policy\n")
    files = reported(host)[1]
    assert f"Left out: /{CONFIG}: /{CONFIG}: a list is not a map" in files["README.txt"]


def test_without_a_runtime_there_is_a_report_that_says_so(host: Path) -> None:
    (host / "etc/containerd/config.toml").unlink()
    result, files = reported(host)
    assert result.return_value == 0
    error = json.loads(files["doctor.json"])["error"]
    assert error.startswith(f"no runtime found below {host}")


def test_a_service_beside_an_unknown_runtime_has_its_configuration_and_policy_in_it(
    host: Path,
) -> None:
    (host / "etc/containerd/config.toml").unlink()
    (host / CONFIG).rename(host / "etc/nri-inject/config.yaml")
    files = reported(host)[1]
    assert "configuration/etc_nri-inject_config.yaml.json" in files
    assert "policy/etc_nri-inject_policy.yaml.json" in files


def test_what_the_plugins_say_is_in_it(host: Path, tmp_path: Path) -> None:
    said = document(State("20", "a", 7, config_error="token: x"), "synchronized", launched=False)
    where = tmp_path / "status"
    results: list[dict[str, str]] = []
    with closing(StatusSocket(str(where), "20-a", lambda: said)) as one:
        asking = threading.Thread(
            target=lambda: results.append(reported(host, "--status-dir", str(where))[1])
        )
        asking.start()
        while asking.is_alive():
            one.ready()
    (status,) = json.loads(results[0]["status.json"]).values()
    assert (status["plugin"], status["config_error"]) == ("20-a", "token: (masked)")


def test_for_programs_and_for_a_pipe(host: Path) -> None:
    result, files = reported(host, "--format", "json")
    said: dict[str, Any] = json.loads(result.output)
    assert said["file"] == str(host.parent / "report.tar.gz")
    assert sorted(said["files"]) == sorted(files.keys() - {"README.txt"})
    flags = ["--root", str(host), "--output", "-"]
    piped = CliRunner().invoke(command, flags, standalone_mode=False)
    assert sorted(opened(piped.stdout_bytes)) == sorted(files)
