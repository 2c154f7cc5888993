"""The hooks that we ship: the definitions are good, and the programs do what they say.

How they read JSON is in test_hooks_json.py.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nri_inject.hooks.hook_file import read
from nri_inject.hooks.match import HookSubject, decide

pytestmark = pytest.mark.slow

HOOKS = Path(__file__).parents[2] / "hooks"
DEFINITIONS = sorted((HOOKS / "definitions").glob("*.json"))
PROGRAMS = sorted((HOOKS / "bin").iterdir())
INSTALLED = "/usr/libexec/oci/hooks.d/nri-inject/"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices")


def run(program: str, *arguments: str, state: Any, **environment: str) -> tuple[int, str, str]:
    result = subprocess.run(
        [HOOKS / "bin" / program, *arguments],
        input=json.dumps(state),
        # The log of the machine that runs the tests is left alone.
        env={"PATH": PATH, "LOG_FILE": "/dev/null", **environment},
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
    """Return a state as runc and crun give it, but for the order of its members."""
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
        assert decide(definition.when, HookSubject({key: value}, [], False)).matched is matched


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


@needs_root
def test_a_link_that_appears_meanwhile_is_not_followed(root: Path, tmp_path: Path) -> None:
    os.mknod(root / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    for name in ("outside", "bin"):
        (tmp_path / name).mkdir()
    slow = tmp_path / "bin/ln"
    slow.write_text(f'#!/bin/sh\n/bin/ln -s {tmp_path}/outside "1:3"\nexec /bin/ln "$@"\n')
    slow.chmod(0o755)
    path = f"{tmp_path}/bin:{PATH}"
    assert run("dev-char-links", state=state_of(root), PATH=path)[0] != 0
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


# --- what a hook has to say reaches the node's admin ---


def logged(log: Path) -> list[str]:
    """Return the lines of a log without their times."""
    return [line.partition(" ")[2] for line in log.read_text().splitlines()]


def test_what_a_hook_writes_to_stderr_is_logged_with_container_and_hook(
    root: Path, tmp_path: Path
) -> None:
    (root / "dev").rmdir()
    (root / "dev").symlink_to(tmp_path)
    log = tmp_path / "log"
    status, _, message = run("dev-char-links", state=state_of(root), LOG_FILE=str(log))
    assert (status, message) == (1, f"{root}/dev is a link\n")
    assert logged(log) == [f"container c-1: hook dev-char-links: {root}/dev is a link"]


def ldconfig(root: Path, tmp_path: Path, script: str) -> str:
    """Return a program in the place of ldconfig, for a container that has a use for a cache."""
    (root / "etc").mkdir()
    (root / "etc/ld.so.conf").touch()
    program = tmp_path / "ldconfig"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_status_and_output_of_a_hook_are_passed_on(root: Path, tmp_path: Path) -> None:
    program = ldconfig(root, tmp_path, "echo out; echo one >&2; echo two >&2; exit 7")
    log = tmp_path / "log"
    done = run("container-ldconfig", state=state_of(root), LDCONFIG=program, LOG_FILE=str(log))
    assert done == (7, "out\n", "one\ntwo\n")
    said = "container c-1: hook container-ldconfig: "
    assert logged(log) == [f"{said}one", f"{said}two"]


def test_a_container_cannot_make_a_hook_fill_the_log_or_write_lines_of_its_own(
    root: Path, tmp_path: Path
) -> None:
    script = "printf '\\033[2Jred\\r\\303\\251%.900d\\n' 0 >&2; yes warning | head -n 100000 >&2"
    program = ldconfig(root, tmp_path, script)
    log = tmp_path / "log"
    done = run("container-ldconfig", state=state_of(root), LDCONFIG=program, LOG_FILE=str(log))
    assert done[0] == 0
    assert len(done[2]) <= 4001
    lines = logged(log)
    assert len(lines) == 10
    assert lines[0].startswith("container c-1: hook container-ldconfig: ?[2Jred???000")
    assert len(lines[0]) == 800


def test_a_state_that_is_no_json_fails_the_hook_and_is_logged(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = run("dev-char-links", state=["c-1"], LOG_FILE=str(log))
    assert done == (1, "", "the state names no bundle\n")
    assert logged(log) == ["container unknown: hook dev-char-links: the state names no bundle"]


def test_the_log_file_is_moved_away_at_1_mib(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * (1 << 20))
    for word in ("started", "stopped"):
        assert run("start-stop-log", word, state=state_of(root), LOG_FILE=str(log))[0] == 0
    assert logged(log) == ["container c-1 started", "container c-1 stopped"]
    assert (tmp_path / "log.1").stat().st_size == 1 << 20


def test_a_log_that_takes_no_line_fails_the_hook_that_is_for_logging_and_no_other(
    root: Path, tmp_path: Path
) -> None:
    gone = str(tmp_path / "no/such/log")
    assert run("start-stop-log", "started", state=state_of(root), LOG_FILE=gone)[0] != 0
    program = ldconfig(root, tmp_path, "echo odd >&2")
    done = run("container-ldconfig", state=state_of(root), LDCONFIG=program, LOG_FILE=gone)
    assert done[0] == 0


# Runs a program with a directory in the place of /dev, in a mount namespace that ends with it. The
# first argument is the directory, the second the device for kmsg in it.
OTHER_DEV = """\
[ -z "$1" ] || mount --bind "$1" "$0/kmsg"
mount --rbind "$0" /dev
shift
exec "$@"
"""


def start_and_log(root: Path, directory: Path, kmsg: str = "") -> None:
    (directory / "null").touch()
    hook = (HOOKS / "bin/start-stop-log", "started")
    subprocess.run(
        ["unshare", "--mount", "sh", "-e", "-c", OTHER_DEV, directory, kmsg, *hook],
        input=json.dumps(state_of(root)),
        env={"PATH": PATH},
        text=True,
        timeout=30,
        check=True,
    )


@needs_root
def test_without_a_log_file_a_line_goes_to_syslog(root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "dev"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(directory / "log"))
        syslog.settimeout(30)
        start_and_log(root, directory)
        assert syslog.recv(4096).endswith(b" start-stop-log: container c-1 started")


@needs_root
def test_where_no_syslog_listens_a_line_goes_to_the_kernels_log(root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "dev"
    directory.mkdir()
    (directory / "kmsg").touch()
    reader, terminal = os.openpty()  # a device whose other end we can read
    start_and_log(root, directory, os.ttyname(terminal))
    assert os.read(reader, 4096).strip() == b"<14>start-stop-log: container c-1 started"
    os.close(terminal)
    os.close(reader)
