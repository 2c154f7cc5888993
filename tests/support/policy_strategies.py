"""Policies, requests and who makes them, for hypothesis: small, so that they meet each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.host.model import DeviceNode, HostPath, NotADevice
from nri_inject.host.sight import Mounted
from nri_inject.host.views import Views
from nri_inject.injectors.host import Host


def node(path: str, kind: Any, major: int, minor: int, **more: Any) -> DeviceNode:
    return DeviceNode(path, kind, major, minor, 0o600, 0, 0, **({"real": path} | more))


class Devices(dict[str, DeviceNode]):
    """The host's nodes, and one path that is something else."""

    def __missing__(self, path: str) -> DeviceNode:
        if path == "/dev/dir":
            raise NotADevice(path, "is a directory")
        raise KeyError(path)


# What is mounted where: the root is a directory of the disk, and other directories show it, too.
MOUNTS = [("/", "disk", "/root"), ("/mnt", "disk", "/root/srv"), ("/opt/disk", "disk", "/")]
HOST = Host(
    Devices(
        {
            "/dev/fuse": node("/dev/fuse", "c", 10, 229),
            "/dev/sda": node("/dev/sda", "b", 8, 0),
            "/dev/mem": node("/dev/mem", "c", 1, 1),
            "/dev/by-id/disk": node("/dev/by-id/disk", "b", 8, 0, real="/dev/sda"),
            "/dev/shm/x": node("/dev/shm/x", "c", 10, 229, doubt="/dev/shm is everybody's"),
            "/srv/fuse": node("/srv/fuse", "c", 10, 229),
            "/srv/null": node("/srv/null", "b", 8, 0),
            "/dev/pts/3": node("/dev/pts/3", "c", 136, 3),
        }
    ),
    numbers={
        ("c", 10, 229): ("/dev/fuse",),
        ("b", 8, 0): ("/dev/sda", "/dev/by-id/disk"),
        ("c", 1, 1): ("/dev/mem",),
        ("c", 1, 5): ("/dev/zero",),
    },
    files={
        "/": HostPath("/"),
        "/srv": HostPath("/srv"),
        "/srv/a": HostPath("/srv/a"),
        "/srv/a/b": HostPath("/srv/a/b"),
        "/srv/link": HostPath("/etc"),
        "/srv/proc": HostPath("/srv/proc", on_procfs=True),
        "/srv/tmp/x": HostPath("/srv/tmp/x", "/srv/tmp is everybody's"),
        "/etc": HostPath("/etc"),
        "/etc/ssl": HostPath("/etc/ssl"),
        "/home/bob": HostPath("/home/bob"),
        "/mnt": HostPath("/mnt"),
        "/mnt/a": HostPath("/mnt/a"),
        "/opt": HostPath("/opt"),
        "/opt/disk/root/etc": HostPath("/opt/disk/root/etc"),
        "/home/bob/.ssh": HostPath("/home/bob/.ssh"),
    },
    views=lambda: Views([Mounted(at, top, device=disk) for at, disk, top in MOUNTS]),
)

# --- requests -----------------------------------------------------------------------------------

