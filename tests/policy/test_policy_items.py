"""What an adjustment gives, thing by thing: nothing in it goes without a word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from nri_inject import api
from nri_inject.api import Adjustment, Container
from nri_inject.host.model import DeviceNode, HostPath
from nri_inject.injectors.host import Host
from nri_inject.policy.evaluation import Evaluation
from nri_inject.policy.items import items_of
from nri_inject.policy.rules import Item
from nri_inject.policy.settle import without

FUSE = DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0, "/dev/fuse")
DISK = DeviceNode("/dev/by-id/disk", "b", 8, 0, 0o660, 0, 6, "/dev/sda")
HOST = Host(
    {node.path: node for node in (FUSE, DISK)},
    numbers={
        FUSE.number: ("/dev/fuse",),
        DISK.number: ("/dev/sda", "/dev/by-id/disk"),
        ("c", 1, 1): ("/dev/mem",),
    },
    files={"/srv": HostPath("/srv"), "/srv/link": HostPath("/etc")},
)


def evaluation(container: Container | None = None, host: Host = HOST) -> Evaluation:
    return Evaluation(host, container or Container(name="main"), lambda _: True, lambda _: True)


def only(adjustment: Adjustment, container: Container | None = None) -> Item[Any]:
    (item,) = items_of(adjustment, evaluation(container))
    return item


def linux(**fields: Any) -> Adjustment:
    return Adjustment(linux=api.LinuxContainerAdjustment(**fields))


def device(path: str, kind: str, major: int, minor: int) -> api.LinuxDevice:
    return api.LinuxDevice(path=path, type=kind, major=major, minor=minor)


def access_rule(
    access: str, kind: str = "c", major: int | None = 1, minor: int | None = 1, allow: bool = True
) -> api.LinuxDeviceCgroup:
    rule = api.LinuxDeviceCgroup(allow=allow, type=kind, access=access)
    for name, number in (("major", major), ("minor", minor)):
        if number is not None:
            getattr(rule, name).value = number
    return rule


def resources(*rules: api.LinuxDeviceCgroup) -> api.LinuxResources:
    return api.LinuxResources(devices=rules)


# --- no field slips through ---------------------------------------------------------------------

# What is the container's own affair, or says nothing before the messages in it do.
OWN = {"annotations", "env", "args"}
NESTED = {
    "linux": "nri.pkg.api.v1alpha1.LinuxContainerAdjustment",
    "linux.resources": "nri.pkg.api.v1alpha1.LinuxResources",
    "linux.resources.memory": "nri.pkg.api.v1alpha1.LinuxMemory",
    "linux.resources.cpu": "nri.pkg.api.v1alpha1.LinuxCPU",
    "linux.rdt": "nri.pkg.api.v1alpha1.LinuxRdt",
    "hooks": "nri.pkg.api.v1alpha1.Hooks",
}


def leaves(message: Message, place: str = "") -> Iterator[str]:
    """Yield the places of all fields, those of nested messages in the messages' stead."""
    for field in message.DESCRIPTOR.fields:
        name = f"{place}{field.name}"
        if name in NESTED:
            nested: Message = getattr(message, field.name)
            assert nested.DESCRIPTOR.full_name == NESTED[name]
            yield from leaves(nested, f"{name}.")
        else:
            yield name


def filled(place: str) -> Adjustment:
    """Return an adjustment that has something in one field only."""
    adjustment = Adjustment()
    message: Any = adjustment
    *parents, name = place.split(".")
    for parent in parents:
        message = getattr(message, parent)
    _fill(message, message.DESCRIPTOR.fields_by_name[name])
    return adjustment


def _fill(message: Any, field: FieldDescriptor) -> None:
    value = getattr(message, field.name)
    if hasattr(value, "keys"):
        _fill_map(value)
    elif hasattr(value, "add"):
        added = value.add()
        if "allow" in added.DESCRIPTOR.fields_by_name:
            added.allow = True
    elif hasattr(value, "append"):
        value.append("x")
    elif isinstance(value, Message):
        value.SetInParent()
    else:
        setattr(message, field.name, "x" if isinstance(value, str) else 1)


def _fill_map(value: Any) -> None:
    if hasattr(value, "get_or_create"):  # of messages
        value.get_or_create("x")
    else:
        value["x"] = "x"


ALL = sorted(leaves(Adjustment()))


