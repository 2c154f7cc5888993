"""The device injector, by value: annotations in, an adjustment or one error out.

The vectors are what the Go plugins answered. Where we answer something else on purpose, the case
is in DIFFERENCES; docs/differences.md says why.
"""

import dataclasses
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from support.counting import calls_of

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.capabilities import NEWEST, Runtime, identify
from nri_inject.errors import RequestError
from nri_inject.host.devices import selectors
from nri_inject.host.model import DeviceNode
from nri_inject.host.nodes import HostDevices
from nri_inject.injectors.device import KINDS, inject
from nri_inject.injectors.device.injector import _remembered
from nri_inject.injectors.host import Host
from nri_inject.text.budget import Budget, OverBudget

NODES = (
    DeviceNode("/dev/null", "c", 1, 3, 0o666, 0, 0),
    DeviceNode("/dev/full", "c", 1, 7, 0o666, 0, 0),
    DeviceNode("/dev/fuse", "c", 10, 229, 0o666, 0, 0),
    DeviceNode("/dev/sda", "b", 8, 0, 0o660, 0, 6),
    DeviceNode("/dev/zero-mode", "c", 1, 5, 0, 0, 0),
    DeviceNode("/dev/initctl", "p", 0, 0, 0o600, 0, 0),
)
HOST = Host({node.path: node for node in NODES})
CONTAINER = Container(name="c0")


def ask(annotations: dict[str, str], host: Host = HOST) -> Adjustment:
    return inject(Pod(name="p", namespace="ns", annotations=annotations), CONTAINER, host)


def pod_wide(kind: str, text: str, host: Host = HOST) -> Adjustment:
    return ask({f"{kind}.noderesource.dev": text}, host)


def faults(kind: str, text: str, host: Host = HOST) -> list[str]:
    """Return what is wrong with one annotation, without its name in front."""
    front = f"annotation {kind}.noderesource.dev: "
    with pytest.raises(RequestError) as caught:
        pod_wide(kind, text, host)
    assert all(fault.startswith(front) for fault in caught.value.faults)
    return [fault.removeprefix(front) for fault in caught.value.faults]


# --- what the Go plugins answered ---------------------------------------------------------------

VECTORS = Path(__file__).parent.parent / "vectors" / "nri"


def cases() -> Iterator[dict[str, Any]]:
    """Yield the recorded cases, but for the CDI names, which are not this injector's."""
    for name in ("adjust.jsonl", "adjust-ulimit.jsonl"):
        for line in (VECTORS / name).read_text().splitlines():
            case = json.loads(line)
            if not case["name"].startswith("cdi-devices/"):
                yield case


CASES = {case["name"]: case for case in cases()}


def device(path: str, major: int, minor: int, mode: int | None = None) -> Adjustment:
    """Return the request for one character device; one with a mode is root's."""
    result = api.LinuxDevice(path=path, type="c", major=major, minor=minor)
    if mode is not None:
        result.file_mode.CopyFrom(api.OptionalFileMode(value=mode))
        result.uid.CopyFrom(api.OptionalUInt32(value=0))
        result.gid.CopyFrom(api.OptionalUInt32(value=0))
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=[result]))


def go_answer(name: str) -> Adjustment:
    return json_format.ParseDict(CASES[name]["response"]["adjust"], Adjustment())


def without_cdi(adjustment: Adjustment) -> Adjustment:
    adjustment.ClearField("CDI_devices")
    return adjustment