device_paths = st.sampled_from(
    [*HOST.devices.keys(), "/dev/dir", "/dev/new", "/srv/new", "/opt/new", "/opt/dev/fuse"]
)
numbers = st.sampled_from([*HOST.numbers, ("c", 7, 7), ("b", 7, 0), ("c", 136, 3), ("c", 143, 9)])
true_devices = st.sampled_from([*HOST.devices.values()]).map(
    lambda node: api.LinuxDevice(path=node.path, type=node.type, major=node.major, minor=node.minor)
)
claimed_devices = st.builds(
    lambda path, number: api.LinuxDevice(
        path=path, type=number[0], major=number[1], minor=number[2]
    ),
    device_paths,
    numbers,
)
devices = st.one_of(true_devices, claimed_devices)
access_rules = st.builds(
    lambda allow, number, access: api.LinuxDeviceCgroup(
        allow=allow,
        type=number[0],
        major=api.OptionalInt64(value=number[1]),
        minor=api.OptionalInt64(value=number[2]),
        access=access,
    ),
    st.booleans(),
    numbers,
    st.sampled_from(["r", "w", "m", "rw", "rwm"]),
)
for_all_devices = st.builds(
    lambda access: api.LinuxDeviceCgroup(allow=False, type="a", access=access),
    st.sampled_from(["w", "rwm"]),
)
destinations = st.sampled_from(
    ["/in", "/in/x", "/data", "/etc", "/etc/passwd", "/proc/x", "/sys", "/dev/shm", "/deva", "/"]
)
usual_options = st.sampled_from([["bind", "ro"], ["rbind", "rro"], ["bind", "rw"], ["ro"]])
odd_options = st.lists(
    st.sampled_from(
        [
            *("bind", "rbind", "ro", "rro", "rw", "nosuid", "rslave", "size=1k", "dir=/a"),
            *("ro,noatime", "size=1k,rw", "size=1k,mode=7", "x,bind", ",", "size=1\\", 'size="'),
        ]
    ),
    max_size=4,
)
bind_mounts = st.builds(
    lambda source, destination, options: api.Mount(
        source=source, destination=destination, type="bind", options=options
    ),
    st.sampled_from(
        [
            *("/", "/srv", "/srv/a", "/srv/a/b", "/etc", "/etc/ssl", "/home/bob/.ssh"),
            *("/mnt", "/mnt/a", "/opt", "/opt/disk/root/etc"),
        ]
    ),
    st.sampled_from(["/in", "/in/x", "/data", "/etc/passwd"]),
    usual_options,
)
odd_mounts = st.builds(
    lambda source, destination, kind, options: api.Mount(
        source=source, destination=destination, type=kind, options=options
    ),
    st.sampled_from([*HOST.files, "/srv/none", "tmpfs", "", "nas:/x"]),
    destinations,
    st.sampled_from(["bind", "", "none", "tmpfs", "nfs"]),
    st.one_of(usual_options, odd_options),
)
mounts = st.one_of(bind_mounts, odd_mounts)
sysctl_keys = st.sampled_from(
    [
        *("net.core.x", "net/core/x", "net.core//x", "kernel.shm", "net.ipv4.a", "/kernel/shm"),
        *("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding", "net/ipv4/conf/eth0/forwarding"),
        *("net.ipv6.conf.default.x", "net.ipv6.conf.eth0.x"),
    ]
)
limits = st.builds(
    lambda name, hard: api.POSIXRlimit(type=f"RLIMIT_{name}", hard=hard, soft=hard),
    st.sampled_from(["NOFILE", "MEMLOCK"]),
    st.sampled_from([0, 100, 5000, 2**64 - 1]),
)


removals = st.lists(
    st.sampled_from(["/proc", "/sys/fs", "/data", "/data/x", "/run/secrets", "/procs"]),
    max_size=2,
    unique=True,
)


@st.composite
def adjustments(draw: st.DrawFn) -> Adjustment:
    adjustment = Adjustment()
    linux = adjustment.linux
    linux.devices.extend(draw(st.lists(devices, max_size=3, unique_by=lambda d: d.path)))
    given = {(d.type, d.major, d.minor) for d in linux.devices}
    # A rule that comes without its device is another thing; test_policy_items has those.
    rules = draw(st.lists(st.one_of(access_rules, access_rules, for_all_devices), max_size=3))
    linux.resources.devices.extend(
        rule
        for rule in rules
        if rule.type == "a" or (rule.type, rule.major.value, rule.minor.value) in given
    )
    adjustment.mounts.extend(draw(st.lists(mounts, max_size=3, unique_by=lambda m: m.destination)))
    adjustment.rlimits.extend(draw(st.lists(limits, max_size=2, unique_by=lambda x: x.type)))
    for key in draw(st.lists(sysctl_keys, max_size=2)):
        linux.sysctl[key] = "1"
    for name in draw(st.lists(st.sampled_from(["eth0", "eth1", "*"]), max_size=2)):
        linux.net_devices[name].name = "in"
    if draw(st.booleans()):
        policies = [api.LinuxSchedulerPolicy.SCHED_FIFO, api.LinuxSchedulerPolicy.SCHED_BATCH]
        linux.scheduler.policy = draw(st.sampled_from(policies))
        linux.scheduler.nice = draw(st.sampled_from([-5, 0, 5]))
        linux.scheduler.priority = draw(st.sampled_from([0, 5]))
    if draw(st.booleans()):
        setattr(linux.io_priority, "class", draw(st.sampled_from([1, 2])))
        linux.io_priority.priority = draw(st.sampled_from([0, 4, 7]))
    if draw(st.booleans()):
        modes = [api.MpolMode.MPOL_PREFERRED, api.MpolMode.MPOL_BIND]
        linux.memory_policy.mode = draw(st.sampled_from(modes))
    return adjustment


# --- policies -----------------------------------------------------------------------------------