@pytest.mark.parametrize("place", ALL)
def test_every_field_of_nri_is_an_item_or_the_containers_own_affair(place: str) -> None:
    adjustment = filled(place)
    assert adjustment.ByteSize() > 0
    found = items_of(adjustment, evaluation())
    assert len(found) == (0 if place in OWN else 1)


def test_every_item_of_a_kind_that_a_pod_can_ask_for_can_be_taken_out() -> None:
    for place in ALL:
        adjustment = filled(place)
        for item in items_of(adjustment, evaluation()):
            if item.kind not in ("cdi_devices", "hooks", "fields"):
                left = without(adjustment, [item])
                assert items_of(left, evaluation()) == [], place
                assert items_of(adjustment, evaluation()) == [item], "the one given is as it was"


def test_what_is_taken_away_is_an_item_of_its_own() -> None:
    adjustment = linux(
        devices=[device("-/dev/fuse", "", 0, 0)],
        sysctl={"-net/core/x": ""},
        net_devices={"-eth0": api.LinuxNetDevice()},
        resources=resources(access_rule("rwm", "a", None, None, allow=False)),
    )
    adjustment.mounts.add(destination="-/proc//acpi/")
    adjustment.env.add(key="-HOME")
    found = items_of(adjustment, evaluation())
    assert [(item.kind, item.asked, item.names) for item in found] == [
        ("removals", "removal of mount at '/proc/acpi'", ("/proc/acpi",)),
        ("removals", "removal of device '/dev/fuse'", ("/dev/fuse",)),
        ("removals", "removal of sysctl 'net.core.x'", ("net.core.x",)),
        ("removals", "removal of network device 'eth0'", ("eth0",)),
    ]
    assert len({item.key for item in found}) == 4


# --- devices ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (device("/dev/fuse", "c", 10, 229), ("/dev/fuse",)),
        (device("/dev/by-id/disk", "b", 8, 0), ("/dev/sda", "/dev/by-id/disk")),
        # Where the host has nothing, the number alone tells what it is.
        (device("/dev/harmless", "b", 8, 0), ("/dev/sda", "/dev/by-id/disk")),
        (device("/dev/harmless", "c", 7, 7), ()),
    ],
)
def test_a_device_has_the_hosts_names_for_its_number(
    asked: api.LinuxDevice, names: tuple[str, ...]
) -> None:
    item = only(linux(devices=[asked]))
    assert (item.kind, item.names, item.trouble) == ("devices", names, "")


@pytest.mark.parametrize(
    ("rules", "access"),
    [
        ([], "rw"),
        ([access_rule("m", major=10, minor=229)], "rwm"),
        ([access_rule("w", major=10, minor=229, allow=False)], "rw"),
        ([access_rule("rwm", major=10, minor=229, allow=False)], ""),
        ([access_rule("rwm", major=8, minor=0, allow=False)], "rw"),
    ],
)
def test_a_device_has_the_access_that_the_rules_beside_it_leave(
    rules: list[api.LinuxDeviceCgroup], access: str
) -> None:
    given = [device("/dev/fuse", "c", 10, 229)]
    item = only(linux(devices=given, resources=resources(*rules)))
    assert item.facts.access == frozenset(access)


def test_a_block_device_may_be_made_anew_unless_a_rule_takes_that_away() -> None:
    item = only(linux(devices=[device("/dev/sda", "b", 8, 0)]))
    assert item.facts.access == frozenset("rwm")
    assert item.suggestion == "{path: /dev/sda, type: b}"


def test_a_rule_without_its_device_is_an_item_of_its_own() -> None:
    item = only(linux(resources=resources(access_rule("rw"))))
    assert (item.names, item.trouble) == (("/dev/mem",), "")
    assert (item.asked, item.key) == ("access 'rw' to devices c 1:1", "rule c 1:1 rw")
    assert item.suggestion == "{type: c, major: 1, minor: 1}"


@pytest.mark.parametrize(
    "rule",
    [
        access_rule("rwm", "a", None, None),
        access_rule("rwm", "", None, None),
        access_rule("r", "c", None, None),
        access_rule("r", "b", None, 0),
        access_rule("r", "c", -1, -1),
    ],
    ids=lambda rule: f"{rule.type or 'no type'} {rule.major.value}",
)
def test_a_rule_for_a_whole_kind_is_allowed_by_nothing(rule: api.LinuxDeviceCgroup) -> None:
    item = only(linux(resources=resources(rule)))
    assert item.trouble == "it allows all devices of a type"