# By name of the case, what we answer: an adjustment, or the faults without the container's and the
# annotation's name in front.
SCHEDULERS = (
    "SCHED_NONE, SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_ISO, SCHED_IDLE,"
    " SCHED_DEADLINE"
)
SCHEDULER_FLAGS = (
    "SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM, SCHED_FLAG_DL_OVERRUN, SCHED_FLAG_KEEP_POLICY,"
    " SCHED_FLAG_KEEP_PARAMS, SCHED_FLAG_UTIL_CLAMP_MIN, SCHED_FLAG_UTIL_CLAMP_MAX"
)
DIFFERENCES: dict[str, Adjustment | list[str]] = {
    "devices/path-only": device("/dev/full", 1, 7, 0o666),
    "devices/major-null": device("/dev/null", 1, 3, 0o666),
    "devices/mode-zero": device("/dev/null", 1, 3, 0),
    "devices/list-of-text": ["item 2: '/dev/zero' does not exist on the host"],
    "devices/same-path-twice": device("/dev/null", 1, 3),
    "devices/no-path": ["item 1: path is missing"],
    "devices/mode-greatest": ["item 1: file_mode: 4294967295 is not between 0 and 4095"],
    "devices/major-negative": [
        "item 1: major: -1 is not between 0 and 4095",
        "item 1: minor: -1 is not between 0 and 1048575",
    ],
    "devices/type-odd": ["item 1: type: 'x' must be one of b, c, u"],
    "devices/path-relative": ["item 1: path: 'dev/null' is not an absolute path"],
    "devices/path-removal-mark": [
        "item 1: path: '-/dev/null' begins with '-', which NRI reads as a removal"
    ],
    "devices/path-dotdot": ["item 1: path: '/dev/../etc/x' contains '..'"],
    "devices/path-unicode": ["item 1: '/dev/名前' does not exist on the host"],
    "devices/unknown-key": [
        (
            "item 1: unknown key 'permissions';"
            " known: path, type, major, minor, file_mode, uid, gid, access"
        )
    ],
    "devices/duplicate-key": ["line 2, column 3: duplicate key 'path'"],
    "mounts/options-multiline": [
        ("item 1: options: item 1: 'option0 option1' contains white space; an option must not")
    ],
    "mounts/destination-removal-mark": [
        "item 1: destination: '-/proc' begins with '-', which NRI reads as a removal"
    ],
    "network-devices/same-host-twice": ["'e0' is requested twice with different values"],
    "network-devices/no-host": ["item 1: hostIf is missing"],
    "sysctl/number": [
        "kernel.shm_rmid_forced: true is a boolean, not text; put the value in quotes"
    ],
    "sysctl/removal-mark": ["'-net.core.somaxconn' begins with '-', which NRI reads as a removal"],
    "scheduling-policy/unknown-policy": [
        f"policy: 'SCHED_NOPE' must be one of {SCHEDULERS}; did you mean 'SCHED_NONE'?"
    ],
    "scheduling-policy/unknown-flag": [
        f"flags: item 2: 'SCHED_FLAG_NOPE' must be one of {SCHEDULER_FLAGS}"
    ],
    "scheduling-policy/empty-value": Adjustment(),
    "scheduling-policy/empty-map": ["policy is missing"],
    "scheduling-policy/policy-number": [f"policy: '2' must be one of {SCHEDULERS}"],
    "scheduling-policy/no-prefix": [
        f"policy: 'FIFO' must be one of {SCHEDULERS}; did you mean 'SCHED_FIFO'?",
        (
            f"flags: item 1: 'RECLAIM' must be one of {SCHEDULER_FLAGS};"
            " did you mean 'SCHED_FLAG_RECLAIM'?"
        ),
    ],
    "scheduling-policy/lower-case": [
        f"policy: 'sched_fifo' must be one of {SCHEDULERS}; did you mean 'SCHED_FIFO'?"
    ],
    "io-priority/unknown-class": [
        (
            "class: 'IOPRIO_CLASS_BEST' must be one of IOPRIO_CLASS_NONE, IOPRIO_CLASS_RT,"
            " IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE; did you mean 'IOPRIO_CLASS_BE'?"
        )
    ],
    "io-priority/range": ["priority: -99 is not between 0 and 7"],
    "io-priority/no-class": ["class is missing"],
    "memory-policy/empty-value": Adjustment(),
    "memory-policy/nodes-float": ["nodes: 1.1 is a fraction, not text; put the value in quotes"],
    "ulimits/same-type-twice": ["'RLIMIT_NOFILE' is requested twice with different values"],
    "ulimits/unknown-key": ["item 1: unknown key 'limit'; known: type, hard, soft"],
    "ulimits/pod-scope-unknown": Adjustment(
        rlimits=[api.POSIXRlimit(type="RLIMIT_NOFILE", hard=3)]
    ),
    # The CDI name in it is another injector's.
    "together/all": without_cdi(go_answer("together/all")),
}


def answer(case: dict[str, Any]) -> Adjustment | list[str]:
    """Return what we answer to a case, faults without the container and annotation in front."""
    request = json_format.ParseDict(case["request"], api.CreateContainerRequest())
    try:
        return inject(request.pod, request.container, HOST)
    except RequestError as error:
        # Faults are told of the one annotation of the case, whichever key it has.
        return [fault.partition(": ")[2] for fault in error.faults]


def message(adjustment: Adjustment) -> object:
    return without_empty_messages(json_format.MessageToDict(adjustment))


def without_empty_messages(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    items = {key: without_empty_messages(item) for key, item in value.items()}
    # A network device that keeps its name is an empty message that means something.
    return {key: item for key, item in items.items() if item != {} or "netDevices" in value}


@pytest.mark.parametrize("name", [name for name in CASES if name not in DIFFERENCES])
def test_the_answer_is_that_of_the_go_plugins(name: str) -> None:
    case = CASES[name]
    if "error" in case["response"]:
        assert isinstance(answer(case), list)
    else:
        got = answer(case)
        assert isinstance(got, Adjustment), got
        assert message(got) == message(go_answer(name))


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_answer_differs_on_purpose(name: str) -> None:
    assert answer(CASES[name]) == DIFFERENCES[name]


DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"


def test_every_difference_is_documented_with_the_test_that_holds_it() -> None:
    document = DOCUMENT.read_text()
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*device*.py"))
    assert [name for name in DIFFERENCES if f"`{name}`" not in document] == []
    cited = set(re.findall(r"`(test_\w+)`", document))
    assert {name for name in cited if f"def {name}(" not in here} == set()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: b\na: c", "line 2, column 1: duplicate key 'a'"),
        ("a: !!str yes", "line 1, column 4: tags are not allowed: 'tag:yaml.org,2002:str'"),
        ("a: b\n---\nc: d", "line 2, column 1: a second document begins here; only one is allowed"),
        (
            "a: 18446744073709551616",
            (
                "line 1, column 4: number out of range: 18446744073709551616; "
                "put it in quotes if it is meant as text"
            ),
        ),
    ],
)
def test_yaml_that_go_reads_in_its_own_way_is_an_error(text: str, fault: str) -> None:
    assert faults("sysctl", text) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{on: '1'}", "line 1, column 2: key true is a boolean, not text; put it in quotes"),
        ("1.10: a", "line 1, column 1: key 1.1 is a number, not text; put it in quotes"),
        ("0x10: a", "line 1, column 1: key 16 is a number, not text; put it in quotes"),
    ],
)
def test_a_key_is_text(text: str, fault: str) -> None:
    assert faults("sysctl", text) == [fault]


def test_a_merge_key_comes_first_and_once() -> None:
    own = "{path: /dev/a, type: c, major: 9}"
    assert pod_wide("devices", f"[{{<<: {own}, path: /dev/b}}]") == device("/dev/b", 9, 0)
    assert pod_wide("devices", f"[{{minor: 3, <<: {own}}}]") == device("/dev/a", 9, 3)
    assert faults("devices", f"[{{path: /dev/b, <<: {own}}}]") == [
        "line 1, column 21: '<<' has 'path', which are set above; put '<<' first"
    ]
    assert faults("devices", f"[{{<<: {own}, <<: {{minor: 3}}}}]") == [
        "line 1, column 42: '<<' appears twice; use one with a list of the maps"
    ]


