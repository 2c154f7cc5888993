"""The hook injector: what containers get for their annotations, commands and mounts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import hook_vectors, hooks_without_env
from support.counting import calls_of

from nri_inject import api
from nri_inject.errors import RequestError
from nri_inject.hooks.definition import Annotation, Definition, When
from nri_inject.hooks.index import HookIndex
from nri_inject.hooks.match import AS_GO, Choices, decide
from nri_inject.hooks.registry import HookRegistry
from nri_inject.host.hook_environment import PATH
from nri_inject.injectors.hooks import inject, injector
from nri_inject.injectors.host import Host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit
from nri_inject.text.budget import Budget, OverBudget
from nri_inject.text.regex import compiled

VECTORS = {vector["name"]: vector for vector in hook_vectors.load("plugin")}

# Where the default gives a container something else than the Go plugin: name -> what.
OTHERWISE: dict[str, dict[str, list[str]]] = {
    "plugin/any-mount-counts": {},  # /proc is no bind mount
    "plugin/no-args": {"poststart": ["hook1"]},  # without a command, commands do not match
}

POD = api.Pod(name="web", namespace="shop")
CONTAINER = api.Container(name="main", args=["/bin/sh"])
PROC = api.Mount(destination="/proc", type="proc", source="proc")
HOSTS = api.Mount(destination="/etc/hosts", type="bind", source="/x", options=["rbind", "rw"])
DATA = api.Mount(destination="/data", type="bind", source="/y", options=["rbind", "rw"])


def host_with(*definitions: Definition) -> Host:
    return Host(devices={}, hooks=definitions)


def hook(path: str = "/bin/hook", **fields: Any) -> Definition:
    defaults: dict[str, Any] = {"when": When(always=True), "stages": ("poststart",)}
    return Definition(path, **{**defaults, "file": "/etc/hooks.d/a.json", **fields})


def request(vector: Mapping[str, Any]) -> tuple[api.Pod, api.Container]:
    pod = api.Pod(name="p", namespace="n", annotations=vector["pod_annotations"])
    container = api.Container(
        name="c",
        annotations=vector["container_annotations"],
        args=vector["args"],
        mounts=[api.Mount(**mount) for mount in vector["mounts"]],
    )
    return pod, container


def adjusted(vector: Mapping[str, Any], place: Path, choices: Choices) -> api.Adjustment:
    host = hook_vectors.set_up(place, vector)
    with closing(HookRegistry(host.directories(vector), unsafe=True)) as registry:
        return injector(choices)(*request(vector), host_with(*registry.current()))


def expectation(vector: Mapping[str, Any]) -> dict[str, Any]:
    expected: dict[str, Any] = hooks_without_env.expected(vector["name"], vector["expect"])
    return expected


@pytest.mark.parametrize("name", VECTORS)
def test_with_its_choices_containers_get_what_the_go_plugin_gives(
    name: str, tmp_path: Path
) -> None:
    vector = VECTORS[name]
    if vector["expect"]["refused"]:
        with pytest.raises(RequestError, match=r"^pod n/p, container c: the container has no"):
            adjusted(vector, tmp_path, AS_GO)
        return
    expected = expectation(vector)["adjustment"]
    adjustment = adjusted(vector, tmp_path, AS_GO)
    result = hook_vectors.hooks_of(adjustment.hooks)
    assert result == hook_vectors.Host(tmp_path).expanded((expected or {"hooks": {}})["hooks"])


@pytest.mark.parametrize("name", VECTORS)
def test_by_default_two_answers_are_other_than_the_go_plugins(name: str, tmp_path: Path) -> None:
    vector = VECTORS[name]
    result = hook_vectors.hooks_of(adjusted(vector, tmp_path, Choices()).hooks)
    if name in OTHERWISE:
        paths = {s: [h["path"].rpartition("/")[2] for h in hooks] for s, hooks in result.items()}
        assert paths == OTHERWISE[name]
    else:
        expected = expectation(vector)["adjustment"] or {"hooks": {}}
        assert result == hook_vectors.Host(tmp_path).expanded(expected["hooks"])


def test_no_hooks_no_adjustment() -> None:
    assert inject(POD, CONTAINER, host_with()) == api.Adjustment()
    assert inject(POD, CONTAINER, host_with(hook(stages=()))) == api.Adjustment()


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([], False),
        ([PROC], False),
        ([PROC, HOSTS], False),
        ([PROC, HOSTS, DATA], True),
        ([api.Mount(destination="/x", type="none", options=["bind"])], True),
    ],
)
def test_bind_mounts_are_those_that_the_pod_asked_for(
    mounts: list[api.Mount], expected: bool
) -> None:
    container = api.Container(name="main", args=["/bin/sh"], mounts=mounts)
    host = host_with(hook(when=When(has_bind_mounts=True)))
    assert inject(POD, container, host).HasField("hooks") is expected


def test_the_pods_annotation_counts_and_reading_them_changes_none() -> None:
    pod = api.Pod(name="web", annotations={"both": "pod's", "pod": "x"})
    container = api.Container(name="main", annotations={"both": "container's", "container": "y"})
    before = (str(pod), str(container))

    def gets_hook(key: str, value: str) -> bool:
        condition = Annotation(compiled(key), compiled(value))
        return inject(
            pod, container, host_with(hook(when=When(annotations=(condition,))))
        ).HasField("hooks")

    assert gets_hook("^both$", "^pod's$")
    assert not gets_hook("^both$", "^container's$")
    assert gets_hook("^p.d$", "x")
    assert gets_hook("^container$", "y")
    assert gets_hook("container", "y")
    assert not gets_hook("^neither$", "")
    assert (str(pod), str(container)) == before


def test_any_mount_is_a_bind_mount_if_the_admin_chooses_so() -> None:
    container = api.Container(name="main", mounts=[PROC])
    host = host_with(hook(when=When(has_bind_mounts=True)))
    assert injector(Choices(bind_mounts="any"))(POD, container, host).HasField("hooks")


def test_hook_that_the_container_has_already_is_not_added_again() -> None:
    there = api.Hooks(poststart=[api.Hook(path="/bin/hook", args=["x"], env=["A=1"])])
    container = api.Container(name="main", hooks=there)
    host = host_with(hook(args=("x",)), hook(args=("y",)), hook(args=("x",), stages=("poststop",)))
    expected = api.Hooks(
        poststart=[api.Hook(path="/bin/hook", args=["y"], env=[PATH])],
        poststop=[api.Hook(path="/bin/hook", args=["x"], env=[PATH])],
    )
    assert inject(POD, container, host).hooks == expected
    kept = injector(Choices(present="keep"))(POD, container, host).hooks
    assert [list(one.args) for one in kept.poststart] == [["x"], ["y"]]


def test_prestart_hook_of_the_container_counts_as_one_of_create_runtime() -> None:
    container = api.Container(name="main", hooks=api.Hooks(prestart=[api.Hook(path="/bin/hook")]))
    assert inject(POD, container, host_with(hook(stages=("prestart",)))) == api.Adjustment()


def test_unusable_program_is_left_out_and_told() -> None:
    gone = hook("/gone", unusable="program /gone does not exist")
    warnings: list[str] = []
    host = dataclasses.replace(host_with(gone, hook()), warn=warnings.append)
    adjustment = inject(POD, CONTAINER, host)
    assert adjustment.hooks == api.Hooks(poststart=[api.Hook(path="/bin/hook", env=[PATH])])
    assert warnings == [
        "left out: hook /etc/hooks.d/a.json cannot be run: program /gone does not exist"
    ]


def test_unusable_program_fails_the_container_if_the_admin_chooses_so() -> None:
    gone = hook("/gone", unusable="program /gone does not exist")
    strict = injector(Choices(unusable_program="fail"))
    with pytest.raises(RequestError) as caught:
        strict(POD, CONTAINER, host_with(gone))
    assert str(caught.value) == (
        "pod shop/web, container main: hook /etc/hooks.d/a.json cannot be run: "
        "program /gone does not exist"
    )
    elsewhere = hook("/gone", unusable="program /gone does not exist", when=When(always=False))
    assert strict(POD, CONTAINER, host_with(elsewhere)) == api.Adjustment()


def test_names_in_an_error_are_escaped() -> None:
    strict = injector(Choices(empty_command="fail"))
    pod = api.Pod(name="a\n2026 error", namespace="n")
    host = host_with(hook(when=When(commands=(compiled("x"),))))
    with pytest.raises(RequestError, match=r"^pod n/a\\n2026 error, container c: "):
        strict(pod, api.Container(name="c"), host)


def matching(key: str, value: str) -> Definition:
    return hook(when=When(annotations=(Annotation(compiled(key), compiled(value)),)))


def spent_on(annotations: Mapping[str, str], *definitions: Definition) -> int:
    budget = Budget()
    host = dataclasses.replace(host_with(*definitions), budget=budget)
    inject(api.Pod(annotations=annotations), CONTAINER, host)
    return budget.spent


def test_a_search_costs_by_the_length_of_the_text_and_of_the_pattern() -> None:
    short = spent_on({"a": "x"}, matching("^a$", "[xy]+z"))
    assert spent_on({"a": "x" * 20_000}, matching("^a$", "[xy]+z")) > 10 * short
    assert spent_on({"a": "x" * 20_000}, matching("^a$", "^z")) < 2 * short
    longer = spent_on({"a": "x" * 2000}, matching("^a$", "[xy]{100}z"))
    assert longer > 3 * spent_on({"a": "x" * 2000}, matching("^a$", "[xy]+z"))


@pytest.mark.parametrize(
    "annotations",
    [
        {f"k{number}": "" for number in range(60_000)},
        {f"feature{number}": "x" for number in range(1000)},
        {"feature": "x" * 256_000},
    ],
)
def test_matching_over_the_budget_fails_the_container(annotations: Mapping[str, str]) -> None:
    definitions = HookIndex(matching("^feature.*", f"x{n}[a-z]*y") for n in range(300))
    with pytest.raises(OverBudget) as caught:
        spent_on(annotations, *definitions)
    (sentence,) = caught.value.faults
    assert sentence == (
        "comparing it with the hooks' conditions takes more than 100000 steps, the limit for"
        " one container; request fewer or shorter things"
    )


def test_a_command_that_linux_could_not_run_fails_the_container() -> None:
    asked = hook(when=When(commands=(compiled("^/bin/.*x$"),)))
    for length, fails in ((4096, False), (4097, True)):
        container = api.Container(args=["/bin/".ljust(length, "x")])
        if not fails:
            assert inject(POD, container, host_with(asked)).hooks.poststart
            continue
        with pytest.raises(RequestError, match="the container's command has more than 4096 bytes"):
            inject(POD, container, host_with(asked))
        assert inject(POD, container, host_with(hook())).hooks.poststart


def test_conditions_are_asked_once_though_the_policy_denies_a_hook() -> None:
    rules = "rules: [{deny: {hooks: [a.json]}}]\non_deny: skip"
    kept = dataclasses.replace(hook("/bin/kept"), file="/etc/hooks.d/b.json")
    permit = Permit(document.read(rules, "policy"), POD, CONTAINER, "30-hook-injector")
    host = dataclasses.replace(host_with(hook(), kept), permit=permit)
    given: list[api.Adjustment] = []
    calls = calls_of(decide.__code__, lambda: given.append(inject(POD, CONTAINER, host)))
    assert calls == 2
    (adjustment,) = given
    assert [kept.path for kept in adjustment.hooks.poststart] == ["/bin/kept"]
