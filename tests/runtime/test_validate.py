from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from nri_inject import api
from nri_inject.errors import ConfigError
from nri_inject.runtime.validate import Rejection, Rules, read_rules, validate

VECTORS = Path(__file__).parents[1] / "vectors" / "nri" / "validate.jsonl"
CASES = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]
ACCEPTED = [case for case in CASES if case["expect"] == "accept"]
REJECTED = [case for case in CASES if case["expect"] != "accept"]

REASONS = {
    "hooks-one": "OCI hooks may not be added, but plugin 10-a did",
    "hooks-two": "OCI hooks may not be added, but plugins 10-a, 20-b did",
    "seccomp-runtime-default": (
        "the runtime's default seccomp policy may not be changed, but plugin 10-a did"
    ),
    "seccomp-unconfined": (
        "an unconfined container's seccomp policy may not be changed, but plugin 10-a did"
    ),
    "seccomp-custom": "a custom seccomp policy may not be changed, but plugin 10-a did",
    "namespace": "namespaces may not be changed, but plugin 20-b did: network",
    "sysctl": "sysctl may not be set, but plugin 20-b did: k",
    "required-missing": "required plugin not there: z",
    "required-two-missing": "required plugins not there: y, z",
    "annotated-required-missing": "required plugin not there: z",
    "annotated-broken": (
        "annotation required-plugins.noderesource.dev: got 'z', expected a list of plugins"
    ),
    "not-tolerated": "required plugin not there: z",
    "tolerated-no-key-configured": "required plugin not there: z",
    "tolerated-odd-value": ("annotation tolerate.example.com: got 'yes', expected true or false"),
    "tolerated-for-other-container": "required plugin not there: z",
    "annotated-duplicate": "required plugins not there: z, z",
}


def run(case: dict[str, Any]) -> None:
    configured = read_rules(case["config"])
    assert configured is not None
    validate(configured, request(case["request"]))


def request(fields: dict[str, Any]) -> api.ValidateContainerAdjustmentRequest:
    return json_format.ParseDict(fields, api.ValidateContainerAdjustmentRequest())


@pytest.mark.parametrize("case", ACCEPTED, ids=[case["name"] for case in ACCEPTED])
def test_what_the_reference_accepts_is_accepted(case: dict[str, Any]) -> None:
    run(case)


@pytest.mark.parametrize("case", REJECTED, ids=[case["name"] for case in REJECTED])
def test_what_the_reference_rejects_is_rejected_with_a_reason(case: dict[str, Any]) -> None:
    with pytest.raises(Rejection) as caught:
        run(case)
    assert str(caught.value) == REASONS[case["name"]]


def test_a_validator_that_is_not_enabled_has_no_rules() -> None:
    assert read_rules({"rejectSysctlAdjustment": True}) is None


def test_rules_are_read_by_their_names_in_nri() -> None:
    configured = read_rules(
        {"enable": True, "requiredPlugins": ["a"], "rejectSysctlAdjustment": True}
    )
    assert configured == Rules(reject_sysctl=True, required_plugins=("a",))


@pytest.mark.parametrize(
    ("configuration", "sentence"),
    [
        ({"enable": "yes"}, "enable: 'yes' is not true or false"),
        ({"enable": True, "requiredPlugins": "a"}, "requiredPlugins: 'a' is not a list"),
        ({"requiredPlugins": [1]}, "requiredPlugins: item 1: 1 is not text; put it in quotes"),
        (
            {"tolerateMissingPluginsAnnotation": 1},
            "tolerateMissingPluginsAnnotation: 1 is not text; put it in quotes",
        ),
        ({"rejectAll": True}, "unknown key 'rejectAll'; known: enable, rejectOCIHookAdjustment"),
    ],
)
def test_a_wrong_configuration_is_an_error(configuration: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_rules(configuration)
    assert str(caught.value).startswith(sentence)


def test_a_missing_seccomp_profile_counts_as_unconfined_and_an_unknown_one_passes() -> None:
    owned: dict[str, Any] = {
        "adjust": {},
        "container": {"id": "c"},
        "owners": {"owners": {"c": {"simple": {"32": "10-a"}}}},
    }
    every = Rules(
        reject_runtime_default_seccomp=True,
        reject_unconfined_seccomp=True,
        reject_custom_seccomp=True,
    )
    with pytest.raises(Rejection, match=r"^an unconfined container's"):
        validate(every, request(owned))
    owned["container"]["linux"] = {"seccompProfile": {"profileType": 99}}
    validate(every, request(owned))


def test_owners_of_other_containers_do_not_matter() -> None:
    owners = {"owners": {"other": {"simple": {"3": "10-a"}}}}
    fields = {"adjust": {}, "container": {"id": "c"}, "owners": owners}
    validate(Rules(reject_oci_hooks=True), request(fields))


@pytest.mark.parametrize(
    ("text", "names"), [("[1, true]", "1, true"), ("- 10-a\n- b", "b"), ("[~]", "")]
)
def test_annotated_names_are_read_as_texts(text: str, names: str) -> None:
    fields = {
        "pod": {"annotations": {"required-plugins.noderesource.dev": text}},
        "plugins": [{"index": "10", "name": "a"}],
    }
    with pytest.raises(Rejection, match=rf"not there: {names}$"):
        validate(Rules(), request(fields))


@pytest.mark.parametrize("text", ["[", "{a: b}", "[[a]]"])
def test_a_broken_list_of_plugins_is_rejected(text: str) -> None:
    fields = {"pod": {"annotations": {"required-plugins.noderesource.dev/pod": text}}}
    with pytest.raises(Rejection, match=r"^annotation required-plugins.noderesource.dev/pod: "):
        validate(Rules(), request(fields))