def test_only_the_version_of_yaml_that_go_reads_may_be_named() -> None:
    assert pod_wide("sysctl", "%YAML 1.1\n---\na: b\n").linux.sysctl == {"a": "b"}
    assert faults("sysctl", "%YAML 1.2\n---\na: b\n") == [
        "line 1, column 1: the %YAML line must say 1.1; remove it"
    ]


def test_whole_numbers_are_text_however_they_are_written() -> None:
    text = "a: 08\nb: 1e3\nc: 5.\nd: 1.0\n"
    assert pod_wide("sysctl", text).linux.sysctl == {"a": "8", "b": "1000", "c": "5", "d": "1"}
    assert faults("sysctl", "a: 1.5\nb: 1e6\n") == [
        "a: 1.5 is a fraction, not text; put the value in quotes",
        "b: 1000000.0 is a number that is not written out, not text; put the value in quotes",
    ]


def test_letters_of_keys_are_those_that_go_takes() -> None:
    assert faults("network-devices", "[{ho\ufb06If: a}]") == [
        "item 1: unknown key 'ho\ufb06If'; did you mean 'hostIf'?"
    ]
    assert "a" in pod_wide("network-devices", "[{ho\u017ftIf: a}]").linux.net_devices


def test_a_misspelt_key_is_not_missing_as_well() -> None:
    assert faults("devices", "[{pth: /dev/null}]") == [
        "item 1: unknown key 'pth'; did you mean 'path'?"
    ]


CONTROL = [
    ("devices", '[{path: "/dev/\\x9b", type: c, major: 1}]', "item 1: path: '/dev/\\x9b'"),
    ("devices", '[{path: "/dev/\\u202e", type: c, major: 1}]', "item 1: path: '/dev/\\u202e'"),
    ("mounts", '[{destination: "/a\\u2029b"}]', "item 1: destination: '/a\\u2029b'"),
    ("mounts", '[{destination: /a, source: "a\\u200e"}]', "item 1: source: 'a\\u200e'"),
    ("mounts", '[{destination: /a, type: "a\\u2066"}]', "item 1: type: 'a\\u2066'"),
    ("mounts", '[{destination: /a, options: ["\\x85"]}]', "item 1: options: item 1: '\\x85'"),
    ("network-devices", '[{hostIf: "e\\u200f"}]', "item 1: hostIf: 'e\\u200f'"),
    ("sysctl", '{a: "b\\u2028"}', "a: 'b\\u2028'"),
    ("memory-policy", '{mode: MPOL_BIND, nodes: "\\x85"}', "nodes: '\\x85'"),
]


@pytest.mark.parametrize(("kind", "text", "front"), CONTROL)
def test_what_a_terminal_obeys_is_refused_everywhere(kind: str, text: str, front: str) -> None:
    assert faults(kind, text) == [f"{front} contains a control character"]


# --- texts made to take time or memory ----------------------------------------------------------

LONG = "x" * 4097
LONGER = "is longer than 4096 bytes"


@pytest.mark.parametrize(
    ("kind", "text", "place"),
    [
        ("devices", f"[{{path: /{LONG}, type: c, major: 1}}]", "item 1: path: '/"),
        ("mounts", f"[{{destination: /{LONG}}}]", "item 1: destination: '/"),
        ("mounts", f"[{{destination: /a, source: {LONG}}}]", "item 1: source: '"),
        ("mounts", f"[{{destination: /a, type: {LONG}}}]", "item 1: type: '"),
        ("mounts", f"[{{destination: /a, options: [{LONG}]}}]", "item 1: options: item 1: '"),
        ("sysctl", f"a: {LONG}", "a: '"),
        ("sysctl", f"? {LONG}\n: a", "'"),
        ("memory-policy", f"{{mode: MPOL_BIND, nodes: '{'1,' * 2048}1'}}", "nodes: '"),
    ],
)
def test_a_field_has_at_most_4096_bytes(kind: str, text: str, place: str) -> None:
    (fault,) = faults(kind, text)
    assert fault.startswith(place)
    assert fault.endswith(LONGER)
    assert len(fault) < 200


MANY = range(1001)


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("devices", "- &a {path: /dev/null}\n" + "- *a\n" * 9000, "9001 items"),
        ("devices", "- x\n" * 1001, "1001 items"),
        ("mounts", "".join(f"- {{destination: /a{n}}}\n" for n in MANY), "1001 items"),
        ("network-devices", "".join(f"- {{hostIf: e{n}}}\n" for n in MANY), "1001 items"),
        ("ulimits", "- {type: core}\n" * 1001, "1001 items"),
        ("sysctl", "".join(f"k{n}: ''\n" for n in MANY), "1001 keys"),
    ],
)
def test_an_annotation_has_at_most_1000_items(kind: str, text: str, fault: str) -> None:
    assert faults(kind, text) == [f"{fault}, at most 1000 allowed"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: " + "x" * 262144, "more than 262144 bytes of YAML"),
        ("[" * 33, "line 1, column 33: lists and maps more than 32 deep"),
        ("-\n" * 20000, "line 20000, column 2: more than 20000 values, aliases followed"),
        (
            "a: &v " + "x" * 100_000 + "\n" + "".join(f"b{n}: *v\n" for n in range(10_000)),
            "line 11, column 5: more than 1048576 characters, aliases followed",
        ),
    ],
)
def test_a_text_that_would_take_time_or_memory_is_an_error(text: str, fault: str) -> None:
    assert faults("sysctl", text) == [fault]


class Looks(dict[str, DeviceNode]):
    """Devices that note each look."""

    def __init__(self) -> None:
        super().__init__(HOST.devices)
        self.seen: list[str] = []

    def __getitem__(self, path: str) -> DeviceNode:
        self.seen.append(path)
        return super().__getitem__(path)


