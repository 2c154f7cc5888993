"""Which NRI a runtime has, and what it would drop."""

import pytest
from google.protobuf.message import Message

from nri_inject import api
from nri_inject.capabilities import (
    FIELDS,
    NEWEST,
    Runtime,
    Unsupported,
    Version,
    drop_unknown,
    drop_what_crashes,
    identify,
    keeps_failure_policy,
    known_events,
    named,
    sentence,
    unsupported,
    unsupported_in,
)
from nri_inject.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "version", "nri"),
    [
        ("containerd", "1.7.0", (0, 3, 0)),
        ("containerd", "v1.7.13", (0, 4, 0)),
        ("containerd", "1.7.15", (0, 6, 0)),
        ("containerd", "1.7.16", (0, 6, 1)),
        ("containerd", "1.7.24~ds1", (0, 6, 1)),
        ("containerd", "v1.7.25", (0, 6, 1)),
        ("containerd", "v1.7.26", (0, 8, 0)),
        ("containerd", "v1.7.34", (0, 8, 0)),
        ("containerd", "v2.0.5", (0, 8, 0)),
        ("containerd", "2.1.9+unknown", (0, 8, 0)),
        ("containerd", "v2.2.0", (0, 10, 0)),
        ("containerd", "v2.2.0-rc.1", (0, 10, 0)),
        ("containerd", "v2.2.1", (0, 11, 0)),
        ("containerd", "v2.3.0", (0, 12, 0)),
        ("containerd", "2.3", (0, 12, 0)),
        ("containerd", "v9.9.9", (0, 12, 2)),
        ("containerd", "1.6.0", (0, 3, 0)),
        ("cri-o", "1.30.2", (0, 6, 1)),
        ("cri-o", "1.31.0", (0, 6, 1)),
        ("cri-o", "1.32.1", (0, 9, 0)),
        ("cri-o", "1.33.0", (0, 9, 0)),
        ("cri-o", "1.34.0", (0, 10, 0)),
        ("cri-o", "1.35.0", (0, 11, 0)),
        ("cri-o", "1.36.0", (0, 11, 0)),
        ("CRI-O", "1.37.0", (0, 12, 0)),
    ],
)
def test_a_release_tells_its_nri_version(name: str, version: str, nri: Version) -> None:
    assert identify(name, version) == Runtime(name, version, nri)


@pytest.mark.parametrize(
    ("name", "version"), [("test-runtime", "1.0.0"), ("docker", "28"), ("", "")]
)
def test_of_an_unknown_runtime_nothing_is_lost(name: str, version: str) -> None:
    runtime = identify(name, version)
    assert runtime.nri == NEWEST.nri
    assert runtime.assumed
    assert unsupported_in(everything(), runtime) == []


@pytest.mark.parametrize("version", ["", "garbage", "<unknown>", "one.two", "9" * 5000 + ".1"])
@pytest.mark.parametrize(("tells_timeouts", "nri"), [(True, (0, 8, 0)), (False, (0, 6, 1))])
def test_an_unreadable_release_of_a_known_runtime_is_taken_for_an_old_one(
    version: str, tells_timeouts: bool, nri: tuple[int, int, int]
) -> None:
    runtime = identify("containerd", version, tells_timeouts=tells_timeouts)
    assert runtime.nri == nri
    assert runtime.assumed


@pytest.mark.parametrize("told", ["0.12.1", "v0.12.1", "v0.12.1-5-g1234", " 0.12.1"])
def test_the_version_that_the_runtime_tells_wins(told: str) -> None:
    assert identify("containerd", "1.7.24", told).nri == (0, 12, 1)


@pytest.mark.parametrize(
    ("name", "version", "told", "keeps"),
    [
        ("containerd", "v2.4.2", "v0.12.3", False),
        ("containerd", "v2.5.0", "v0.12.4", True),
        ("containerd", "v2.5.0", "v0.12.5", True),
        ("containerd", "v9.9.9", "", False),  # a release that has it would report its NRI
        ("cri-o", "1.37.0", "0.12.0", False),
        ("unknown", "1", "", False),
        ("unknown", "1", "v0.12.4", True),
    ],
)
def test_a_failure_policy_is_kept_from_nri_0_12_4_on(
    name: str, version: str, told: str, keeps: bool
) -> None:
    assert keeps_failure_policy(identify(name, version, told)) is keeps


