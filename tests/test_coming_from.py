"""Every value that docs/coming-from.md offers is read by the reader of its kind, and gives something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from support.machine import machine, write
from support.pages import ROOT

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi import names
from nri_inject.host.devices import inventory
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.injectors.device import inject
from nri_inject.injectors.device.injector import KINDS
from nri_inject.injectors.host import Host
from nri_inject.plugins.resource_assigner import pools
from nri_inject.policy import document

PAGE = ROOT / "docs" / "coming-from.md"
WORDS = re.compile(r"`((?:[a-z]+-)*[a-z]+): ((?:[^`])+)`")
ANNOTATIONS = {kind.prefix.partition(".")[0] for kind in KINDS}
ELSEWHERE = re.compile(r"\]\(|not possible|keep |the same |neither count")


def rows() -> Iterator[tuple[str, str]]:
    """Yield the origin and the answer of each row."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if line.startswith("| ") and len(cells) == 2 and "---" not in line:
            origin, answer = cells[0].removeprefix("| "), cells[1].removesuffix(" |")
            if answer != "here":
                yield origin, answer


def offers() -> list[tuple[str, str]]:
    """Return word and value of everything that is offered."""
    return [found for _, answer in rows() for found in WORDS.findall(answer)]


class Everything(dict[str, DeviceNode]):
    """The machine of the tests, and a character device at every other path."""

    def __missing__(self, path: str) -> DeviceNode:
        return DeviceNode(path, "c", 240, len(path), 0o600, 0, 0, path)


class Places(dict[str, HostPath]):
    """A host without links."""

    def __missing__(self, path: str) -> HostPath:
        return HostPath(path)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    found = inventory.read(str(write(tmp_path_factory.mktemp("host"), machine())))
    nodes = Everything()
    for device in found:
        for path in device.paths:
            nodes[path] = DeviceNode(path, *device.number, 0o660, 0, 20, real=device.path)
    return Host(nodes, files=Places(), inventory=lambda: found)


def check(word: str, value: str, host: Host) -> None:
    """Read a value as what its word says it is."""
    if word in ANNOTATIONS:
        key = f"{word}.noderesource.dev/container.main"
        container = Container(name="main", user={"uid": 1000, "gid": 1000})
        assert inject(Pod(annotations={key: value}), container, host) != Adjustment()
    elif word == "cdi-devices":
        for name in yaml.safe_load(value):
            names.parse(name)
    elif word == "exclusive-cpus":
        key = f"{word}.noderesource.dev/container.main"
        pod = Pod(annotations={key: yaml.safe_load(value)})
        subject = pools.subject_of(pod, Container(name="main"))
        assert pools.exclusive_count(subject, pools.Rules(beyond_requests=("*",)))
    elif word in ("allow", "who"):
        other = "who: {}" if word == "allow" else "allow: {devices: [/dev/fuse]}"
        assert document.read(f"rules: [{{{word}: {value}, {other}}}]".encode(), "page").rules
    else:
        assert word in ("spec", "container")
        container_fields = yaml.safe_load(value) if word == "container" else {}
        spec = {"containers": [{"name": "main", "image": "i", **container_fields}]}
        spec |= yaml.safe_load(value) if word == "spec" else {}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.32", strict=True)


@pytest.mark.parametrize(("word", "value"), sorted(set(offers())))
def test_a_value_is_understood(word: str, value: str, host: Host) -> None:
    check(word, value, host)


def test_a_row_offers_a_value_or_says_where_to_look() -> None:
    assert [row for row in rows() if not WORDS.search(row[1]) and not ELSEWHERE.search(row[1])] == []


def test_all_tables_were_read() -> None:
    assert len(list(rows())) > 60
    assert len(offers()) > 50