def test_the_host_is_asked_once_for_a_path_however_often_it_is_named() -> None:
    looks = Looks()
    text = "- &a {path: /dev/full}\n" + "- *a\n" * 900 + "- {path: /dev/./full, gid: 0}\n"
    assert pod_wide("devices", text, Host(looks)) == device("/dev/full", 1, 7, 0o666)
    assert looks.seen == ["/dev/full"]


def test_the_host_is_asked_once_for_what_it_lacks() -> None:
    looks = Looks()
    text = "[{path: /dev/none}, {path: /dev/none}, {path: /dev/none, uid: 1}]"
    assert faults("devices", text, Host(looks)) == [
        "item 1: '/dev/none' does not exist on the host",
        "item 3: '/dev/none' does not exist on the host",
    ]
    assert looks.seen == ["/dev/none"]


def test_the_next_replica_gets_what_the_host_has_then() -> None:
    text = "- path: /dev/null\n- {path: /dev/other, type: c, major: 1, minor: 5}\n"
    before = pod_wide("devices", text)
    assert pod_wide("devices", text) == before
    node = HOST.devices["/dev/null"]
    changed = pod_wide("devices", text, Host({node.path: node._replace(mode=0o600, gid=7)}))
    assert [device.file_mode.value for device in changed.linux.devices] == [0o600, 0]
    assert [device.gid.value for device in changed.linux.devices] == [7, 0]
    assert faults("devices", text, Host({})) == ["item 1: '/dev/null' does not exist on the host"]
    old = identify("containerd", "1.7.24")
    assert pod_wide("devices", text, Host(HOST.devices, old)) == before


def test_who_changes_an_answer_does_not_change_the_next() -> None:
    first = pod_wide("devices", "- path: /dev/null\n")
    first.linux.devices[0].path = "/dev/other"
    assert pod_wide("devices", "- path: /dev/null\n").linux.devices[0].path == "/dev/null"


def test_at_most_256_devices_are_looked_up() -> None:
    looks = Looks()
    text = "".join(f"- {{path: /dev/none{number}}}\n" for number in range(257))
    assert faults("devices", text, Host(looks)) == [
        "257 devices without type and major, at most 256 allowed"
    ]
    assert looks.seen == []


def test_a_path_that_links_make_long_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("./" * 256 + "null")
    assert faults("devices", "[{path: /link}]", Host(HostDevices(tmp_path))) == [
        "item 1: '/link' has more than 256 parts, links followed"
    ]


def test_what_the_host_lacks_is_told_beside_wrong_items() -> None:
    text = "[{path: /dev/none}, {path: a}, {path: /dev/null, major: 2}]"
    assert faults("devices", text) == [
        "item 1: '/dev/none' does not exist on the host",
        "item 2: path: 'a' is not an absolute path",
        "item 3: major: 2 but '/dev/null' has 1",
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("devices", "".join(f"- {{path: /dev/none{n}}}\n" for n in range(200))),
        ("sysctl", "".join(f"k{n}: ~\n" for n in range(200))),
        ("ulimits", "".join(f"- {{type: core, hard: {n}}}\n" for n in range(200))),
        (
            "mounts",
            "".join(
                f"- {{destination: /{n}}}\n- {{destination: /{n}, type: a}}\n" for n in range(200)
            ),
        ),
    ],
)
def test_at_most_a_hundred_faults_of_a_kind_are_collected(kind: str, text: str) -> None:
    assert 1 <= len(faults(kind, text)) <= 100


def test_a_text_with_an_alias_is_not_remembered() -> None:
    _remembered.cache_clear()
    assert len(pod_wide("mounts", "[&a {destination: /a}, *a]").mounts) == 1
    assert _remembered.cache_info().currsize == 0
    assert len(pod_wide("mounts", "[{destination: /a}]").mounts) == 1
    assert _remembered.cache_info().currsize == 1


# --- finding annotations ------------------------------------------------------------------------


def test_a_pod_without_annotations_of_ours_gets_nothing() -> None:
    assert ask({}) == Adjustment()
    assert ask({"example.com/devices": "- x", "/container.c0": "a: b"}) == Adjustment()


def test_messages_without_a_pod_or_container_get_nothing() -> None:
    request = api.CreateContainerRequest()
    assert inject(request.pod, request.container, HOST) == Adjustment()


def test_a_container_without_a_name_is_known_by_its_label() -> None:
    container = Container(labels={"io.kubernetes.container.name": "c0"})
    pod = Pod(annotations={"sysctl.noderesource.dev/container.c0": "a: b"})
    assert inject(pod, container, HOST).linux.sysctl == {"a": "b"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.prefix)
@pytest.mark.parametrize("text", ["", "null", "~", "# a comment", "\n"])
def test_an_annotation_with_nothing_in_it_switches_less_specific_ones_off(
    kind: Any, text: str
) -> None:
    annotations = {f"{kind.prefix}/container.c0": text, f"{kind.prefix}/pod": "[broken"}
    assert ask(annotations) == Adjustment()


@pytest.mark.parametrize("kind", ["devices", "mounts", "network-devices", "ulimits"])
def test_an_empty_list_asks_for_nothing(kind: str) -> None:
    assert pod_wide(kind, "[]") == Adjustment()


def test_an_empty_map_of_sysctls_asks_for_nothing() -> None:
    assert pod_wide("sysctl", "{}") == Adjustment()


@pytest.mark.parametrize(
    ("kind", "key"),
    [("scheduling-policy", "policy"), ("io-priority", "class"), ("memory-policy", "mode")],
)
def test_an_empty_map_lacks_what_it_must_have(kind: str, key: str) -> None:
    assert faults(kind, "{}") == [f"{key} is missing"]