@pytest.mark.parametrize(("devices", "rules"), [(513, 0), (1, 512), (0, 513)])
def test_with_more_than_512_devices_and_rules_nothing_is_looked_at(
    devices: int, rules: int
) -> None:
    adjustment = linux(
        devices=[device(f"/dev/{number}", "c", 7, number) for number in range(devices)],
        resources=resources(*(access_rule("r", minor=number) for number in range(rules))),
    )
    blind = Host(Unseen(), numbers=Unseen(), files=Unseen())
    items: list[Item[Any]] = [*items_of(adjustment, evaluation(host=blind))]
    assert len(items) == devices + rules
    assert {item.trouble for item in items} == {"more than 512 devices and rules are requested"}
    assert {item.facts.access for item in items} == {frozenset()}


class Unseen(Mapping[Any, Any]):
    """A part of the host that must not be looked at."""

    def __getitem__(self, key: object) -> Any:
        raise AssertionError(f"{key!r} was looked at")

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("all was looked at")

    def __len__(self) -> int:
        raise AssertionError("all was looked at")


# --- mounts -------------------------------------------------------------------------------------


def mount(source: str, kind: str = "bind", *options: str, to: str = "/in") -> Adjustment:
    asked = api.Mount(source=source, destination=to, type=kind, options=options)
    return Adjustment(mounts=[asked])


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("bind", [], "bind"),
        ("", ["bind"], "bind"),
        ("none", ["rbind"], "bind"),
        ("", [], "none"),
        ("tmpfs", [], "tmpfs"),
        ("tmpfs", ["bind"], "tmpfs with bind"),
        ("ext4", ["rbind"], "ext4 with bind"),
    ],
)
def test_a_mount_is_a_bind_mount_or_of_its_file_systems_type(
    kind: str, options: list[str], expected: str
) -> None:
    assert only(mount("/srv", kind, *options)).facts.type == expected


@pytest.mark.parametrize(
    ("options", "writable", "why"),
    [
        ([], True, ""),
        (["ro"], False, ""),
        (["bind", "ro"], False, ""),
        (["bind", "rro"], False, ""),
        (["rbind", "rro"], False, ""),
        (["rbind", "rro", "ro"], False, ""),
        (["ro", "rw"], True, ""),
        (["ro", "rrw"], True, ""),
        (["rro", "rw"], True, ""),
        (["rw", "ro"], True, "it contains both ro and rw"),
        (["rrw", "rro"], True, "it contains both ro and rw"),
        (
            ["rbind", "ro"],
            True,
            "with rbind, ro keeps mounts below the source writable; use rro, or bind",
        ),
    ],
)
def test_a_mount_is_read_only_if_nothing_below_it_can_be_written(
    options: list[str], writable: bool, why: str
) -> None:
    facts = only(mount("/srv", "bind", *options)).facts
    assert (facts.writable, facts.why_writable) == (writable, why)


@pytest.mark.parametrize(
    ("destination", "clean"),
    [("/in", "/in"), ("//etc/./passwd/", "/etc/passwd"), ("etc/passwd", "/etc/passwd")],
)
def test_a_destination_is_what_its_spelling_means(destination: str, clean: str) -> None:
    assert only(mount("/srv", to=destination)).facts.destination == clean


def test_the_source_is_where_the_links_lead() -> None:
    item = only(mount("/srv/link", "bind", "ro"))
    assert (item.names, item.resolved) == (("/etc",), "/etc bind ro")
    assert item.asked == "mount of '/srv/link' (/etc) at '/in'"
    assert item.suggestion == "{source: /etc, destination: /in}"


def test_more_than_1024_mounts_and_more_than_64_options_are_allowed_by_nothing() -> None:
    many = Adjustment(mounts=[api.Mount(destination=f"/{number}") for number in range(1025)])
    blind = Host(Unseen(), files=Unseen())
    assert {item.trouble for item in items_of(many, evaluation(host=blind))} == {
        "more than 1024 mounts are requested"
    }
    item = only(mount("/srv", "bind", *(f"o{number}" for number in range(65))))
    assert item.trouble == "it has more than 64 options"


def test_a_source_of_more_than_64_parts_is_not_looked_at() -> None:
    (item,) = items_of(mount("/a" * 65), evaluation(host=Host({}, files=Unseen())))
    assert item.trouble == "its source has more than 64 parts"


