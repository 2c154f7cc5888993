"""The CDI specs that we ship are sound, warn of nothing, and say what they are for."""

from pathlib import Path

import pytest

from nri_inject.cdi import schema, spec
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cdi.resolve import resolve
from nri_inject.host.model import DeviceNode

DIRECTORY = Path(__file__).parents[2] / "cdi_specs"
FILES = sorted(DIRECTORY.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_spec_is_sound(file: Path) -> None:
    data = file.read_bytes()
    parsed = spec.parse(data)
    assert spec.located(data, parsed) == ()
    assert schema.check(spec.load(data)) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_spec_has_the_lowest_version_that_it_needs(file: Path) -> None:
    found = spec.parse(file.read_bytes()).spec
    assert found is not None
    assert found.version == found.minimum


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_comment_and_readme_have_the_names(file: Path) -> None:
    found = spec.parse(file.read_bytes()).spec
    assert found is not None
    first = f"{found.kind}={found.devices[0].name}"
    assert first in file.read_text().split("cdiVersion")[0]
    assert f"({file.name}) | `{first}`" in (DIRECTORY / "README.md").read_text()


def test_all_of_them_can_be_dropped_into_one_directory() -> None:
    registry = CdiRegistry([str(DIRECTORY)], unsafe=True, watched=False)
    snapshot = registry.current()
    assert (snapshot.errors, snapshot.warnings) == ({}, {})
    assert snapshot.vendors == ("node.local",)
    nodes = {
        node.path: DeviceNode(node.path, "c", 10, 200, 0o600, 0, 0)
        for device in snapshot.devices.values()
        for node in device.edits.device_nodes
    }
    for name in snapshot.devices:
        assert resolve([name], snapshot, nodes).adjust.linux.devices