@pytest.mark.parametrize(
    "key",
    [
        "ulimits.noderesource.dev",
        "ulimits.noderesource.dev/pod",
        "ulimits.nri.containerd.io/pod",
        "ulimits.nri.containerd.io",
    ],
)
def test_ulimits_may_be_given_for_the_whole_pod(key: str) -> None:
    assert len(ask({key: "- {type: core}"}).rlimits) == 1


def test_there_is_no_old_name_of_the_ulimits_in_nri_io() -> None:
    assert ask({"ulimits.nri.io": "- {type: core}"}) == Adjustment()


@pytest.mark.parametrize("item", ["null", "{}", "text", "[]", "7"])
@pytest.mark.parametrize("kind", ["devices", "mounts", "network-devices", "ulimits"])
def test_an_odd_item_is_an_error_of_this_container(kind: str, item: str) -> None:
    assert all(fault.startswith("item 1: ") for fault in faults(kind, f"- {item}"))


def test_an_answer_never_shares_anything_with_the_next_one() -> None:
    first = pod_wide("mounts", "- {destination: /a}")
    first.mounts[0].destination = "/changed"
    assert pod_wide("mounts", "- {destination: /a}").mounts[0].destination == "/a"


# --- devices ------------------------------------------------------------------------------------


def test_a_device_with_type_and_major_is_not_looked_up() -> None:
    assert pod_wide("devices", "[{path: /dev/no, type: c, major: 9}]") == device("/dev/no", 9, 0)


def test_a_device_with_a_path_alone_is_as_on_the_host() -> None:
    assert pod_wide("devices", "[{path: /dev/full}]") == device("/dev/full", 1, 7, 0o666)
    assert pod_wide("devices", "[{path: /dev/zero-mode}]") == device("/dev/zero-mode", 1, 5, 0)


def test_what_is_given_beside_a_path_counts_more_than_the_host() -> None:
    (sda,) = pod_wide("devices", "[{path: /dev/sda, file_mode: 0o600, gid: 0}]").linux.devices
    assert (sda.type, sda.major, sda.minor) == ("b", 8, 0)
    assert (sda.file_mode.value, sda.uid.value, sda.gid.value) == (0o600, 0, 0)


def test_a_device_of_the_real_host_is_found() -> None:
    host = Host(HostDevices())
    (null,) = pod_wide("devices", "[{path: /dev/null}]", host).linux.devices
    assert (null.type, null.major, null.minor) == ("c", 1, 3)


def test_zero_is_a_value() -> None:
    adjustment = pod_wide("devices", "[{path: /dev/a, type: c, major: 1, uid: 0}]")
    (given,) = adjustment.linux.devices
    assert given.HasField("uid")
    assert not given.HasField("gid")
    assert not given.HasField("file_mode")


def test_an_unbuffered_device_is_sent_as_a_character_device() -> None:
    assert pod_wide("devices", "[{path: /dev/a, type: u, major: 1}]") == device("/dev/a", 1, 0)
    assert pod_wide("devices", "[{path: /dev/full, type: u}]") == device("/dev/full", 1, 7, 0o666)


def test_one_device_written_in_two_ways_is_one_device() -> None:
    text = """
- {path: /dev/null, type: c, major: 1, minor: 3}
- {path: //dev/./null, type: u, major: 1, minor: 3.0}
"""
    assert pod_wide("devices", text) == device("/dev/null", 1, 3)


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("path: ''", "path: '' is not an absolute path"),
        ("path: /", "path: '/' is the root directory"),
        ("path: /dev/..", "path: '/dev/..' contains '..'"),
        ('path: "/dev/a\\nb"', "path: '/dev/a\\nb' contains a control character"),
        ("path: /dev/none", "'/dev/none' does not exist on the host"),
        ("path: /dev/initctl", "'/dev/initctl' is a fifo; mount it instead"),
        (
            "path: /dev/a, type: p, major: 1",
            "type: 'p', a fifo, is not a device; mount the host's fifo instead",
        ),
        ("path: /dev/a, type: '', major: 1", "type: '' must be one of b, c, u"),
        ("path: /dev/null, type: b", "type: b but '/dev/null' has c"),
        ("path: /dev/null, major: 2", "major: 2 but '/dev/null' has 1"),
        ("path: /dev/null, type: c, minor: 4", "minor: 4 but '/dev/null' has 3"),
        ("path: /dev/null, major: 4096", "major: 4096 is not between 0 and 4095"),
        ("path: /dev/null, minor: 1048576", "minor: 1048576 is not between 0 and 1048575"),
        ("path: /dev/null, file_mode: 0o10000", "file_mode: 4096 is not between 0 and 4095"),
        ("path: /dev/null, gid: 4294967296", "gid: 4294967296 is not between 0 and 4294967295"),
        ("path: /dev/null, uid: -0.0", "uid: -0.0 is not an integer"),
        ("path: /dev/null, majr: 1", "unknown key 'majr'; did you mean 'major'?"),
        ("path: /dev/null, Path: /dev/full", "path is set twice, as 'path' and 'Path'"),
    ],
)
def test_a_device_that_cannot_be(item: str, fault: str) -> None:
    assert faults("devices", f"- {{{item}}}") == [f"item 1: {fault}"]


def test_a_path_is_at_most_4096_bytes_long() -> None:
    path = "/" + "é" * 2048
    assert faults("devices", f"[{{path: {path}, type: c, major: 1}}]") == [
        f"item 1: path: '{path[:77]}...' is longer than 4096 bytes"
    ]
    assert (
        len(pod_wide("devices", f"[{{path: {path[:-1]}, type: c, major: 1}}]").linux.devices) == 1
    )


