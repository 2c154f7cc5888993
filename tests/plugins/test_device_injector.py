"""The device injector, by value: annotations in, an adjustment or one error out.

The vectors are what the Go plugins answered. Where we answer something else on purpose, the case
is in DIFFERENCES; docs/differences.md says why.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from support.annotating import HOST, ask, device, faults, pod_wide

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.capabilities import NEWEST, Runtime, identify
from nri_inject.errors import RequestError
from nri_inject.injectors.device import KINDS, inject
from nri_inject.injectors.host import Host

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
NOT_A_RANGE = (
    "access to all devices of a major number cannot be requested: name them, as in"
    ' {device: "/dev/ttyUSB*", count: all}'
)
ENDING = "its end must be /container.NAME or /pod"
HARD = "hard is missing; soft is what holds at first, hard the most of it"
DIFFERENCES: dict[str, Adjustment | list[str]] = {
    "devices/mode-decimal": ["item 1: file_mode: 644 is decimal (01204); write 0644"],
    "ulimits/zero": [f"item 1: {HARD}"],
    "precedence/odd-scope": [
        f"{ENDING}; did you mean devices.noderesource.dev/pod?",
        f"{ENDING}; did you mean devices.noderesource.dev/container.c0?",
        f"{ENDING}; did you mean devices.noderesource.dev/pod?",
    ],
    "devices/path-only": device("/dev/full", 1, 7, 0o666),
    "devices/major-null": device("/dev/null", 1, 3, 0o666),
    "devices/mode-zero": device("/dev/null", 1, 3, 0),
    "devices/list-of-text": ["item 2: '/dev/zero' does not exist on the host"],
    "devices/same-path-twice": device("/dev/null", 1, 3),
    "devices/no-path": ["item 1: path is missing"],
    "devices/mode-greatest": ["item 1: file_mode: 4294967295 is not between 0 and 4095"],
    "devices/major-negative": [
        f"item 1: major: -1 is not between 0 and 4095; {NOT_A_RANGE}",
        f"item 1: minor: -1 is not between 0 and 1048575; {NOT_A_RANGE}",
    ],
    "devices/type-odd": ["item 1: type: 'x' must be one of b, c, u"],
    "devices/path-relative": [
        "item 1: path: 'dev/null' is neither a path nor a selector; write /dev/null"
    ],
    "devices/path-removal-mark": [
        "item 1: path: '-/dev/null' begins with '-', which NRI reads as a removal"
    ],
    "devices/path-dotdot": ["item 1: path: '/dev/../etc/x' contains '..'"],
    "devices/path-unicode": ["item 1: '/dev/名前' does not exist on the host"],
    "devices/unknown-key": [
        "item 1: unknown key 'permissions'; use access",
        "item 1: write {device: /dev/null, access: rwm} in its place",
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
    assert len(ask({key: "- {type: core, hard: 0}"}).rlimits) == 1


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
    assert len(pod_wide("ulimits", "[{type: core, hard: 0}]", host).rlimits) == 1
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