# --- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", ["net.core.x", "net/core/x", "net/core.x", "/net/core//x", "net..core.x"]
)
def test_a_sysctl_has_one_name_however_it_is_written(key: str) -> None:
    item = only(linux(sysctl={key: "1"}))
    assert (item.names, item.key) == (("net.core.x",), key)


def test_a_network_device_is_the_hosts() -> None:
    item = only(linux(net_devices={"eth0": api.LinuxNetDevice(name="inside")}))
    assert (item.kind, item.names) == ("network_devices", ("eth0",))


def test_priorities_and_policies_have_their_numbers() -> None:
    scheduler = api.LinuxScheduler(policy="SCHED_FIFO", nice=-3, priority=4)
    item = only(linux(scheduler=scheduler))
    assert (item.names, item.facts) == (("SCHED_FIFO",), (-3, 4))
    assert item.suggestion == "{policy: SCHED_FIFO, min_nice: -3, max_priority: 4}"
    item = only(linux(io_priority={"class": "IOPRIO_CLASS_RT", "priority": 2}))
    assert (item.names, item.facts) == (("IOPRIO_CLASS_RT",), 2)
    item = only(linux(memory_policy=api.LinuxMemoryPolicy(mode="MPOL_BIND")))
    assert item.names == ("MPOL_BIND",)


def limit(hard: int, soft: int) -> api.POSIXRlimit:
    return api.POSIXRlimit(type="RLIMIT_NOFILE", hard=hard, soft=soft)


@pytest.mark.parametrize(
    ("before", "asked", "hard"),
    [
        (None, limit(1, 1), 1),
        (limit(10, 5), limit(10, 10), None),
        (limit(10, 5), limit(3, 3), None),
        (limit(10, 5), limit(11, 5), 11),
        # Not a limit that setrlimit(2) takes, but what it is held against is the higher one.
        (limit(10, 5), limit(10, 20), 20),
    ],
)
def test_only_a_limit_above_the_containers_own_is_an_item(
    before: api.POSIXRlimit | None, asked: api.POSIXRlimit, hard: int | None
) -> None:
    container = Container(rlimits=[before] if before else [])
    items = items_of(Adjustment(rlimits=[asked]), evaluation(container))
    assert [item.facts for item in items] == ([] if hard is None else [hard])


@pytest.mark.parametrize(
    ("path", "names", "trouble"),
    [
        ("/bin/hook", ("/bin/hook", "/usr/bin/hook"), ""),
        ("/bin//hook", ("/bin/hook", "/usr/bin/hook"), ""),
        ("/opt/x/../../srv/evil", ("/srv/evil",), ""),
        ("/opt/shared", (), "others can change it: /opt/shared can be written by everybody"),
        ("/opt/../unseen", ("/unseen",), "/opt/../unseen, and it contains '..'"),
        ("/unseen", ("/unseen",), ""),
    ],
)
def test_a_program_of_a_hook_is_where_its_path_leads(
    path: str, names: tuple[str, ...], trouble: str
) -> None:
    files = {
        "/bin/hook": HostPath("/usr/bin/hook"),
        "/bin//hook": HostPath("/usr/bin/hook"),
        "/opt/x/../../srv/evil": HostPath("/srv/evil"),
        "/opt/shared": HostPath("/opt/shared", None, "/opt/shared can be written by everybody"),
    }
    asked = Adjustment(hooks=api.Hooks(poststop=[api.Hook(path=path)]))
    (item,) = items_of(asked, evaluation(host=Host({}, files=files)))
    assert (item.names, item.trouble) == (names, trouble)


def test_hooks_are_told_apart_by_their_whole_command_line() -> None:
    hooks = [api.Hook(path="/bin/x", args=["x", word]) for word in ("a", "b")]
    first, second = items_of(Adjustment(hooks=api.Hooks(poststop=hooks)), evaluation())
    assert first.names == second.names == ("/bin/x",)
    assert (first.asked, first != second) == ("poststop hook '/bin/x'", True)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("eth0", "eth0"),
        ("on", '"on"'),
        ("*", '"[*]"'),
        ("a]}, allow: {mounts: [/", '"a]}, allow: {mounts: [[]/"'),
        ('a"b', '"a\\"b"'),
        ("1", '"1"'),
    ],
)
def test_the_rule_that_is_suggested_is_for_this_name_and_nothing_else(
    name: str, written: str
) -> None:
    """An admin pastes it, and a pod's author chose the name."""
    assert only(linux(net_devices={name: api.LinuxNetDevice()})).suggestion == written
