"""The exit statuses: docs/command-line.md has them in two tables, and each row of both holds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import ROOT

from nri_inject import cli
from nri_inject.plugins.programs import SUITE
from nri_inject.service.base import STATUSES
from nri_inject.service.options import exit_status

BOUND = 60
BIN = Path(sys.executable).parent
PAGE = (ROOT / "docs/command-line.md").read_text()
ROWS = re.findall(r"^\| `(nri-[^`]*)` \| (\d) \| [^|]+ \|$", PAGE, re.MULTILINE)

POD = """\
kind: Pod
metadata: {{name: web, annotations: {{devices.noderesource.dev/container.app: "- path: {}"}}}}
spec: {{containers: [{{name: app, image: i}}]}}
"""
FILES = {
    "pod.yaml": POD.format("/dev/null"),
    "denied.yaml": POD.format("/dev/zero"),
    "policy.yaml": "rules: [{allow: {devices: [/dev/null]}}]\n",
    "faulty.yaml": "rulse: []\n",
    "reserved.yaml": "resource_assigner: {reserved: 32000}\n",
    "spec.yaml": (
        "cdiVersion: 0.6.0\nkind: example.com/part\n"
        'devices: [{name: "0", containerEdits: {env: [A=1]}}]\n'
    ),
    "faulty/spec.yaml": "cdiVersion: 0\n",
    "node/etc/containerd/config.toml": "version = 2\n",
}


def test_the_page_has_the_words_of_the_manual() -> None:
    table = re.findall(r"^\| ([012]) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {int(status): words for status, words in table} == STATUSES


def test_each_status_has_examples() -> None:
    assert {status for _, status in ROWS} == {"0", "1", "2"}
    assert len(ROWS) == len(dict(ROWS)) > 40


@pytest.mark.slow
@pytest.mark.parametrize(("line", "status"), ROWS)
def test_a_command_ends_as_the_page_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    line: str,
    status: str,
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NRI_INJECT_STATUS_DIR", str(tmp_path / "plugins"))
    program, *arguments = shlex.split(line)
    if program != SUITE or arguments[:1] in (["try"], ["run"]):  # these start processes
        command = [str(BIN / program), *arguments]
        ended = subprocess.run(command, timeout=BOUND, check=False).returncode
    else:
        ended = exit_status(cli.program, arguments)
    output, errors = capfd.readouterr()
    assert "Traceback" not in errors
    assert ended == int(status), output + errors