def test_what_is_no_device_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/gone").symlink_to("/x")
    text = "[{path: /dev}, {path: /dev/gone}]"
    assert faults("devices", text, Host(HostDevices(tmp_path))) == [
        "item 1: '/dev' is a directory",
        "item 2: '/dev/gone' is a dangling link to /x",
    ]


@pytest.mark.parametrize(
    "other", ["type: c, major: 1, minor: 4", "type: b, major: 1, minor: 3", "uid: 5"]
)
def test_one_path_with_two_meanings_is_an_error(other: str) -> None:
    text = f"[{{path: /dev/null, type: c, major: 1, minor: 3}}, {{path: /dev//null, {other}}}]"
    assert faults("devices", text) == ["'/dev/null' is requested twice with different values"]


def test_a_look_at_the_host_is_never_remembered() -> None:
    text = "[{path: /dev/later}]"
    assert faults("devices", text) == ["item 1: '/dev/later' does not exist on the host"]
    later = Host({"/dev/later": DeviceNode("/dev/later", "c", 1, 3, 0o600, 0, 0)})
    assert pod_wide("devices", text, later) == device("/dev/later", 1, 3, 0o600)


# --- mounts -------------------------------------------------------------------------------------


def test_a_mount_need_not_be_a_bind_mount() -> None:
    (mount,) = pod_wide("mounts", "[{destination: /t, type: tmpfs, source: tmpfs}]").mounts
    assert mount == api.Mount(destination="/t", type="tmpfs", source="tmpfs")


def test_one_mount_written_in_two_ways_is_one_mount() -> None:
    assert len(pod_wide("mounts", "[{destination: /a}, {destination: /a/}]").mounts) == 1


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("source: /a", "destination is missing"),
        ("destination: a", "destination: 'a' is not an absolute path"),
        ("destination: /./, type: tmpfs", "destination: '/./' is the root directory"),
        (
            "destination: /a, type: overlay, options: ['lowerdir=/x y:/z']",
            ("options: item 1: 'lowerdir=/x y:/z' contains white space; an option must not"),
        ),
        ("destination: /a/../b", "destination: '/a/../b' contains '..'"),
        ("destination: /a, type: bind", "source is missing; a bind mount must have one"),
        ("destination: /a, options: [ro, rbind]", "source is missing; a bind mount must have one"),
        (
            "destination: /a, source: a, options: [bind]",
            "source: 'a' is not an absolute path",
        ),
        ("destination: /a, options: [a, ~]", "options: item 2: null where text is expected"),
        ("destination: /a, options: ['']", "options: item 1: an option is empty"),
        (
            "destination: /a, type: tmpfs, options: ['size=1m,mode=755']",
            (
                "options: item 1: 'size=1m,mode=755' contains a comma;"
                " list each option as a separate item"
            ),
        ),
        (
            "destination: /a, options: ['a\\b']",
            "options: item 1: 'a\\\\b' contains a quote or a backslash; an option must not",
        ),
        (
            "destination: /a, options: [true]",
            "options: item 1: true is a boolean, not text; put the value in quotes",
        ),
        ('destination: /a, source: "/\\0"', "source: '/\\x00' contains a control character"),
    ],
)
def test_a_mount_that_cannot_be(item: str, fault: str) -> None:
    assert faults("mounts", f"- {{{item}}}") == [f"item 1: {fault}"]


def test_two_mounts_at_one_place_are_an_error() -> None:
    text = "[{destination: /a}, {destination: /a/, options: [ro]}]"
    assert faults("mounts", text) == ["'/a' is requested twice with different values"]


# --- network devices ----------------------------------------------------------------------------


def test_one_network_device_asked_for_twice_is_one() -> None:
    text = "[{hostIf: e0, name: n0}, {hostIf: e0, name: n0}]"
    assert pod_wide("network-devices", text).linux.net_devices["e0"].name == "n0"


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        ("hostIf: ''", "hostIf: '' must have 1 to 15 bytes"),
        ("hostIf: -e0", "hostIf: '-e0' begins with '-', which NRI reads as a removal"),
        ("hostIf: e0, name: 0123456789abcdef", None),
        ("hostIf: e0, name: a/b", "name: 'a/b' is not a name that a network interface can have"),
        ("hostIf: e0, name: 'a:b'", "name: 'a:b' is not a name that a network interface can have"),
        ("hostIf: e0, name: a b", "name: 'a b' is not a name that a network interface can have"),
        ("hostIf: ..", "hostIf: '..' is not a name that a network interface can have"),
    ],
)
def test_an_interface_has_a_name_that_linux_allows(item: str, fault: str | None) -> None:
    expected = fault or "name: '0123456789abcdef' must have 1 to 15 bytes"
    assert faults("network-devices", f"- {{{item}}}") == [f"item 1: {expected}"]


@pytest.mark.parametrize("other", ["{hostIf: e1, name: n0}", "{hostIf: n0}"])
def test_two_interfaces_cannot_have_one_name_in_the_container(other: str) -> None:
    (fault,) = faults("network-devices", f"[{{hostIf: e0, name: n0}}, {other}]")
    assert fault.startswith("'e0' and ")
    assert fault.endswith(" would both be 'n0' in the container")


# --- sysctl -------------------------------------------------------------------------------------


def test_sysctl_values_may_be_numbers_tabs_and_empty() -> None:
    text = 'a.b: 256\nc/d: "1\\t2"\ne: ""\nf: 010\n'
    assert pod_wide("sysctl", text).linux.sysctl == {"a.b": "256", "c/d": "1\t2", "e": "", "f": "8"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("'': a", "'' is not a name that a sysctl can have"),
        ("a..b: c", "'a..b' is not a name that a sysctl can have"),
        ("a b: c", "'a b' is not a name that a sysctl can have"),
        ("é: c", "'é' is not a name that a sysctl can have"),
        ("a:", "a: null where text is expected; write '' for empty text"),
        ('a: "1\\n2"', "a: '1\\n2' contains a control character"),
        ("a: 1.10", "a: 1.1 is a fraction, not text; put the value in quotes"),
        ("a: [1]", "a: a list is not text"),
    ],
)
def test_a_sysctl_that_cannot_be(text: str, fault: str) -> None:
    assert faults("sysctl", text) == [fault]


