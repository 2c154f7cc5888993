"""The hooks that we ship: the definitions are good, and the programs do what they say."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nri_inject.oci_hooks import Subject, decide, read

HOOKS = Path(__file__).parents[1] / "hooks"
DEFINITIONS = sorted((HOOKS / "definitions").glob("*.json"))
PROGRAMS = sorted((HOOKS / "bin").iterdir())
INSTALLED = "/usr/libexec/oci/hooks.d/nri-inject/"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")


def run(program: str, *arguments: str, state: Any, **environment: str) -> tuple[int, str, str]:
    result = subprocess.run(
        [HOOKS / "bin" / program, *arguments],
        input=json.dumps(state),
        env={"PATH": PATH, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root directory of a container whose bundle is around it."""
    (tmp_path / "rootfs/dev").mkdir(parents=True)
    configure(tmp_path, {"path": "rootfs"})
    return tmp_path / "rootfs"


def configure(
    bundle: Path, root: dict[str, Any], annotations: Mapping[str, str] | None = None
) -> None:
    document = {
        "ociVersion": "1.0.2",
        "annotations": annotations or {},
        "root": root,
        "process": {},
    }
    (bundle / "config.json").write_text(json.dumps(document))


def state_of(root: Path, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    state = {"ociVersion": "1.0.2", "id": "c-1", "status": "creating", "pid": 7}
    return {**state, "bundle": str(root.parent), "annotations": dict(annotations or {})}


@pytest.mark.parametrize("file", DEFINITIONS, ids=lambda file: file.name)
def test_definition_is_without_fault_and_warning_and_names_our_program(file: Path) -> None:
    reading = read(file.read_bytes())
    assert reading.faults == ()
    assert reading.definition is not None
    assert reading.definition.warnings == ()
    assert reading.definition.timeout is not None
    name = reading.definition.path.removeprefix(INSTALLED)
    assert HOOKS / "bin" / name in PROGRAMS
    assert reading.definition.args[0] == name


@pytest.mark.parametrize("file", DEFINITIONS, ids=lambda file: file.name)
def test_definition_is_for_pods_that_ask(file: Path) -> None:
    definition = read(file.read_bytes()).definition
    assert definition is not None
    (annotation,) = definition.when.annotations
    assert annotation.key.exact is not None
    key = annotation.key.exact.decode()
    assert key in (HOOKS / "README.md").read_text()
    for value, matched in (("on", True), ("true", True), ("off", False), ("on\n", False)):
        assert decide(definition.when, Subject({key: value}, [], False)).matched is matched


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_program_is_executable_and_its_shell_finds_no_mistake(program: Path) -> None:
    assert stat.S_IMODE(program.stat().st_mode) == 0o755
    assert program.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", program], check=True)


def test_logger_writes_a_line_with_the_containers_id(tmp_path: Path, root: Path) -> None:
    log = tmp_path / "log"
    for word in ("started", "stopped"):
        done = run("start-stop-log", word, state=state_of(root), LOG_FILE=str(log))
        assert done == (0, "", "")
    lines = [line.partition(" ")[2] for line in log.read_text().splitlines()]
    assert lines == ["container c-1 started", "container c-1 stopped"]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", log.read_text())


def test_root_is_taken_from_the_bundle(root: Path) -> None:
    assert run("bundle-root", state=state_of(root)) == (0, f"{root}\n", "")
    configure(root.parent, {"readonly": True, "path": str(root)})
    assert run("bundle-root", state=state_of(root)) == (0, f"{root}\n", "")


@pytest.mark.parametrize(
    "lie",
    ['","bundle":"/","root":{"path":"/"},"x":"', "}", '"}', "\\", '\\"', "{", "]}],\n"],
)
def test_what_a_pod_says_does_not_pass_for_bundle_root_or_id(
    lie: str, root: Path, tmp_path: Path
) -> None:
    lies = {"bundle": "/", "root": "/", "path": "/", "id": "evil", lie: lie, f"{lie}bundle": "/"}
    configure(root.parent, {"path": "rootfs"}, lies)
    honest = state_of(root, lies)
    # Runtimes differ in the order of the members.
    for state in (honest, dict(reversed(honest.items()))):
        assert run("bundle-root", state=state) == (0, f"{root}\n", "")
        log = tmp_path / "log"
        run("start-stop-log", "started", state=state, LOG_FILE=str(log))
        assert log.read_text().splitlines()[-1].endswith(" container c-1 started")


def test_root_of_the_host_is_refused(root: Path) -> None:
    configure(root.parent, {"path": "/"})
    expected = (1, "", "the container's root is the host's\n")
    assert run("bundle-root", state=state_of(root)) == expected


def test_state_without_a_bundle_is_refused() -> None:
    assert run("bundle-root", state={"id": "x"}) == (1, "", "the state names no bundle\n")


@needs_root
def test_links_lead_to_the_character_devices(root: Path) -> None:
    (root / "dev/net").mkdir()
    for name, major, minor in (("null", 1, 3), ("net/tun", 10, 200)):
        os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    os.mknod(root / "dev/disk", 0o600 | stat.S_IFBLK, os.makedev(7, 0))
    (root / "dev/stdin").symlink_to("/proc/self/fd/0")
    for _ in range(2):
        assert run("dev-char-links", state=state_of(root)) == (0, "", "")
    links = {link.name: str(link.readlink()) for link in (root / "dev/char").iterdir()}
    assert links == {"1:3": "../null", "10:200": "../net/tun"}


@pytest.mark.parametrize("place", ["dev", "dev/char"])
def test_links_are_not_made_behind_a_link(place: str, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    if place == "dev":
        (root / "dev").rmdir()
    (root / place).symlink_to(tmp_path / "outside")
    status, _, message = run("dev-char-links", state=state_of(root))
    assert (status, message) == (1, f"{root}/{place} is a link\n")
    assert list((tmp_path / "outside").iterdir()) == []


def test_ldconfig_is_given_the_containers_root(root: Path, tmp_path: Path) -> None:
    ldconfig = tmp_path / "ldconfig"
    ldconfig.write_text('#!/bin/sh\necho "$@"\n')
    ldconfig.chmod(0o755)
    without = run("container-ldconfig", state=state_of(root), LDCONFIG=str(ldconfig))
    assert without == (0, "", "")
    (root / "etc").mkdir()
    (root / "etc/ld.so.conf").touch()
    done = run("container-ldconfig", state=state_of(root), LDCONFIG=str(ldconfig))
    assert done == (0, f"-r {root}\n", "")


@needs_root
@pytest.mark.skipif(not Path("/sbin/ldconfig").exists(), reason="there is no ldconfig here")
def test_ldconfig_of_the_host_makes_the_containers_cache(root: Path) -> None:
    (root / "etc").mkdir()
    (root / "etc/ld.so.conf").write_text("/opt/lib\n")
    assert run("container-ldconfig", state=state_of(root))[0] == 0
    assert (root / "etc/ld.so.cache").exists()
