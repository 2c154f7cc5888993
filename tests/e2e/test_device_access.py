"""Access to devices on real OCI runtimes and both versions of cgroups: what is asked is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from support.device_rules import OPENINGS, READINGS, Number, Rule

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.cdi.registry import CdiRegistry
from nri_inject.cdi.resolve import resolve
from nri_inject.host.access import AUTOMATIC, letters, possible_access, refusal
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import real_host
from nri_inject.runtime.apply import apply

from .conftest import NewContainerd
from .cri import CriError
from .oci_runtimes import Cgroups, OciRuntime, Spec
from .plugin import External

FUSE: Number = ("c", 10, 229)
NO_CONTAINER = Container()
DEVICES = [name for name in ("fuse", "kvm", "loop0") if Path("/dev", name).exists()]

# Redirections of the shell open for reading (<), for writing (>) and for both (<>).
OPEN = """\
opened() {{ (eval "exec 3$2 $1") 2>/tmp/why && echo "$1 $3" || case "$(busybox cat /tmp/why)" in
    *"not permitted"*) ;; *) echo "$1 $3" ;; esac; }}
for path in {paths}; do opened $path '<' r; opened $path '>' w; opened $path '<>' rw; done
"""


def opened(oci: OciRuntime, spec: Spec, paths: Iterable[str]) -> dict[str, set[str]]:
    """Return in which ways each device can be opened, as far as its cgroup has a say in it."""
    done = oci.run(spec, OPEN.format(paths=" ".join(paths)))
    assert done.returncode == 0, done.stderr
    return told(done.stdout, paths)


def told(stdout: str, paths: Iterable[str]) -> dict[str, set[str]]:
    """Return what the script has told."""
    found: dict[str, set[str]] = {path: set() for path in paths}
    for line in stdout.splitlines():
        path, opening = line.split()
        found[path].add(opening)
    return found


def allowed(access: str) -> set[str]:
    return {opening for opening, needed in OPENINGS.items() if needed <= {*access}}


def with_nodes(spec: Spec, numbers: dict[str, Number], rules: Iterable[Rule]) -> Spec:
    """Give a container nodes by path, and rules for the device cgroup."""
    nodes = [
        {"path": path, "type": kind, "major": major, "minor": minor}
        for path, (kind, major, minor) in numbers.items()
    ]
    linux = spec["linux"]
    present = linux["resources"]["devices"]
    resources = {"devices": [*present, *(rule.oci() for rule in rules)]}
    return {**spec, "linux": {**linux, "devices": nodes, "resources": resources}}


# --- what is asked for is kept ------------------------------------------------------------------


@pytest.mark.parametrize("access", ["r", "w", "m", "rw"])
def test_an_annotations_access_is_all_that_a_container_has(oci: OciRuntime, access: str) -> None:
    wish = [{"path": f"/dev/{name}", "access": access} for name in DEVICES]
    pod = Pod(annotations={"devices.noderesource.dev/pod": json.dumps(wish)})
    adjustment = inject(pod, Container(name="main"), real_host())
    found = opened(oci, apply(oci.spec(), adjustment), [f"/dev/{name}" for name in DEVICES])
    assert found == {f"/dev/{name}": allowed(access) for name in DEVICES}


@pytest.mark.parametrize("permissions", ["r", "w", "none", "rwm"])
def test_the_permissions_of_a_cdi_spec_are_all_that_a_container_has(
    oci: OciRuntime, tmp_path: Path, permissions: str
) -> None:
    nodes = [{"path": f"/dev/{name}", "permissions": permissions} for name in DEVICES]
    adjustment = of_cdi(tmp_path, {"deviceNodes": nodes})
    found = opened(oci, apply(oci.spec(), adjustment), [f"/dev/{name}" for name in DEVICES])
    expected = allowed(permissions.replace("none", ""))
    assert found == {f"/dev/{name}": expected for name in DEVICES}


def of_cdi(
    directory: Path, edits: dict[str, object], container: Container = NO_CONTAINER
) -> Adjustment:
    """Return what the one device of a spec becomes for a container."""
    device = {"name": "0", "containerEdits": edits}
    spec = {"cdiVersion": "1.1.0", "kind": "example.com/part", "devices": [device]}
    (directory / "part.json").write_text(json.dumps(spec))
    with closing(CdiRegistry([str(directory)], unsafe=True)) as registry:
        snapshot = registry.current()
    devices = real_host().devices
    return resolve(["example.com/part=0"], snapshot, devices, container=container).adjust


# --- what is believed of rules ------------------------------------------------------------------


def deny(access: str, kind: str = "c", major: int = 10, minor: int = 229) -> Rule:
    return Rule(False, access, kind, major, minor)


def allow(access: str, kind: str = "c", major: int = 10, minor: int = 229) -> Rule:
    return Rule(True, access, kind, major, minor)


@pytest.mark.parametrize(
    "beside",
    [
        [deny("w")],
        [deny("rw")],
        [deny("r"), deny("w"), deny("m")],
        [deny("rwm"), allow("r")],
        [deny("rwm"), allow("r"), allow("w")],
        [deny("rwm", "c", -1, -1)],
        [deny("rwm", "c", 10, -1)],
        [deny("rwm", "a", -1, -1)],
        [deny("w", "a", -1, -1)],
        [deny("rwm", "a", -1, -1), allow("r")],
        [deny("rwm"), allow("r", "c", 10, -1)],
        [deny("rwm"), allow("r", "a", 1, 1)],
    ],
    ids=lambda rules: "; ".join(
        f"{'allow' if r.allow else 'deny'} {r.access} {r.kind} {r.major}:{r.minor}" for r in rules
    ),
)
def test_a_container_has_no_more_access_than_is_believed(
    oci: OciRuntime, beside: list[Rule]
) -> None:
    """And it has what one of the two readings says that the tests without a runtime are held to."""
    automatic = Rule(True, letters(AUTOMATIC["c"]), *FUSE)
    spec = with_nodes(oci.spec(), {"/dev/fuse": FUSE}, [automatic, *beside])
    found = opened(oci, spec, ["/dev/fuse"])["/dev/fuse"]
    believed = possible_access(FUSE, [rule.message() for rule in beside])
    assert all(OPENINGS[opening] <= believed for opening in found)
    assert found in [reading([automatic, *beside], FUSE) for reading in READINGS]


# The type of a device, its major and minor number.
CANDIDATES: dict[str, Number] = {
    **{f"/dev/m1-{minor}": ("c", 1, minor) for minor in (1, 3, 5, 7, 8, 9, 11)},
    **{f"/dev/m5-{minor}": ("c", 5, minor) for minor in (0, 1, 2)},
    "/dev/pts-77": ("c", 136, 77),
    "/dev/net-tun": ("c", 10, 200),
    "/dev/a-fuse": FUSE,
    "/dev/a-loop": ("b", 7, 0),
}


def test_what_is_refused_is_what_the_runtime_opens_to_every_container(oci: OciRuntime) -> None:
    rules = [Rule(False, "rwm", *number) for number in CANDIDATES.values()]
    found = opened(oci, with_nodes(oci.spec(), CANDIDATES, rules), CANDIDATES)
    for path, number in CANDIDATES.items():
        if found[path]:
            assert refusal(number, ""), path
        elif number != ("c", 5, 1):  # the console, which crun opens and runc does not
            assert not refusal(number, ""), path


# --- with a daemon ------------------------------------------------------------------------------


def test_access_is_kept_below_a_daemon(
    new_containerd: NewContainerd,
    oci_programs: Mapping[str, Path],
    cgroups: Cgroups,
    tmp_path: Path,
) -> None:
    """And a daemon that would drop the rules is named."""
    daemon = new_containerd(handlers=oci_programs, cgroups=cgroups)
    daemon.start()
    log = tmp_path / "plugin.log"
    with closing(External("nri-device-injector", daemon, log, "--policy", "unrestricted")):
        wish = {"devices.noderesource.dev/container.main": "[{path: /dev/fuse, access: r}]"}
        for handler in oci_programs:
            pod = daemon.cri.run_pod(handler, annotations=wish, handler=handler)
            if daemon.kind.nri < (0, 10, 0):
                with pytest.raises(CriError, match="does not apply device rules"):
                    daemon.cri.create(pod, "main")
                continue
            container = daemon.cri.run(pod, "main")
            done = daemon.cri.exec(container, "sh", "-c", OPEN.format(paths="/dev/fuse"))
            assert told(done.stdout, ["/dev/fuse"]) == {"/dev/fuse": {"r"}}, handler