# --- policies and priorities --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("scheduling-policy", "{policy: SCHED_RR, nice: 20}", "nice: 20 is not between -20 and 19"),
        (
            "scheduling-policy",
            "{policy: SCHED_RR, priority: 100}",
            "priority: 100 is not between 0 and 99",
        ),
        (
            "scheduling-policy",
            "{policy: SCHED_DEADLINE, period: 1.5}",
            "period: 1.5 is not an integer",
        ),
        (
            "io-priority",
            "{class: IOPRIO_CLASS_BE, priority: 8}",
            "priority: 8 is not between 0 and 7",
        ),
        (
            "memory-policy",
            "{mode: MPOL_BIND, nodes: 3-1}",
            "nodes: '3-1' is not a list of nodes such as 0-3,7",
        ),
        (
            "memory-policy",
            "{mode: MPOL_BIND, nodes: all}",
            "nodes: 'all' is not a list of nodes such as 0-3,7",
        ),
        (
            "memory-policy",
            "{mode: MPOL_BIND, nodes: '1,'}",
            "nodes: '1,' is not a list of nodes such as 0-3,7",
        ),
    ],
)
def test_a_policy_that_cannot_be(kind: str, text: str, fault: str) -> None:
    assert faults(kind, text) == [fault]


def test_a_policy_whose_number_is_zero_is_still_sent() -> None:
    assert pod_wide("scheduling-policy", "policy: SCHED_NONE").linux.HasField("scheduler")
    assert pod_wide("io-priority", "class: IOPRIO_CLASS_NONE").linux.HasField("io_priority")
    assert pod_wide("memory-policy", "mode: MPOL_DEFAULT").linux.HasField("memory_policy")


# --- ulimits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["locks", "RLIMIT_MSGQUEUE", "Rlimit_SigPending", "RTTIME"])
def test_a_limit_is_known_in_any_letter_case_with_or_without_rlimit(name: str) -> None:
    (limit,) = pod_wide("ulimits", f"[{{type: {name}, hard: 2, soft: 1}}]").rlimits
    assert limit == api.POSIXRlimit(
        type=f"RLIMIT_{name.upper().removeprefix('RLIMIT_')}", hard=2, soft=1
    )


def test_unlimited_is_the_greatest_number() -> None:
    (limit,) = pod_wide("ulimits", "[{type: core, hard: 18446744073709551615}]").rlimits
    assert limit.hard == 2**64 - 1


@pytest.mark.parametrize("value", ["unlimited", "Unlimited", "infinity", "'-1'"])
def test_unlimited_as_a_word_says_how_to_write_it(value: str) -> None:
    assert faults("ulimits", f"[{{type: core, hard: {value}}}]") == [
        (
            f"item 1: hard: {value if value == repr('-1') else repr(value)} is not a limit; "
            "write 18446744073709551615 for unlimited"
        )
    ]


@pytest.mark.parametrize("name", ["r\u00df", "n\u0131ce", "\ufb06ack"])
def test_the_type_of_a_limit_is_in_ascii(name: str) -> None:
    (fault,) = faults("ulimits", f"[{{type: {name}, hard: 1}}]")
    assert fault.startswith(f"item 1: type: '{name}' must be one of RLIMIT_AS, ")


def test_equal_limits_become_one() -> None:
    assert len(pod_wide("ulimits", "[{type: core}, {type: RLIMIT_CORE, hard: 0}]").rlimits) == 1


# --- runtimes that are too old ------------------------------------------------------------------

NEEDS = {
    "io-priority": ("class: IOPRIO_CLASS_BE", "io_priority", "0.10.0", "2.2.0", "1.34"),
    "scheduling-policy": ("policy: SCHED_RR", "scheduler", "0.11.0", "2.2.1", "1.35"),
    "network-devices": ("[{hostIf: e0}]", "net_devices", "0.11.0", "2.2.1", "1.35"),
    "sysctl": ("a: b", "sysctl", "0.12.0", "2.3.0", "1.37"),
    "memory-policy": ("mode: MPOL_LOCAL", "memory_policy", "0.12.0", "2.3.0", "1.37"),
}


def on(runtime: Runtime) -> Host:
    return Host(HOST.devices, runtime)


@pytest.mark.parametrize("kind", NEEDS)
def test_what_the_runtime_would_drop_in_silence_is_an_error(kind: str) -> None:
    text, field, nri, containerd, crio = NEEDS[kind]
    assert faults(kind, text, on(identify("containerd", "1.7.24~ds1"))) == [
        (
            f"containerd 1.7.24~ds1 (NRI 0.6.1) does not apply {field}: "
            f"needs NRI {nri}, first in containerd {containerd}, CRI-O {crio}"
        )
    ]


def test_an_old_runtime_does_all_that_it_knows_and_all_that_is_not_asked_for() -> None:
    host = on(identify("containerd", "1.7.24"))
    assert pod_wide("devices", "[{path: /dev/full}]", host) == device("/dev/full", 1, 7, 0o666)
    assert len(pod_wide("mounts", "[{destination: /a}]", host).mounts) == 1
    assert len(pod_wide("ulimits", "[{type: core}]", host).rlimits) == 1
    assert pod_wide("sysctl", "{}", host) == Adjustment()


@pytest.mark.parametrize("runtime", [NEWEST, identify("containerd", "2.3.0")])
def test_a_new_runtime_does_everything(runtime: Runtime) -> None:
    for kind, (text, *_) in NEEDS.items():
        pod_wide(kind, text, on(runtime))


