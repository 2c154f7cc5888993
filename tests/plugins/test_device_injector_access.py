"""The access of a device is what its item and the rules of the device cgroup say."""

import pytest
from support.annotating import HOST, faults, pod_wide

from nri_inject import api
from nri_inject.capabilities import identify
from nri_inject.injectors.host import Host


def rule(allow: bool, access: str) -> api.LinuxDeviceCgroup:
    made = api.LinuxDeviceCgroup(allow=allow, type="c", access=access)
    made.major.value, made.minor.value = 10, 229
    return made


@pytest.mark.parametrize(
    ("given", "rules"),
    [
        ("rw", []),
        ("r", [rule(False, "rwm"), rule(True, "r")]),
        ("wmr", [rule(True, "rwm")]),
        ("m", [rule(False, "rwm"), rule(True, "m")]),
    ],
)
def test_access_is_narrowed_and_widened_by_rules_after_nris_own(
    given: str, rules: list[api.LinuxDeviceCgroup]
) -> None:
    linux = pod_wide("devices", f"[{{path: /dev/fuse, access: {given}}}]").linux
    assert [device.path for device in linux.devices] == ["/dev/fuse"]
    assert list(linux.resources.devices) == rules


def test_two_nodes_of_one_device_have_the_access_of_both() -> None:
    text = "[{path: /dev/fuse, access: r}, {path: /dev/x, type: c, major: 10, minor: 229}]"
    assert not pod_wide("devices", text).linux.HasField("resources")


def test_access_that_a_runtime_cannot_keep_to_is_an_error() -> None:
    old = Host(HOST.devices, identify("containerd", "1.7.24"))
    assert faults("devices", "[{path: /dev/fuse, access: r}]", old) == [
        (
            "access: containerd 1.7.24 (NRI 0.6.1) does not apply device rules: needs NRI 0.10.0,"
            " first in containerd 2.2.0, CRI-O 1.34"
        )
    ]


def test_access_to_what_every_container_may_open_cannot_be_narrowed() -> None:
    text = "[{path: /dev/full, access: r}, {path: /x, type: c, major: 136, minor: 1, access: m}]"
    assert faults("devices", text) == [
        "access: runc and crun let every container open c 1:7; leave access out",
        "access: runc and crun let every container open c 136:1; leave access out",
    ]
    wide = "[{path: /dev/full, access: rw}, {path: /dev/null, access: rwm}]"
    assert len(pod_wide("devices", wide).linux.devices) == 2


def test_access_of_no_letters_is_an_error() -> None:
    for text in ("rx", "''"):
        (sentence,) = faults("devices", f"[{{path: /dev/fuse, access: {text}}}]")
        assert sentence.endswith("must be some of the letters r, w and m")
