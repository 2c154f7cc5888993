"""The bill of materials of an image: CycloneDX 1.6, as JSON.

https://cyclonedx.org/docs/1.6/json/ and the purl specification's types deb and pypi.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from .debian import SUITE, DebianPackage


class PythonPackage(NamedTuple):
    """A wheel that is in the image; `sha256` is that of the wheel."""

    name: str
    version: str
    sha256: str


def sbom(
    *,
    name: str,
    version: str,
    digest: str,
    time: str,
    debian: Iterable[DebianPackage],
    python: Iterable[PythonPackage],
) -> dict[str, Any]:
    """Return the document for an image with its name, version and digest ("sha256:...").

    `time` is one of RFC 3339. The serial number follows from the digest, so that the same image has
    the same document.
    """
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": _component("container", name, version, digest.removeprefix("sha256:")),
        },
        "components": [
            *(_of_debian(package) for package in debian),
            *(_of_python(package) for package in python),
        ],
    }


def _of_debian(package: DebianPackage) -> dict[str, Any]:
    name, version = quote(package.name), quote(package.version)
    architecture = package.path.rpartition("_")[2].removesuffix(".deb")
    purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}&distro={SUITE}"
    return _component("library", package.name, package.version, package.sha256, purl)


def _of_python(package: PythonPackage) -> dict[str, Any]:
    purl = f"pkg:pypi/{quote(package.name)}@{quote(package.version)}"
    return _component("library", package.name, package.version, package.sha256, purl)


def _component(kind: str, name: str, version: str, sha256: str, purl: str = "") -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": kind,
        "bom-ref": purl or name,
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
    }
    return component | ({"purl": purl} if purl else {})