# --- all faults together ------------------------------------------------------------------------


def test_all_faults_of_all_annotations_are_in_one_error() -> None:
    annotations = {
        "devices.noderesource.dev/pod": "[{path: /dev/full}, {path: /dev/a, major: ten}]",
        "sysctl.noderesource.dev": "- x",
        "ulimits.noderesource.dev/container.c0": "- {type: core, hard: -1}",
        "mounts.nri.io": "- {destination: /a}",
    }
    with pytest.raises(RequestError) as caught:
        ask(annotations, on(identify("containerd", "1.7.24")))
    assert str(caught.value) == (
        "pod ns/p, container c0: "
        "annotation devices.noderesource.dev/pod: item 2: major: 'ten' is not an integer; "
        "annotation sysctl.noderesource.dev: a list is not a map of text to text; "
        "annotation sysctl.noderesource.dev: containerd 1.7.24 (NRI 0.6.1) does not apply "
        "sysctl: needs NRI 0.12.0, first in containerd 2.3.0, CRI-O 1.37; "
        "annotation ulimits.noderesource.dev/container.c0: item 1: hard: -1 is not a limit; "
        "write 18446744073709551615 for unlimited"
    )


def test_values_in_an_error_are_escaped_and_cut() -> None:
    assert faults("devices", '[{path: "\\e[31m' + "x" * 5000 + '"}]') == [
        "item 1: path: '\\x1b[31m" + "x" * 72 + "...' contains a control character"
    ]


def test_an_error_stays_short_however_much_is_wrong() -> None:
    text = "\n".join(f"- {{path: /dev/none{number}}}" for number in range(250))
    with pytest.raises(RequestError) as caught:
        pod_wide("devices", text)
    assert len(caught.value.faults) == 20
    assert len(str(caught.value)) < 2048
    assert str(caught.value).endswith("; and 10 more")


@pytest.mark.slow
def test_a_text_too_long_to_be_remembered_is_read_as_well() -> None:
    lines = [f"- {{path: /dev/x{number}, type: c, major: 1}}" for number in range(1000)]
    assert len(pod_wide("devices", "\n".join(lines)).linux.devices) == 1000


# --- anything at all ----------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "path",
        "type",
        "major",
        "c",
        "/dev/null",
        "destination",
        "options",
        "bind",
        "hostIf",
        "e0",
        "policy",
        "SCHED_RR",
        "flags",
        "class",
        "mode",
        "nodes",
        "hard",
        "soft",
        "core",
        "-",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
TEXTS = st.text() | VALUES.map(lambda value: json.dumps(value, ensure_ascii=False))


@given(st.dictionaries(st.sampled_from([kind.prefix for kind in KINDS]), TEXTS, min_size=1))
def test_whatever_the_texts_are_the_answer_is_an_adjustment_or_a_request_error(
    annotations: dict[str, str],
) -> None:
    text = refusal(annotations)
    assert text.isprintable()
    assert len(text.encode()) < 2048


def refusal(annotations: dict[str, str]) -> str:
    try:
        ask(annotations)
    except RequestError as error:
        return str(error)
    return ""


# --- access -------------------------------------------------------------------------------------


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


# --- texts without end --------------------------------------------------------------------------


def test_a_path_has_at_most_64_slashes() -> None:
    item = "- {{path: '{}', type: c, major: 1, minor: 3}}"
    assert pod_wide("devices", item.format("/a" * 64)).linux.devices[0].path == "/a" * 64
    assert faults("devices", item.format("/a" * 65)) == [
        f"item 1: path: '{'/a' * 38}/...' contains more than 64 slashes"
    ]


def test_a_thousand_selectors_are_counted_before_one_is_read() -> None:
    text = "- usb:1a86:7523\n" * 900 + "- {DEVICE: class:fuse}\n"
    asked = partial(faults, "devices", text)
    assert calls_of(selectors.parse.__code__, asked) == 0
    assert asked() == ["901 devices by `links` or by a selector that is no path, at most 8 allowed"]


def test_a_text_over_the_budget_is_one_sentence() -> None:
    text = "".join(f"k{number}: a\n" for number in range(25_000))
    host = dataclasses.replace(HOST, budget=Budget())
    with pytest.raises(OverBudget) as caught:
        inject(Pod(annotations={"sysctl.noderesource.dev": text}), Container(), host)
    (sentence,) = caught.value.faults
    assert sentence == (
        "annotation sysctl.noderesource.dev: reading it takes more than 100000 steps, the limit for"
        " one container; request fewer or shorter things"
    )


def test_one_long_word_costs_little() -> None:
    budget = Budget()
    text = "- " + "x" * 255_000
    with pytest.raises(RequestError, match="a list is not a map of text to text"):
        inject(
            Pod(annotations={"sysctl.noderesource.dev": text}),
            Container(),
            dataclasses.replace(HOST, budget=budget),
        )
    assert budget.spent < 20_000


def test_all_annotations_share_one_budget() -> None:
    text = "- a\n" * 8000
    kinds = {f"{kind.prefix}": text for kind in KINDS}
    for number, over in ((2, False), (8, True)):
        host = dataclasses.replace(HOST, budget=Budget())
        with pytest.raises(RequestError) as caught:
            inject(Pod(annotations=dict([*kinds.items()][:number])), Container(), host)
        assert isinstance(caught.value, OverBudget) is over


def test_a_reading_costs_the_same_steps_when_it_is_cached() -> None:
    spent = []
    for _ in range(2):
        budget = Budget()
        pod_wide(
            "ulimits", "- {type: NOFILE, hard: 7777}\n", dataclasses.replace(HOST, budget=budget)
        )
        spent.append(budget.spent)
    assert spent[0] == spent[1] > 0
