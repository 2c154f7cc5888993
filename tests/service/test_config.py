"""The configuration by value: what it says, and every sentence about what it must not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from nri_inject.api import FailurePolicy
from nri_inject.errors import ConfigError
from nri_inject.host import follow
from nri_inject.policy.who import Subject
from nri_inject.service import config
from nri_inject.service.config import Config, RestartConfig
from nri_inject.text.glob import pattern
from nri_inject.text.yamltext import OUR_FILE, YamlError

KEYS = (
    "policy, log, audit, on_unsupported, on_no_answer, missed, stale, restart,"
    " unsafe_files, host_root,"
    " http_address, cdi, annotations, hooks, validator, logger, differ, resource_assigner"
)
POLICIES = "unrestricted, {file: PATH}, rules as in docs/allow-a-device.md"


def fault(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        config.read(text, "here")
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["", b"", "\n", "# nothing yet\n", "{}", "---\n", "null", b"\xef\xbb\xbf"]
)
def test_a_text_that_says_nothing_is_the_default(text: str | bytes) -> None:
    assert config.read(text, "here") == Config(policy=None, on_unsupported="fail")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("policy: unrestricted", Config(policy="unrestricted")),
        (b"policy: unrestricted", Config(policy="unrestricted")),
        ("on_unsupported: warn", Config(on_unsupported="warn")),
        ("on_unsupported: fail", Config()),
        ("on_no_answer: fail", Config()),
        ("on_no_answer: pass", Config(on_no_answer="pass")),
        ('{"policy": "unrestricted"}', Config(policy="unrestricted")),
        (
            "on_unsupported: warn\npolicy: unrestricted\n",
            Config(policy="unrestricted", on_unsupported="warn"),
        ),
    ],
)
def test_each_word_is_taken(text: str | bytes, meaning: Config) -> None:
    assert config.read(text, "here") == meaning


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("polcy: unrestricted", "unknown key 'polcy'; did you mean 'policy'?"),
        ("onUnsupported: warn", "unknown key 'onUnsupported'; did you mean 'on_unsupported'?"),
        (
            "zebra: 1",
            "unknown key 'zebra'; known: " + KEYS,
        ),
        ("1: 2", "line 1, column 1: key 1 is a number, not text; put it in quotes"),
        (
            '"a\\nb": 1',
            "unknown key 'a\\nb'; known: " + KEYS,
        ),
        ("policy: none", "policy: 'none' must be one of " + POLICIES),
        (
            "policy: Unrestricted",
            "policy: 'Unrestricted' must be one of " + POLICIES + "; did you mean 'unrestricted'?",
        ),
        ("policy: true", "policy: true must be one of " + POLICIES),
        ("policy: [unrestricted]", "policy: a list must be one of " + POLICIES),
        ("on_unsupported: ignore", "on_unsupported: 'ignore' must be one of fail, warn"),
        ("on_no_answer: warn", "on_no_answer: 'warn' must be one of fail, pass"),
    ],
)
def test_a_key_or_a_value_that_nobody_knows_is_an_error(text: str, sentence: str) -> None:
    assert fault(text) == f"here: {sentence}"


def test_a_request_without_an_answer_fails_unless_the_admin_lets_it_pass() -> None:
    fails = FailurePolicy(fail_request=True, keep_connected=True)
    assert Config().failure_policy == fails
    assert Config(on_no_answer="pass").failure_policy is None


def test_all_faults_are_told_together_in_the_order_of_the_text() -> None:
    assert fault("policy: x\npolici: 1\non_unsupported: [1]\n") == (
        "here: policy: 'x' must be one of " + POLICIES + ";"
        " unknown key 'polici'; did you mean 'policy'?;"
        " on_unsupported: a list must be one of fail, warn"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [("- policy", "a list"), ("unrestricted", "'unrestricted'"), ("17", "17"), ("true", "true")],
)
def test_what_is_no_mapping_is_refused_with_an_example(text: str, value: str) -> None:
    assert fault(text) == (
        f"here: {value} is not a map of keys to values, as in `policy: unrestricted`"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "on_unsupported: warn\npolicy: [a\n",
            "line 3, column 1: did not find expected ',' or ']' while parsing a flow sequence",
        ),
        (
            "policy: unrestricted\npolicy: unrestricted\n",
            "line 2, column 1: duplicate key 'policy'",
        ),
        (b"\npolicy: \xe9\n", "line 2, column 9: incomplete UTF-8 octet sequence"),
        (b"a: \xed\xa0\x80", "line 1, column 4: invalid Unicode character: #xd800"),
        ("policy: \0", "line 1, column 9: control characters are not allowed: #x00"),
    ],
)
def test_what_is_no_yaml_is_refused_with_its_line(text: str | bytes, sentence: str) -> None:
    assert fault(text) == f"here: {sentence}"


def test_a_second_document_is_refused_since_nobody_would_read_its_policy() -> None:
    assert fault("on_unsupported: warn\n---\npolicy: unrestricted\n") == (
        "here: line 2, column 1: a second document begins here; only one is allowed"
    )


def test_the_cause_stays_visible() -> None:
    with pytest.raises(ConfigError) as caught:
        config.read("[", "here")
    assert isinstance(caught.value.__cause__, YamlError)


def read_file(path: Path) -> Config:
    return config.read(follow.read(str(path), OUR_FILE.size), str(path))


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "nri.yaml"
    path.write_text("policy: some\n")
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert str(caught.value) == f"{path}: policy: 'some' must be one of " + POLICIES


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "nri.yaml"
    path.write_text("policy: unrestricted\n")
    assert read_file(path) == Config(policy="unrestricted")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "nri.yaml"
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert str(caught.value) == f"{path} does not exist"


def test_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_file(tmp_path)
    assert str(caught.value) == f"{tmp_path} is a directory, not a file"


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "nri.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: it takes no room, and no machine could hold it
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    assert str(caught.value) == f"{path} has 1099511627776 bytes, at most 16777216 allowed"


def test_the_sections_of_cdi_and_hooks_are_read() -> None:
    text = "cdi: {mode: native, dirs: [/etc/cdi]}\nhooks: {host_root: /host, present: keep}\n"
    configured = config.read(text, "c.yaml")
    assert configured.cdi == config.Cdi(mode="native", dirs=("/etc/cdi",))
    assert configured.hooks == config.Hooks(host_root="/host", present="keep")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cdi: native", "cdi: 'native' is not a map with mode, dirs, container_annotations"),
        ("cdi: {mod: native}", "cdi: unknown key 'mod'; did you mean 'mode'?"),
        ("cdi: {dirs: etc}", "cdi: dirs: 'etc' is not a list"),
        ("cdi: {dirs: [etc]}", "cdi: dirs: item 1: 'etc' is not an absolute path"),
        ("hooks: {host_root: 1}", "hooks: host_root: 1 is not an absolute path"),
        ("cdi: {mode: ~}", "cdi: mode: null where a value is expected"),
        ("cdi: {Mode: native}", "cdi: unknown key 'Mode'; did you mean 'mode'?"),
        ("policy: {file: x}", "policy: file: 'x' is not an absolute path"),
        ("policy: {file: /x, mode: warn}", "policy: unknown key 'mode'; known: file, on_fault"),
        ("audit: {path: /x}", "audit: unknown key 'path'; known: file; audit: file is missing"),
        ("audit: on", "audit: true must be one of log, off, {file: PATH}"),
        ("hooks: {present: no}", "hooks: present: false must be one of drop, keep"),
    ],
)
def test_a_wrong_section_says_what_is_wrong_in_it(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.read(text, "c.yaml")
    assert str(caught.value) == f"c.yaml: {fault}"


SOCKET = "restart: {cri_socket: /run/cri.sock}\n"


def is_restarted(text: str, namespace: str, labels: dict[str, str] | None = None) -> bool:
    subject = Subject(namespace, labels or {}, "", "main", "20-nri-inject")
    return config.read(text + SOCKET, "here").restarts_missed(subject)


def test_a_missed_container_is_reported_unless_the_configuration_says_otherwise() -> None:
    assert not is_restarted("", "shop")
    assert not is_restarted("missed: report\n", "shop")
    assert is_restarted("missed: restart\n", "shop")


def test_the_first_rule_that_applies_says_what_becomes_of_a_missed_container() -> None:
    rules = (
        "missed:\n"
        "- {who: {pods: {matchLabels: {job: a}}}, action: report}\n"
        "- {who: {namespaces: [shop, home-*]}, action: restart}\n"
    )
    assert is_restarted(rules, "shop")
    assert is_restarted(rules, "home-1")
    assert not is_restarted(rules, "shop", {"job": "a"})
    assert not is_restarted(rules, "ci")
    assert config.read(rules + SOCKET, "here").has_restarts
    assert not config.read("missed: [{who: {}, action: report}]", "here").has_restarts


def test_what_becomes_of_a_stale_container_is_said_by_a_word_or_by_rules() -> None:
    shop, home = (Subject(name, {}, "", "main", "20-nri-inject") for name in ("shop", "home"))
    for word in ("report", "requested", "restart"):
        assert config.read(f"stale: {word}\n{SOCKET}", "here").stale_action(shop) == word
    rules = "stale: [{who: {namespaces: [home]}, action: requested}]\n"
    configured = config.read(rules + SOCKET, "here")
    assert (configured.stale_action(home), configured.stale_action(shop)) == ("requested", "report")
    assert config.read("", "here").stale_action(shop) == "report"
    assert not configured.has_restarts  # of missed containers


def test_the_settings_of_a_restart_are_read() -> None:
    text = "restart: {cri_socket: /x, grace_seconds: 0, per_hour: 1, excluded_namespaces: [a-*]}"
    configured = config.read(text, "here").restart
    assert configured == RestartConfig("/x", 0, 1, (pattern("a-*"),))
    assert config.read("restart: {excluded_namespaces: []}", "here").restart == RestartConfig(
        excluded_namespaces=()
    )
    assert [each.text for each in RestartConfig().excluded_namespaces] == ["kube-system"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "missed: restart",
            (
                "restarts of missed containers need the runtime's CRI socket; add it, as in"
                " restart: {cri_socket: /run/containerd/containerd.sock}"
            ),
        ),
        (
            "missed: [{who: {}, action: restart}]",
            (
                "restarts of missed containers need the runtime's CRI socket; add it, as in"
                " restart: {cri_socket: /run/containerd/containerd.sock}"
            ),
        ),
        (
            "missed: restrat",
            (
                "missed: 'restrat' must be one of report, restart, a list of {who: ..., action:"
                " ...}; did you mean 'restart'?"
            ),
        ),
        ("missed: [{action: report}]", "missed: item 1: who is missing"),
        (
            "stale: requested",
            (
                "restarts of stale containers need the runtime's CRI socket; add it, as in"
                " restart: {cri_socket: /run/containerd/containerd.sock}"
            ),
        ),
        (
            "missed: requested",
            "missed: 'requested' must be one of report, restart, a list of {who: ..., action: ...}",
        ),
        (
            "missed: [{who: {namespaces: [Shop]}, action: kill}]",
            (
                "missed: item 1: who: namespaces: item 1: 'Shop' matches nothing: the name of a"
                " namespace has small letters; write shop;"
                " missed: item 1: action: 'kill' must be one of report, restart"
            ),
        ),
        (
            "restart: {cri_socket: containerd.sock, grace_seconds: 3601, per_hour: 0}",
            (
                "restart: cri_socket: 'containerd.sock' is not an absolute path;"
                " restart: grace_seconds: 3601 is not between 0 and 3600;"
                " restart: per_hour: 0 is not between 1 and 100"
            ),
        ),
        (
            "restart: {excluded_namespaces: [Kube-System]}",
            (
                "restart: excluded_namespaces: item 1: 'Kube-System' matches nothing: the name of a"
                " namespace has small letters; write kube-system"
            ),
        ),
    ],
)
def test_a_wrong_setting_of_restarts_says_what_is_wrong(text: str, sentence: str) -> None:
    assert fault(text) == f"here: {sentence}"
