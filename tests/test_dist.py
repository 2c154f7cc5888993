"""The packages: the same bytes in each build, all that they need, and links that lead somewhere."""

from __future__ import annotations

import email
import re
import subprocess
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from support.wheels import Packages, packages

from nri_inject.version import VERSION

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    return packages(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def metadata(built: Packages) -> Message:
    with zipfile.ZipFile(built.wheel) as archive:
        name = f"nri_inject-{VERSION}.dist-info/METADATA"
        return email.message_from_bytes(archive.read(name))


def test_another_build_by_another_user_gives_the_same_bytes(
    built: Packages, tmp_path: Path
) -> None:
    again = packages(tmp_path, 0o077)
    assert again.source.read_bytes() == built.source.read_bytes()
    assert again.wheel.read_bytes() == built.wheel.read_bytes()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no clone")
def test_the_wheel_has_every_file_of_the_package(built: Packages) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "nri_inject"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    with zipfile.ZipFile(built.wheel) as archive:
        assert {*tracked} <= {*archive.namelist()}


def test_an_index_can_show_all_that_it_shows(metadata: Message) -> None:
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Summary"]
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    assert {*urls} == {"Homepage", "Documentation", "Changelog", "Issues", "Security"}
    classifiers = metadata.get_all("Classifier", [])
    for minor in range(11, 15):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers


def test_links_of_the_readme_lead_to_the_repository_at_the_tag(metadata: Message) -> None:
    links = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    assert f"https://github.com/nri-inject/nri-inject/blob/v{VERSION}/docs/install.md" in links
    assert [link for link in links if not link.startswith("https://")] == []