def entries(name: str, *texts: str, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return lists of entries: texts alone, or maps with some of the other keys."""
    text = st.sampled_from(texts)
    maps = st.builds(
        lambda given, other: {**given, **other},
        st.fixed_dictionaries({name: text}),
        st.fixed_dictionaries({}, optional=more),
    )
    return st.lists(st.one_of(text, maps), min_size=1, max_size=3)


by_number = st.builds(
    lambda number, is_whole: (
        {"type": number[0], "major": number[1]} | ({"minor": number[2]} if is_whole else {})
    ),
    numbers,
    st.booleans(),
)
WHAT: dict[str, st.SearchStrategy[Any]] = {
    "devices": st.one_of(
        st.lists(by_number, min_size=1, max_size=2),
        entries(
            "path",
            *("/dev/fuse", "/dev/*", "/dev/sd[a-c]", "/dev/**", "/dev/by-id/*", "/srv/*", "/**"),
            *("/dev/mem", "/opt/new", "/dev/zer?", "/dev/pts/*", "/dev/pts/3"),
            type=st.sampled_from("cb"),
            access=st.sampled_from(["r", "rw", "rwm", "m"]),
        ),
    ),
    "mounts": st.one_of(
        entries(
            "source",
            *("/srv", "/srv/a", "/srv/a/b", "/srv/*", "/srv/**", "/etc", "/etc/ssl", "/", "/**"),
            *("/home/*", "/home/*/.ssh", "/srv/link", "/srv/?/b", "/mnt", "/opt/disk"),
            access=st.sampled_from(["ro", "rw"]),
            destination=st.sampled_from(
                ["/in", "/in/*", "/**", "/etc", "/etc/passwd", "/proc/**", "/dev*", "/data"]
            ),
            type=st.sampled_from(["bind", "tmpfs", "nfs"]),
            options=st.lists(
                st.sampled_from(["r*", "size=*", "bind", "**", "dir=/a", "dir=/**"]),
                min_size=1,
                max_size=2,
            ),
        ),
        st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["tmpfs", "nfs"])},
                optional={"access": st.just("rw"), "options": st.just(["size=*", "dir=/a"])},
            ),
            min_size=1,
            max_size=1,
        ),
    ),
    "network_devices": entries("name", "eth0", "eth?", "[*]", "*"),
    "sysctl": entries(
        "name",
        *("net.core.x", "net.*", "kernel.shm", "**", "net.ipv4.ip_forward"),
        *("net.ipv4.conf.eth?.forwarding", "net.ipv4.conf.all.*", "net.ipv6.conf.eth0.x"),
        *("net.ipv6.conf.*.x", "net.*.eth0.forwarding"),
    ),
    "scheduling_policy": entries(
        "policy",
        *("SCHED_FIFO", "SCHED_BATCH"),
        min_nice=st.sampled_from([-5, 0]),
        max_priority=st.sampled_from([0, 5]),
    ),
    "io_priority": entries(
        "class", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", priority=st.sampled_from([0, 4])
    ),
    "memory_policy": entries("mode", "MPOL_PREFERRED", "MPOL_BIND"),
    "removals": entries("name", "/**", "/proc", "/p*", "/data", "/data/*", "/run/s*", "/sys/*"),
    "ulimits": entries("type", "NOFILE", "MEMLOCK", hard=st.sampled_from([100, 5000, "unlimited"])),
}
what = st.dictionaries(st.sampled_from([*WHAT]), st.just(None), min_size=1, max_size=4).flatmap(
    lambda kinds: st.fixed_dictionaries({kind: WHAT[kind] for kind in kinds})
)
expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "none"]),
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.sampled_from([["web"], ["db"], ["web", "db"]]),
        }
    ),
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["app", "none"]),
            "operator": st.sampled_from(["Exists", "DoesNotExist"]),
        }
    ),
)
who = st.fixed_dictionaries(
    {},
    optional={
        "namespaces": st.sampled_from([["ci"], ["c*"], ["lab", "*"], ["lab"], ["[!c]*"]]),
        "pods": st.fixed_dictionaries(
            {},
            optional={
                "matchLabels": st.sampled_from([{"app": "web"}, {"app": "db"}]),
                "matchExpressions": st.lists(expressions, min_size=1, max_size=2),
            },
        ),
        "runtime_handlers": st.sampled_from([["kata*"], ["runc"], ["*"]]),
        "containers": st.sampled_from([["main"], ["side-?"], ["*"]]),
        "plugins": st.sampled_from([["10-*"], ["20-other"]]),
    },
)
rules = st.builds(
    lambda whom, effect, things: ({"who": whom} if whom else {}) | {effect: things},
    st.one_of(st.just({}), st.just({}), who),
    st.sampled_from(["allow", "allow", "allow", "deny"]),
    what,
)
policies = st.fixed_dictionaries({"rules": st.lists(rules, min_size=2, max_size=8)})

# --- who asks -----------------------------------------------------------------------------------

pods = st.builds(
    lambda namespace, labels, handler: Pod(
        namespace=namespace, labels=labels, runtime_handler=handler
    ),
    st.sampled_from(["ci", "ci", "lab", ""]),
    st.sampled_from([{}, {"app": "web"}]),
    st.sampled_from(["", "runc", "kata-qemu"]),
)
containers = st.builds(
    lambda name, own: Container(name=name, rlimits=own),
    st.sampled_from(["main", "side-1"]),
    st.sampled_from([[], [api.POSIXRlimit(type="RLIMIT_NOFILE", hard=1000, soft=1000)]]),
)