@pytest.mark.parametrize("told", ["", "(devel)", "v0"])
def test_a_told_version_without_numbers_is_as_none(told: str) -> None:
    assert identify("containerd", "1.7.24", told).nri == (0, 6, 1)


def everything() -> api.Adjustment:
    """Return an adjustment with each field that not every runtime has, and some that all have."""
    return api.Adjustment(
        annotations={"a": "b"},
        mounts=[api.Mount(destination="/a")],
        rlimits=[api.POSIXRlimit(type="RLIMIT_CORE")],
        CDI_devices=[api.CDIDevice(name="v.com/c=d")],
        args=["sh"],
        linux=api.LinuxContainerAdjustment(
            devices=[api.LinuxDevice(path="/dev/a")],
            resources=api.LinuxResources(
                pids=api.LinuxPids(limit=1),
                devices=[api.LinuxDeviceCgroup(allow=True)],
                unified={"a": "b"},
            ),
            oom_score_adj=api.OptionalInt(value=0),
            io_priority=api.LinuxIOPriority(),
            seccomp_policy=api.LinuxSeccomp(),
            namespaces=[api.LinuxNamespace(type="ipc")],
            sysctl={"a": "b"},
            net_devices={"a": api.LinuxNetDevice()},
            scheduler=api.LinuxScheduler(),
            rdt=api.LinuxRdt(),
            memory_policy=api.LinuxMemoryPolicy(),
        ),
    )


@pytest.mark.parametrize(
    ("runtime", "fields"),
    [
        (identify("containerd", "1.7.0"), list(FIELDS)),
        (identify("containerd", "1.7.24"), [field for field in FIELDS if field != "rlimits"]),
        (
            identify("containerd", "1.7.29"),
            [f for f in FIELDS if f not in ("rlimits", "oom_score_adj", "pids")],
        ),
        (
            identify("containerd", "1.7.30"),
            [f for f in FIELDS if f not in ("rlimits", "oom_score_adj", "pids", "CDI_devices")],
        ),
        (
            identify("containerd", "2.2.0"),
            ["sysctl", "net_devices", "scheduler", "rdt", "memory_policy"],
        ),
        (identify("containerd", "2.2.1"), ["sysctl", "memory_policy"]),
        (identify("containerd", "2.3.0"), []),
        (identify("cri-o", "1.35.0"), ["sysctl", "memory_policy"]),
        (NEWEST, []),
    ],
)
def test_what_a_runtime_drops(runtime: Runtime, fields: list[str]) -> None:
    assert [loss.field for loss in unsupported_in(everything(), runtime)] == fields


def test_an_adjustment_that_asks_for_little_loses_nothing() -> None:
    oldest = identify("containerd", "1.7.0")
    assert unsupported_in(api.Adjustment(mounts=[api.Mount(destination="/a")]), oldest) == []
    assert unsupported_in(api.Adjustment(linux=api.LinuxContainerAdjustment()), oldest) == []
    assert unsupported("mounts", oldest) is None


@pytest.mark.parametrize(
    ("name", "version", "applied"),
    [
        ("containerd", "1.7.26", False),
        ("containerd", "1.7.30", True),
        ("containerd", "2.0.9", False),
        ("containerd", "2.1.0", True),
        ("cri-o", "1.33.0", False),
        ("cri-o", "1.34.0", True),
        ("test-runtime", "1.0", True),
        ("containerd", "garbage", True),
    ],
)
def test_cdi_names_are_applied_only_where_the_runtime_has_an_injector(
    name: str, version: str, applied: bool
) -> None:
    assert (unsupported("CDI_devices", identify(name, version)) is None) is applied


def test_looking_for_losses_leaves_the_adjustment_as_it_is() -> None:
    adjustment = api.Adjustment()
    unsupported_in(adjustment, identify("containerd", "1.7.0"))
    assert not adjustment.HasField("linux")


def test_the_sentence_names_who_drops_what_and_where_it_would_work() -> None:
    old = identify("containerd", "1.7.24~ds1")
    assert unsupported("sysctl", old) == Unsupported(
        "sysctl", (0, 12, 0), "containerd 2.3.0, CRI-O 1.37"
    )
    assert [sentence(loss, old) for loss in unsupported_in(everything(), old)][8] == (
        "containerd 1.7.24~ds1 (NRI 0.6.1) does not apply sysctl: needs NRI 0.12.0, "
        "first in containerd 2.3.0, CRI-O 1.37"
    )


