"""The parts of the image: the lock, Debian's packages, layers, archives, bill of materials."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from image import debian, layout
from image.debian import DebianPackage, ImageError
from image.lock import ARCHITECTURES
from image.sbom import PythonPackage, sbom

PACKAGE = DebianPackage("amd64", "demo", "1:1.0-2", "", "debian/pool/main/d/demo_1.0-2_amd64.deb")


def tar(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/"))
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def deb(**files: str) -> bytes:
    """Make a package as dpkg-deb does: an ar archive of three members."""
    archive = b"!<arch>\n"
    members = {"debian-binary": b"2.0\n", "control.tar.xz": tar(x="y"), "data.tar.xz": tar(**files)}
    for name, content in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    return archive


def test_the_lock_has_each_package_of_each_architecture_with_its_hash() -> None:
    locked = debian.read_lock()
    for architecture in ARCHITECTURES:
        names = [one.name for one in locked if one.architecture == architecture]
        assert sorted(names) == sorted(debian.PACKAGES)
    for package in locked:
        assert re.fullmatch("[0-9a-f]{64}", package.sha256)
        assert re.fullmatch(r"debian(-security)?/pool/\S+\.deb", package.path)
    versions = {(one.name, one.version) for one in locked}
    # A module that the one Python has compiled is read by the other.
    assert len({version for name, version in versions if "python3" in name}) == 1


def test_a_lock_with_another_line_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("# a comment\namd64 demo 1.0\n")
    with pytest.raises(ImageError, match=r"a line does not have five words; run make lock"):
        debian.read_lock(lock)


def test_a_package_in_the_cache_is_not_fetched_again(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    (tmp_path / digest).write_bytes(b"content")
    fetched = debian.fetch(PACKAGE._replace(sha256=digest), "http://127.0.0.1:9", tmp_path)
    assert fetched.read_bytes() == b"content"


@pytest.mark.parametrize(
    ("mirror", "sentence"),
    [
        ("file:///etc", "'file:///etc' is not the http or https address of a mirror"),
        ("http://127.0.0.1:9", "if the mirror has a newer version of demo, run make lock"),
    ],
)
def test_a_mirror_without_the_package_is_an_error(
    tmp_path: Path, mirror: str, sentence: str
) -> None:
    # A file with other content, such as one that was cut off, does not count.
    (tmp_path / ("0" * 64)).write_bytes(b"other")
    with pytest.raises(ImageError, match=re.escape(sentence)):
        debian.fetch(PACKAGE._replace(sha256="0" * 64), mirror, tmp_path)


def test_a_package_is_unpacked_without_dpkg(tmp_path: Path) -> None:
    package = tmp_path / "demo.deb"
    package.write_bytes(deb(usr__bin__demo="program"))
    debian.unpack(package, tmp_path / "root")
    assert (tmp_path / "root/usr/bin/demo").read_text() == "program"


def test_a_package_cannot_write_outside_of_the_root(tmp_path: Path) -> None:
    package = tmp_path / "demo.deb"
    package.write_bytes(deb(**{"..__outside": "x"}))
    with pytest.raises(tarfile.OutsideDestinationError):
        debian.unpack(package, tmp_path / "root")
    assert not (tmp_path / "outside").exists()


def tree(root: Path) -> Path:
    """Make a directory with one entry of each kind."""
    (root / "bin").mkdir(parents=True)
    (root / "bin/run").write_text("#!/bin/sh\n")
    (root / "bin/run").chmod(0o700)
    (root / "data").write_text("x")
    (root / "link").symlink_to("bin/run")
    return root


def test_a_layer_has_no_owner_and_one_time(tmp_path: Path) -> None:
    layer = layout.pack(tree(tmp_path), 1000)
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        entries = [(each.name, each.mode, each.uid, each.mtime, each.linkname) for each in archive]
    assert entries == [
        ("bin", 0o755, 0, 1000, ""),
        ("bin/run", 0o755, 0, 1000, ""),
        ("data", 0o644, 0, 1000, ""),
        ("link", 0o777, 0, 1000, "bin/run"),
    ]


def test_an_archive_is_the_same_each_time_and_its_digests_are_true(tmp_path: Path) -> None:
    layer = layout.pack(tree(tmp_path / "root"), 1000)

    def written(name: str) -> tuple[bytes, str]:
        target = tmp_path / name
        digest = layout.write_archive(
            target,
            name="example.com/x:1",
            architecture="arm64",
            layers=[layer],
            settings={"Cmd": ["/bin/run"]},
            created="1970-01-01T00:16:40Z",
            compress=partial(gzip.compress, mtime=0),
        )
        return target.read_bytes(), digest

    first, second = written("first.tar"), written("second.tar")
    assert first == second
    with tarfile.open(tmp_path / "first.tar") as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive}
        blobs = {name: file.read() for name, file in files.items() if file}
    for name, content in blobs.items():
        if name.startswith("blobs/sha256/"):
            assert name.removeprefix("blobs/sha256/") == hashlib.sha256(content).hexdigest()
    (image,) = json.loads(blobs["index.json"])["manifests"]
    assert image["digest"] == first[1]
    assert image["platform"] == {"architecture": "arm64", "os": "linux"}
    assert image["annotations"]["io.containerd.image.name"] == "example.com/x:1"
    manifest = json.loads(blobs[path(image)])
    config = json.loads(blobs[path(manifest["config"])])
    assert config["config"] == {"Cmd": ["/bin/run"]}
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert [gzip.decompress(blobs[path(one)]) for one in manifest["layers"]] == [layer]
    (docker,) = json.loads(blobs["manifest.json"])
    assert docker["RepoTags"] == ["example.com/x:1"]
    assert docker["Layers"] == [path(one) for one in manifest["layers"]]


def path(descriptor: Any) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def test_the_bill_of_materials_names_each_package_with_its_hash() -> None:
    document = sbom(
        name="example.com/x",
        version="1",
        digest="sha256:ab",
        time="1970-01-01T00:16:40Z",
        debian=[PACKAGE._replace(sha256="cd")],
        python=[PythonPackage("click", "8.2", "ef")],
    )
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert [(one["purl"], one["hashes"][0]["content"]) for one in document["components"]] == [
        ("pkg:deb/debian/demo@1%3A1.0-2?arch=amd64&distro=trixie", "cd"),
        ("pkg:pypi/click@8.2", "ef"),
    ]
    assert document["metadata"]["component"]["hashes"][0]["content"] == "ab"
