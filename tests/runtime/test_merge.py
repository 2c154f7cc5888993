from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from nri_inject import api
from nri_inject.errors import NriError
from nri_inject.runtime.merge import Merge, Merged, Request
from nri_inject.runtime.owners import Conflict

VECTORS = Path(__file__).parents[1] / "vectors" / "nri" / "merge.jsonl"
CASES = [json.loads(line) for line in VECTORS.read_text(encoding="utf-8").splitlines()]
PLUGINS = ("10-a", "20-b", "30-c")


def without_empties(value: Any) -> Any:
    """Drop what tells absent messages from empty ones, and give removal marks a fixed order."""
    if isinstance(value, dict):
        kept = {key: without_empties(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each not in ({}, None)}
    if isinstance(value, list):
        kept_list = [None if each is None else without_empties(each) for each in value]
        marks = [each for each in kept_list if is_mark(each)]
        return sorted(marks, key=str) + [each for each in kept_list if not is_mark(each)]
    return value


def is_mark(value: Any) -> bool:
    return isinstance(value, dict) and str(value.get("destination", "")).startswith("-")


def by_type(request: dict[str, Any]) -> dict[str, Any]:
    """Sort namespaces, whose order the reference leaves open."""
    if namespaces := request["container"].get("linux", {}).get("namespaces"):
        namespaces.sort(key=lambda namespace: namespace["type"])
    return request


def plain(message: Message) -> Any:
    return json.loads(json_format.MessageToJson(message))


def answer(rpc: str, response: dict[str, Any]) -> Any:
    return json_format.ParseDict(response, getattr(api, f"{rpc}Response")())


def as_response(rpc: str, merged: Merged) -> dict[str, Any]:
    response: dict[str, Any] = {"update": [plain(update) for update in merged.updates]}
    if rpc == "CreateContainer":
        response["adjust"] = plain(merged.adjust)
    if rpc == "UpdateContainer":
        response["update"].append(None if merged.own is None else plain(merged.own))
    return {name: value for name, value in response.items() if value != []}


def run(case: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    """Play the plugins of a case: what they were asked, and what came of it."""
    rpc = case["rpc"]
    request: Request = json_format.ParseDict(case["request"], getattr(api, f"{rpc}Request")())
    answers = {each["plugin"]: each for each in case["responses"]}
    collected, seen = Merge(request), []
    for plugin in (*PLUGINS, "99-v") if case.get("validator") else PLUGINS:
        seen.append({"plugin": plugin, "request": by_type(plain(collected.request_for_next()))})
        given = answers.get(plugin, {"response": {}})
        if "error" in given:
            return seen, given["error"]
        try:
            collected.add(plugin, answer(rpc, given["response"]))
        except NriError as error:
            return seen, error
    if case.get("validator"):
        seen.append({"plugin": "99-v", "validate": plain(validation(collected))})
    return seen, as_response(rpc, collected.result())


def validation(collected: Merge) -> Message:
    return collected.validation(
        api.PluginInstance(index=plugin[:2], name=plugin[3:]) for plugin in (*PLUGINS, "99-v")
    )


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_answers_are_merged_as_the_adaptation_merges_them(case: dict[str, Any]) -> None:
    seen, outcome = run(case)
    assert without_empties(seen) == without_empties(case["seen"])
    expected = case["expect"]
    if "conflict" in expected:
        assert isinstance(outcome, Conflict)
        assert (outcome.plugin, outcome.other) == (
            expected["conflict"]["plugin"],
            expected["conflict"]["with"],
        )
        assert (outcome.field, outcome.key) == (
            expected["conflict"]["field"],
            expected["conflict"]["key"],
        )
        assert str(outcome) == expected["error"].rstrip()
    elif "response" in expected:
        assert without_empties(outcome) == without_empties(expected["response"])
    elif "validator" not in case:  # the verdict is the validator's
        assert str(outcome) == expected["error"].removeprefix("rpc error: code = Unknown desc = ")


CREATE = api.CreateContainerRequest(
    pod=api.Pod(id="p"),
    container=api.Container(
        id="c",
        env=["A=runtime", "B=runtime"],
        mounts=[api.Mount(destination="/m")],
        linux=api.LinuxContainer(devices=[api.LinuxDevice(path="/dev/d")]),
    ),
)
UPDATE = api.UpdateContainerRequest(
    container=api.Container(id="c"),
    linux_resources=api.LinuxResources(
        cpu=api.LinuxCPU(shares=api.OptionalUInt64(value=100)), pids=api.LinuxPids(limit=5)
    ),
)


def adjusted(*answers: dict[str, Any], request: Request = CREATE) -> Merge:
    """Collect adjustments of the plugins 10-a, 20-b and so on."""
    collected = Merge(request)
    for plugin, adjust in zip(PLUGINS, answers, strict=False):
        collected.add(plugin, answer("CreateContainer", {"adjust": adjust}))
    return collected


def updated(*answers: list[dict[str, Any]], request: Request = UPDATE) -> Merge:
    collected = Merge(request)
    for plugin, update in zip(PLUGINS, answers, strict=False):
        collected.add(plugin, answer("UpdateContainer", {"update": update}))
    return collected


def env(collected: Merge) -> list[tuple[str, str]]:
    return [(each.key, each.value) for each in collected.result().adjust.env]


def owner(collected: Merge, field: int, key: str) -> str:
    return collected.owners.owners["c"].compound[field].owners[key]


SET_X = {"env": [{"key": "X", "value": "1"}]}
DROP_X = {"env": [{"key": "-X"}]}
REMOVED_X = 'plugin "30-c" tried to set Env X, which plugin "20-b" removed'


def test_the_request_given_stays_as_it_is() -> None:
    before = api.CreateContainerRequest()
    before.CopyFrom(CREATE)
    adjusted(SET_X, {"mounts": [{"destination": "-/m"}]})
    assert before == CREATE


def test_a_removed_variable_is_gone_and_kept_for_the_plugin_that_removed_it() -> None:
    collected = adjusted(SET_X, DROP_X)
    assert env(collected) == []
    assert owner(collected, api.Field.Env, "X") == "-20-b"
    with pytest.raises(Conflict) as caught:
        adjusted(SET_X, DROP_X, SET_X)
    assert (caught.value.plugin, caught.value.other) == ("30-c", "-20-b")
    assert str(caught.value) == REMOVED_X


def test_removals_of_one_answer_act_before_its_additions() -> None:
    taken = {"env": [{"key": "X", "value": "2"}, {"key": "-X"}]}
    assert env(adjusted(SET_X, taken)) == [("X", "2")]


def test_later_plugins_do_not_see_what_earlier_ones_removed() -> None:
    removals = {
        "env": [{"key": "-A"}],
        "mounts": [{"destination": "-/m"}],
        "linux": {"devices": [{"path": "-/dev/d"}]},
    }
    seen = adjusted(removals).request_for_next().container
    assert seen.env == ["B=runtime"]
    assert not seen.mounts
    assert not seen.linux.devices


def test_a_mark_without_effect_claims_nothing() -> None:
    assert env(adjusted(DROP_X, SET_X)) == [("X", "1")]


def test_an_annotation_marked_but_not_set_stays_with_its_owner() -> None:
    collected = adjusted({"annotations": {"k": "v"}}, {"annotations": {"-k": "ignored"}})
    assert collected.result().adjust.annotations == {"k": "v", "-k": ""}
    assert owner(collected, api.Field.Annotations, "k") == "10-a"
    assert collected.request_for_next().container.annotations == {"k": "v"}


def test_args_that_only_take_over_claim_them_and_change_nothing() -> None:
    collected = adjusted({"args": ["x"]}, {"args": [""]})
    assert collected.result().adjust.args == ["x"]
    assert collected.owners.owners["c"].simple[api.Field.Args] == "20-b"


def test_a_namespace_marked_for_removal_cannot_be_set_in_the_same_answer() -> None:
    with pytest.raises(Conflict, match=r"^plugins .10-a. and .10-a. both tried to set Namespace"):
        adjusted({"linux": {"namespaces": [{"type": "-pid"}, {"type": "pid"}]}})


def test_rdt_that_was_removed_is_closed_to_others() -> None:
    removed = {"linux": {"rdt": {"remove": True}}}
    with pytest.raises(Conflict) as caught:
        adjusted(removed, {"linux": {"rdt": {"closId": {"value": "x"}}}})
    assert (caught.value.field, caught.value.other) == ("RdtClosID", "-10-a")


def test_hooks_have_all_their_plugins_as_owners() -> None:
    hooks = {"hooks": {"prestart": [{"path": "/h"}]}}
    owners = adjusted(hooks, {"hooks": {}}, hooks).owners
    assert owners.owners["c"].simple == {api.Field.OciHooks: "10-a,30-c"}


def test_what_later_plugins_cannot_know_is_in_the_result_only() -> None:
    collected = adjusted(
        {
            "CDIDevices": [{"name": "v.com/c=x"}],
            "linux": {"memoryPolicy": {"mode": "MPOL_BIND"}, "rdt": {"closId": {"value": "x"}}},
        }
    )
    seen = collected.request_for_next().container
    assert not seen.CDI_devices
    assert not seen.linux.HasField("rdt")
    assert collected.result().adjust.linux.memory_policy.mode == api.MpolMode.MPOL_BIND


def test_evictions_are_passed_over() -> None:
    collected = Merge(CREATE)
    collected.add("10-a", answer("CreateContainer", {"evict": [{"containerId": "x"}]}))
    assert collected.result() == Merge(CREATE).result()


def test_failures_are_ignored_only_if_every_update_says_so() -> None:
    ignoring = {"containerId": "x", "ignoreFailure": True}
    both = [ignoring, {**ignoring, "containerId": "y"}]
    merged = updated(both, [{"containerId": "x"}, {**ignoring, "containerId": "y"}]).result()
    assert [(each.container_id, each.ignore_failure) for each in merged.updates] == [
        ("x", False),
        ("y", True),
    ]


def test_an_own_update_without_resources_leaves_an_entry_without_values() -> None:
    own = updated([{"containerId": "c"}]).result().own
    assert own is not None
    assert own.linux.resources == api.LinuxResources(memory={}, cpu={})


def test_a_pids_limit_in_an_update_is_lost() -> None:
    merged = updated(
        [{"containerId": "x", "linux": {"resources": {"pids": {"limit": 1}}}}]
    ).result()
    assert not merged.updates[0].linux.resources.HasField("pids")


def test_an_update_that_is_dropped_leaves_the_request_as_it_was() -> None:
    shares = {"cpu": {"shares": {"value": 200}}}
    first = {"containerId": "c", "linux": {"resources": shares}}
    second = {**first, "ignoreFailure": True}
    collected = updated([first], [second])
    seen = collected.request_for_next()
    assert isinstance(seen, api.UpdateContainerRequest)
    assert seen.linux_resources.cpu.shares.value == 200
    assert collected.owners.owners["c"].simple[api.Field.CPUShares] == "10-a"


# --- older versions -------------------------------------------------------------------------------


def of_version(nri: tuple[int, int, int], *answers: dict[str, Any]) -> Merge:
    collected = Merge(CREATE, nri)
    for plugin, adjust in zip(PLUGINS, answers, strict=False):
        collected.add(plugin, answer("CreateContainer", {"adjust": adjust}))
    return collected


SETS = {"env": [{"key": "X", "value": "a"}]}
TAKES_OVER = {"env": [{"key": "-X"}, {"key": "X", "value": "b"}]}
CLEARS = {"env": [{"key": "-X"}]}


def test_what_was_cleared_belongs_to_nobody_before_0_10() -> None:
    free = of_version((0, 9, 0), SETS, CLEARS, SETS)
    assert [entry.value for entry in free.result().adjust.env] == ["a"]
    with pytest.raises(Conflict):
        of_version((0, 10, 0), SETS, CLEARS, SETS)
    taken = of_version((0, 9, 0), SETS, TAKES_OVER)
    assert [entry.value for entry in taken.result().adjust.env] == ["b"]


@pytest.mark.parametrize(("nri", "left"), [((0, 6, 1), ["/n"]), ((0, 7, 0), ["-/m", "/n"])])
def test_the_removal_of_a_mount_alone_is_lost_before_0_7(
    nri: tuple[int, int, int], left: list[str]
) -> None:
    adjust = {"mounts": [{"destination": "-/m"}, {"destination": "/n"}]}
    result = of_version(nri, adjust).result()
    assert [mount.destination for mount in result.adjust.mounts] == left
