"""Looking at the host's devices."""

import gc
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nri_inject.capabilities import NEWEST
from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.host.nodes import HostDevices, HostFiles, HostNumbers, Remembered
from nri_inject.injectors.host import Host


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the root of a host that has nothing but an empty /dev."""
    (tmp_path / "dev").mkdir(mode=0o755)
    return tmp_path


def fifo(path: Path, mode: int = 0o640) -> None:
    """Make the one kind of node that needs no privilege."""
    os.mkfifo(path)
    path.chmod(mode)


def why(devices: HostDevices, path: str) -> str:
    with pytest.raises(NotADevice) as caught:
        devices[path]
    assert caught.value.path == path
    assert str(caught.value) == f"{path} {caught.value.why}"
    return caught.value.why


def test_a_character_device_has_its_numbers_and_owner() -> None:
    status = Path("/dev/null").stat()
    mode = stat.S_IMODE(status.st_mode)
    assert HostDevices()["/dev/null"] == DeviceNode(
        "/dev/null", "c", 1, 3, mode, status.st_uid, status.st_gid, "/dev/null"
    )


def test_a_fifo_is_a_node_without_numbers_and_looking_does_not_block(root: Path) -> None:
    fifo(root / "dev/pipe")
    assert HostDevices(root)["/dev/pipe"] == DeviceNode(
        "/dev/pipe", "p", 0, 0, 0o640, os.geteuid(), (root / "dev/pipe").stat().st_gid, "/dev/pipe"
    )


@pytest.mark.parametrize(
    "target",
    [
        "pipe",
        "/dev/pipe",
        "./pipe",
        "../dev/pipe",
        "../../../../dev/pipe",
        "by-id/again",
        "//dev/pipe",
    ],
)
def test_a_link_is_followed_inside_the_root(root: Path, target: str) -> None:
    fifo(root / "dev/pipe")
    (root / "dev/by-id").mkdir()
    (root / "dev/by-id/again").symlink_to("../pipe")
    (root / "dev/link").symlink_to(target)
    node = HostDevices(root)["/dev/link"]
    assert (node.path, node.type) == ("/dev/link", "p")


def test_a_link_to_a_directory_is_followed_on_the_way(root: Path) -> None:
    (root / "dev/real").mkdir()
    fifo(root / "dev/real/pipe")
    (root / "dev/link").symlink_to("/dev/real")
    assert HostDevices(root)["/dev/link/../real/pipe"].type == "p"
    assert HostDevices(root)["/dev/link/pipe"].type == "p"


@pytest.mark.parametrize("target", ["/dev/null", "../../../../../../../../../../dev/null"])
def test_a_link_never_leads_out_of_the_root(root: Path, target: str) -> None:
    (root / "dev/link").symlink_to(target)
    assert why(HostDevices(root), "/dev/link") == f"is a dangling link to {target}"


def test_dots_in_the_path_never_lead_out_of_the_root(root: Path) -> None:
    with pytest.raises(KeyError, match="null"):
        HostDevices(root)["/../../../../../../../../dev/null"]


@pytest.mark.parametrize(
    "path",
    [
        "/dev/none",
        "/none/none",
        "/dev/file/below",
        "dev/pipe",
        "",
        "/dev/\0",
    ],
)
def test_what_does_not_exist_is_a_plain_key_error(root: Path, path: str) -> None:
    (root / "dev/file").touch()
    with pytest.raises(KeyError) as caught:
        HostDevices(root)[path]
    assert type(caught.value) is KeyError
    assert path not in HostDevices(root)
    assert HostDevices(root).get(path) is None


@pytest.mark.parametrize(
    ("path", "mode", "doubt"),
    [
        ("/dev/shm/new", 0o1777, "others can put files in /dev/shm"),
        ("/dev/shm/new/below", 0o1777, "others can put files in /dev/shm"),
        ("/dev/shm/new", 0o777, "/dev/shm can be written by everybody (mode 0777)"),
        ("/dev/shm/made/new", 0o777, "/dev/shm can be written by everybody (mode 0777)"),
    ],
)
def test_what_others_could_put_there_is_told_before_they_do(
    root: Path, path: str, mode: int, doubt: str
) -> None:
    (root / "dev/shm/made").mkdir(parents=True, mode=0o755)
    (root / "dev/shm").chmod(mode)
    devices = HostDevices(root)
    assert why(devices, path) == f"does not exist, and {doubt}"
    assert path not in devices


def test_what_is_no_device_says_what_it_is(root: Path) -> None:
    devices = HostDevices(root)
    (root / "dev/file").touch()
    (root / "dev/one").symlink_to("two")
    (root / "dev/two").symlink_to("one")
    (root / "dev/gone").symlink_to("/x")
    (root / "dev/into").symlink_to("file/below")
    assert why(devices, "/dev") == "is a directory"
    assert why(devices, "/") == "is a directory"
    assert why(devices, "/dev/file") == "is a regular file"
    assert why(devices, "/dev/one") == "leads through too many links"
    assert why(devices, "/dev/gone") == "is a dangling link to /x"
    assert why(devices, "/dev/into") == "is a dangling link to file/below"
    assert why(devices, "/dev/" + "x" * 300) == "has a name that is too long"


def test_a_path_has_at_most_256_parts_links_followed(root: Path) -> None:
    devices = HostDevices(root)
    fifo(root / "dev/pipe")
    too_many = "has more than 256 parts, links followed"
    assert devices["/." * 253 + "/dev/pipe"].type == "p"
    assert why(devices, "/." * 254 + "/dev/pipe") == too_many
    assert why(devices, "/" * 255 + "dev/pipe") == too_many
    (root / "dev/long").symlink_to("./" * 252 + "pipe")
    assert devices["/dev/long"].type == "p"
    (root / "dev/longer").symlink_to("./" * 253 + "pipe")
    assert why(devices, "/dev/longer") == too_many
    (root / "dev/link0").symlink_to("./" * 100 + "pipe")
    (root / "dev/link1").symlink_to("./" * 100 + "link0")
    (root / "dev/link2").symlink_to("./" * 100 + "link1")
    assert devices["/dev/link1"].type == "p"
    assert why(devices, "/dev/link2") == too_many


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be nobody while the test runs, if we are root, who may look everywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("nobody")
def test_a_directory_that_we_may_not_enter_says_so() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        closed = Path(root, "dev/closed")
        closed.mkdir(mode=0, parents=True)
        assert why(HostDevices(root), "/dev/closed/x") == "cannot be inspected: permission denied"


def test_nothing_is_remembered(root: Path) -> None:
    devices = HostDevices(str(root) + "/")
    assert "/dev/pipe" not in devices
    fifo(root / "dev/pipe")
    assert "/dev/pipe" in devices
    (root / "dev/pipe").unlink()
    assert "/dev/pipe" not in devices


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda root: (root / "dev/pipe").chmod(0o600), {"mode": 0o600}),
        (lambda root: os.chown(root / "dev/pipe", -1, 7), {"gid": 7}),
        (lambda root: os.chown(root / "dev/pipe", 7, -1), {"uid": 7}),
        (lambda root: (root / "dev/link").unlink(), None),
        (lambda root: (root / "dev/pipe").unlink(), "is a dangling link to pipe"),
        (
            lambda root: (root / "dev").chmod(0o777),
            {"doubt": "/dev can be written by everybody (mode 0777)"},
        ),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_path_that_is_known_is_looked_at_again(
    root: Path, change: Callable[[Path], None], told: dict[str, Any] | str | None
) -> None:
    fifo(root / "dev/pipe")
    (root / "dev/link").symlink_to("pipe")
    devices = HostDevices(root)
    before = devices["/dev/link"]
    assert devices["/dev/link"] == before
    change(root)
    if isinstance(told, dict):
        assert devices["/dev/link"] == before._replace(**told)
    elif told is None:
        assert "/dev/link" not in devices
    else:
        assert why(devices, "/dev/link") == told
        assert why(devices, "/dev/link") == told


def test_a_link_that_leads_elsewhere_is_followed_there(root: Path) -> None:
    fifo(root / "dev/one", 0o600)
    fifo(root / "dev/two", 0o640)
    (root / "dev/link").symlink_to("one")
    devices, files = HostDevices(root), HostFiles(root)
    assert (devices["/dev/link"].real, files["/dev/link"].real) == ("/dev/one", "/dev/one")
    (root / "dev/new").symlink_to("two")
    (root / "dev/new").rename(root / "dev/link")
    assert (devices["/dev/link"].real, files["/dev/link"].real) == ("/dev/two", "/dev/two")
    assert devices["/dev/link"].mode == 0o640


def test_what_was_missing_is_found_when_it_is_there(root: Path) -> None:
    devices = HostDevices(root)
    for _ in range(2):
        assert "/dev/deep/pipe" not in devices
    (root / "dev/deep").mkdir(mode=0o755)
    for _ in range(2):
        assert "/dev/deep/pipe" not in devices
    fifo(root / "dev/deep/pipe")
    assert devices["/dev/deep/pipe"].type == "p"


def test_others_who_may_put_something_there_are_told_of_when_they_may(root: Path) -> None:
    devices = HostDevices(root)
    assert "/dev/new" not in devices
    (root / "dev").chmod(0o777)
    assert why(devices, "/dev/new").startswith("does not exist, and /dev can be written by")


def test_a_number_has_the_names_that_it_has_now(root: Path) -> None:
    uevent = root / "sys/dev/char/10:229/uevent"
    record = root / "run/udev/data/c10:229"
    uevent.parent.mkdir(parents=True)
    record.parent.mkdir(parents=True)
    numbers = HostNumbers(root)
    assert ("c", 10, 229) not in numbers
    uevent.write_text("MAJOR=10\nDEVNAME=fuse\n")
    for _ in range(2):
        assert numbers["c", 10, 229] == ("/dev/fuse",)
    record.write_text("S:by-id/fuse\n")
    for _ in range(2):
        assert numbers["c", 10, 229] == ("/dev/fuse", "/dev/by-id/fuse")
    new = record.with_name("new")
    new.write_text("S:by-id/else\n")
    new.rename(record)
    assert numbers["c", 10, 229] == ("/dev/fuse", "/dev/by-id/else")
    uevent.unlink()
    assert ("c", 10, 229) not in numbers


def test_what_is_remembered_is_there_however_one_asks() -> None:
    remembered = Remembered({"a": 1})
    assert remembered.get("a") == 1
    assert remembered.get("b", 2) == 2
    assert "a" in remembered
    assert "b" not in remembered


@pytest.mark.slow
def test_what_is_remembered_of_a_missing_device_holds_nothing_of_the_request(root: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        remembered = Remembered(HostDevices(root))
        for _ in range(2):
            with pytest.raises(KeyError):
                remembered["/dev/none"]
        del remembered
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_host_is_a_value_whose_devices_may_be_a_dict() -> None:
    assert Host({}) == Host({}, NEWEST)