def test_the_sentence_about_a_missing_injector_names_no_version() -> None:
    runtime = identify("containerd", "2.0.5")
    loss = unsupported("CDI_devices", runtime)
    assert loss is not None
    assert sentence(loss, runtime) == (
        "containerd 2.0.5 (NRI 0.8.0) does not apply CDI_devices: "
        "first in containerd 1.7.30, containerd 2.1.0, CRI-O 1.34"
    )


@pytest.mark.parametrize(
    ("version", "mask"), [("1.7.24", 0x7FF), ("2.1.9", 0x7FF), ("2.2.0", 0x3FFF), ("", 0x7FF)]
)
def test_events_12_to_14_are_known_from_nri_0_10_on(version: str, mask: int) -> None:
    assert known_events(identify("containerd", version)) == mask


def test_the_table_names_fields_that_exist_each_once() -> None:
    for field in FIELDS.values():
        message: Message = everything()
        for name in field.path:
            message = getattr(message, name)
    paths = [field.path for field in FIELDS.values()]
    assert len(set(paths)) == len(paths)


def test_what_a_runtime_does_not_know_is_taken_out_part_by_part() -> None:
    adjustment = api.Adjustment(args=["x"], env=[api.KeyValue(key="A")])
    adjustment.linux.sysctl["k"] = "v"
    adjustment.linux.resources.pids.limit = 5
    adjustment.linux.resources.cpu.cpus = "0"
    adjustment.CDI_devices.add(name="v.com/c=x")
    whole = api.Adjustment()
    whole.CopyFrom(adjustment)
    parts = drop_unknown(adjustment, identify("containerd", "1.7.24"))
    assert [loss.field for loss, _ in parts] == ["CDI_devices", "pids", "args", "sysctl"]
    kept = api.Adjustment(env=[api.KeyValue(key="A")])
    kept.linux.resources.cpu.cpus = "0"
    assert adjustment == kept
    for _, part in parts:
        adjustment.MergeFrom(part)
    assert adjustment == whole


def test_names_that_are_carried_and_not_resolved_stay() -> None:
    adjustment = api.Adjustment(CDI_devices=[api.CDIDevice(name="v.com/c=x")])
    assert drop_unknown(adjustment, identify("containerd", "2.0.5")) == []
    assert len(adjustment.CDI_devices) == 1


def test_an_empty_adjustment_loses_nothing_and_stays_empty() -> None:
    adjustment = api.Adjustment()
    assert drop_unknown(adjustment, identify("containerd", "1.7.24")) == []
    assert not adjustment.HasField("linux")


def test_a_runtime_is_named_with_its_version() -> None:
    assert named("containerd/1.7.24") == identify("containerd", "1.7.24")
    with pytest.raises(ConfigError) as caught:
        named("containerd", "--runtime")
    assert str(caught.value) == (
        "--runtime 'containerd': NAME/VERSION expected, as in containerd/1.7.24"
    )


@pytest.mark.parametrize(
    ("release", "stays"), [("2.1.9", True), ("2.2.0", True), ("2.2.9", False), ("2.4.2", True)]
)
def test_a_sysctl_is_taken_out_for_the_nri_that_would_end_of_it(release: str, stays: bool) -> None:
    adjustment = api.Adjustment(linux=api.LinuxContainerAdjustment(sysctl={"a": "b"}))
    whole = api.copy_of(adjustment)
    drop_what_crashes(adjustment, identify("containerd", release))
    assert adjustment == (whole if stays else api.Adjustment())


def test_only_the_sysctl_is_taken_out() -> None:
    devices = [api.LinuxDevice(path="/dev/fuse")]
    linux = api.LinuxContainerAdjustment(sysctl={"a": "b"}, devices=devices)
    adjustment = api.Adjustment(args=["sh"], linux=linux)
    drop_what_crashes(adjustment, identify("containerd", "2.2.9"))
    assert adjustment == api.Adjustment(
        args=["sh"], linux=api.LinuxContainerAdjustment(devices=devices)
    )
    nothing = api.Adjustment()
    drop_what_crashes(nothing, identify("containerd", "2.2.9"))
    assert nothing == api.Adjustment()
