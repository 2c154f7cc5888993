"""The values that docs/coming-from.md offers: each is read by the reader of its kind."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support.annotated import host_with_everything, read_request
from support.pages import ROOT

from nri_inject.injectors.host import Host
from nri_inject.policy import document

PAGE = ROOT / "docs" / "coming-from.md"
WORDS = re.compile(r"`((?:[a-z]+-)*[a-z]+): ((?:[^`])+)`")
KUBERNETES = ("spec", "container")
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


OFFERS = sorted(set(offers()))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return host_with_everything(tmp_path_factory.mktemp("host"))


def check_pod(word: str, value: str) -> None:
    """Hold a part of a pod against Kubernetes' own JSON schemas, which allow no unknown field."""
    given = yaml.safe_load(value)
    container = given if word == "container" else {}
    spec = {"containers": [{"name": "main", "image": "i", **container}]}
    spec |= given if word == "spec" else {}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    validator: Any = importlib.import_module("kubernetes_validate")
    validator.validate(pod, "1.34.0", strict=True)


def check(word: str, value: str, host: Host) -> None:
    """Read a value as what its word says it is."""
    if word in ("allow", "who"):
        other = "who: {}" if word == "allow" else "allow: {devices: [/dev/fuse]}"
        assert document.read(f"rules: [{{{word}: {value}, {other}}}]".encode(), "page").rules
    else:
        text = yaml.safe_load(value) if word == "exclusive-cpus" else value
        read_request(f"{word}.noderesource.dev/container.main", text, host)


@pytest.mark.parametrize(("word", "value"), [one for one in OFFERS if one[0] not in KUBERNETES])
def test_a_value_is_understood(word: str, value: str, host: Host) -> None:
    check(word, value, host)


@pytest.mark.slow
@pytest.mark.parametrize(("word", "value"), [one for one in OFFERS if one[0] in KUBERNETES])
def test_kubernetes_knows_a_part_of_a_pod(word: str, value: str) -> None:
    check_pod(word, value)


def test_a_row_offers_a_value_or_says_where_to_look() -> None:
    assert [
        row for row in rows() if not WORDS.search(row[1]) and not ELSEWHERE.search(row[1])
    ] == []


def test_all_tables_were_read() -> None:
    assert len(list(rows())) > 60
    assert len(offers()) > 50
