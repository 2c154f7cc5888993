from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nri_inject import api
from nri_inject.errors import NriError, RequestError
from nri_inject.plugin import EVENTS, Plugin, dispatch, events_of, only_tells, subscription

POD = api.Pod(id="p1", name="pod")
CONTAINER = api.Container(id="c1", name="web")
RESOURCES = api.LinuxResources(cpu=api.LinuxCPU(cpus="0-3"))
OVERHEAD = api.LinuxResources(cpu=api.LinuxCPU(cpus="4"))
UPDATE = api.ContainerUpdate(container_id="c2")
VALIDATE = api.ValidateContainerAdjustmentRequest(pod=POD, container=CONTAINER)

METHODS = {
    name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
    for name, method in api.DESCRIPTOR.services_by_name["Plugin"].methods_by_name.items()
    if name not in ("Configure", "Synchronize")
}

# Method, its request, the field that handles it, and what the handler gets.
CALLS: dict[str, tuple[Message, str, tuple[Message, ...]]] = {
    "Shutdown": (api.Empty(), "shutdown", ()),
    "RunPodSandbox": (api.RunPodSandboxRequest(pod=POD), "run_pod_sandbox", (POD,)),
    "UpdatePodSandbox": (
        api.UpdatePodSandboxRequest(
            pod=POD, overhead_linux_resources=OVERHEAD, linux_resources=RESOURCES
        ),
        "update_pod_sandbox",
        (POD, OVERHEAD, RESOURCES),
    ),
    "PostUpdatePodSandbox": (
        api.PostUpdatePodSandboxRequest(pod=POD),
        "post_update_pod_sandbox",
        (POD,),
    ),
    "StopPodSandbox": (api.StopPodSandboxRequest(pod=POD), "stop_pod_sandbox", (POD,)),
    "RemovePodSandbox": (api.RemovePodSandboxRequest(pod=POD), "remove_pod_sandbox", (POD,)),
    "CreateContainer": (
        api.CreateContainerRequest(pod=POD, container=CONTAINER),
        "create_container",
        (POD, CONTAINER),
    ),
    "PostCreateContainer": (
        api.PostCreateContainerRequest(pod=POD, container=CONTAINER),
        "post_create_container",
        (POD, CONTAINER),
    ),
    "StartContainer": (
        api.StartContainerRequest(pod=POD, container=CONTAINER),
        "start_container",
        (POD, CONTAINER),
    ),
    "PostStartContainer": (
        api.PostStartContainerRequest(pod=POD, container=CONTAINER),
        "post_start_container",
        (POD, CONTAINER),
    ),
    "UpdateContainer": (
        api.UpdateContainerRequest(pod=POD, container=CONTAINER, linux_resources=RESOURCES),
        "update_container",
        (POD, CONTAINER, RESOURCES),
    ),
    "PostUpdateContainer": (
        api.PostUpdateContainerRequest(pod=POD, container=CONTAINER),
        "post_update_container",
        (POD, CONTAINER),
    ),
    "StopContainer": (
        api.StopContainerRequest(pod=POD, container=CONTAINER),
        "stop_container",
        (POD, CONTAINER),
    ),
    "RemoveContainer": (
        api.RemoveContainerRequest(pod=POD, container=CONTAINER),
        "remove_container",
        (POD, CONTAINER),
    ),
    "StateChange": (
        api.StateChangeEvent(event=api.Event.RUN_POD_SANDBOX, pod=POD),
        "run_pod_sandbox",
        (POD,),
    ),
    "ValidateContainerAdjustment": (VALIDATE, "validate_container_adjustment", (VALIDATE,)),
}

# What runtimes before NRI 0.12 tell by StateChange.
TOLD = {
    api.Event.RUN_POD_SANDBOX: "run_pod_sandbox",
    api.Event.STOP_POD_SANDBOX: "stop_pod_sandbox",
    api.Event.REMOVE_POD_SANDBOX: "remove_pod_sandbox",
    api.Event.POST_CREATE_CONTAINER: "post_create_container",
    api.Event.START_CONTAINER: "start_container",
    api.Event.POST_START_CONTAINER: "post_start_container",
    api.Event.POST_UPDATE_CONTAINER: "post_update_container",
    api.Event.REMOVE_CONTAINER: "remove_container",
    api.Event.POST_UPDATE_POD_SANDBOX: "post_update_pod_sandbox",
}
NOT_TOLD = [number for number in range(-1, 20) if number not in TOLD]


def with_handlers(handlers: dict[str, Any]) -> Plugin:
    return Plugin(name="tested", index="10", **handlers)


def returning(field: str, result: object) -> Plugin:
    return with_handlers({field: lambda *_: result})


def a_plugin_that_notes_all(heard: list[tuple[str, tuple[object, ...]]]) -> Plugin:
    """Return a plugin with every handler; each notes its field and its arguments."""

    def noting(field: str) -> Callable[..., None]:
        return lambda *arguments: heard.append((field, arguments))

    return with_handlers({field: noting(field) for _, field, _ in CALLS.values()})


# What it is subscribed to


def test_every_event_has_a_field() -> None:
    numbers = set(api.Event.values()) - {api.Event.UNKNOWN, api.Event.LAST}
    assert set(EVENTS.values()) == numbers
    assert {field: api.Event.Value(field.upper()) for field in EVENTS} == EVENTS


def test_every_method_has_a_field() -> None:
    fields = {field.name for field in dataclasses.fields(Plugin)}
    assert CALLS.keys() == METHODS.keys()
    assert {field for _, field, _ in CALLS.values()} <= fields


@pytest.mark.parametrize(("field", "number"), EVENTS.items(), ids=EVENTS)
def test_a_handler_subscribes_to_its_event_alone(field: str, number: int) -> None:
    assert subscription(returning(field, None)) == 1 << (number - 1)


def test_all_handlers_subscribe_to_all_events() -> None:
    assert subscription(a_plugin_that_notes_all([])) == 0x3FFF


@pytest.mark.parametrize("field", [None, "configure", "synchronize", "shutdown"])
def test_a_plugin_without_events_asks_for_a_harmless_one_and_never_for_all(
    field: str | None,
) -> None:
    plugin = Plugin(name="p", index="10") if field is None else returning(field, None)
    assert subscription(plugin) == 0b100
    assert events_of(subscription(plugin)) == ["REMOVE_POD_SANDBOX"]


def test_events_of_a_mask_are_named_in_the_order_of_their_numbers() -> None:
    assert events_of(0b10_0000_0000_1001) == [
        "RUN_POD_SANDBOX",
        "CREATE_CONTAINER",
        "VALIDATE_CONTAINER_ADJUSTMENT",
    ]
    assert events_of(0) == []


# Dispatch

calls = pytest.mark.parametrize(("method", "call"), CALLS.items(), ids=CALLS)


@calls
def test_a_call_reaches_its_handler_with_the_parts_of_its_request(
    method: str, call: tuple[Message, str, tuple[Message, ...]]
) -> None:
    heard: list[tuple[str, tuple[object, ...]]] = []
    request, field, arguments = call
    assert dispatch(a_plugin_that_notes_all(heard), method, request) == METHODS[method][1]()
    assert heard == [(field, arguments)]


@calls
def test_a_call_without_a_handler_is_answered_empty(
    method: str, call: tuple[Message, str, tuple[Message, ...]]
) -> None:
    assert dispatch(Plugin(name="p", index="10"), method, call[0]) == METHODS[method][1]()


@pytest.mark.parametrize(("event", "field"), TOLD.items(), ids=TOLD.values())
def test_a_state_change_reaches_the_handler_of_the_dedicated_call(event: Any, field: str) -> None:
    heard: list[tuple[str, tuple[object, ...]]] = []
    request = api.StateChangeEvent(event=event, pod=POD, container=CONTAINER)
    answer = dispatch(a_plugin_that_notes_all(heard), "StateChange", request)
    assert answer == api.Empty()
    assert heard == [(field, (POD, CONTAINER) if "container" in field else (POD,))]


@pytest.mark.parametrize("event", NOT_TOLD)
def test_a_state_change_that_no_runtime_sends_is_answered_empty(event: Any) -> None:
    heard: list[tuple[str, tuple[object, ...]]] = []
    request = api.StateChangeEvent(event=event, pod=POD, container=CONTAINER)
    answer = dispatch(a_plugin_that_notes_all(heard), "StateChange", request)
    assert (answer, heard) == (api.Empty(), [])


def test_what_a_handler_raises_is_raised() -> None:
    def fail(_: api.Pod) -> None:
        raise NriError("cannot")

    plugin = with_handlers({"run_pod_sandbox": fail})
    with pytest.raises(NriError, match=r"^cannot$"):
        dispatch(plugin, "RunPodSandbox", api.RunPodSandboxRequest())


ADJUST = api.Adjustment(args=["sleep"])
CREATED = api.CreateContainerResponse(adjust=ADJUST, update=[UPDATE])


@pytest.mark.parametrize(
    ("method", "result", "answer"),
    [
        ("CreateContainer", None, api.CreateContainerResponse()),
        ("CreateContainer", ADJUST, api.CreateContainerResponse(adjust=ADJUST)),
        ("CreateContainer", api.Adjustment(), api.CreateContainerResponse(adjust={})),
        ("CreateContainer", CREATED, CREATED),
        ("UpdateContainer", None, api.UpdateContainerResponse()),
        ("UpdateContainer", [UPDATE], api.UpdateContainerResponse(update=[UPDATE])),
        ("UpdateContainer", iter([UPDATE]), api.UpdateContainerResponse(update=[UPDATE])),
        ("StopContainer", (UPDATE, UPDATE), api.StopContainerResponse(update=[UPDATE, UPDATE])),
        ("StopContainer", [], api.StopContainerResponse()),
        ("StartContainer", None, api.StartContainerResponse()),
        ("StartContainer", api.StartContainerResponse(), api.StartContainerResponse()),
    ],
)
def test_what_a_handler_may_return(method: str, result: object, answer: Message) -> None:
    request, field, _ = CALLS[method]
    assert dispatch(returning(field, result), method, request) == answer


@pytest.mark.parametrize(
    ("method", "result", "kind"),
    [
        ("CreateContainer", True, "bool"),
        ("CreateContainer", {"args": ["sleep"]}.items, "builtin_function_or_method"),
        ("CreateContainer", api.StopContainerResponse(), "StopContainerResponse"),
        ("UpdateContainer", ADJUST, "ContainerAdjustment"),
        ("UpdateContainer", UPDATE, "ContainerUpdate"),
        ("StartContainer", ADJUST, "ContainerAdjustment"),
        ("StartContainer", [UPDATE], "list"),
        ("RunPodSandbox", 0, "int"),
        ("StateChange", api.RunPodSandboxResponse(), "RunPodSandboxResponse"),
        ("Shutdown", "bye", "str"),
    ],
)
def test_any_other_result_is_a_type_error(method: str, result: object, kind: str) -> None:
    request, field, _ = CALLS[method]
    with pytest.raises(TypeError) as error:
        dispatch(returning(field, result), method, request)
    assert str(error.value) == f"the handler of {method} returned {kind}"


def test_a_list_of_anything_but_updates_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        dispatch(returning("stop_container", ["c1"]), "StopContainer", api.StopContainerRequest())


# Validation


def test_a_validator_that_returns_accepts() -> None:
    plugin = returning("validate_container_adjustment", None)
    answer = dispatch(plugin, "ValidateContainerAdjustment", VALIDATE)
    assert answer == api.ValidateContainerAdjustmentResponse()


def test_a_request_error_of_a_validator_is_a_rejection_with_its_sentence() -> None:
    def reject(_: api.ValidateContainerAdjustmentRequest) -> None:
        raise RequestError(["hooks are not welcome"], where="container web")

    plugin = with_handlers({"validate_container_adjustment": reject})
    assert dispatch(
        plugin, "ValidateContainerAdjustment", VALIDATE
    ) == api.ValidateContainerAdjustmentResponse(
        reject=True, reason="container web: hooks are not welcome"
    )


def test_another_error_of_a_validator_is_no_verdict() -> None:
    def fail(_: api.ValidateContainerAdjustmentRequest) -> None:
        raise NriError("the policy cannot be read")

    plugin = with_handlers({"validate_container_adjustment": fail})
    with pytest.raises(NriError, match=r"^the policy cannot be read$"):
        dispatch(plugin, "ValidateContainerAdjustment", VALIDATE)


# Names


@pytest.mark.parametrize("name", ["a", "Logger", "vendor.example_x+y-2", "0", "-", "."])
def test_names_that_every_runtime_accepts(name: str) -> None:
    assert Plugin(name=name, index="00").name == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a\n", "é", "a:b", "٣"])
def test_names_that_a_runtime_would_refuse(name: str) -> None:
    with pytest.raises(ValueError, match="plugin name") as error:
        Plugin(name=name, index="10")
    expected = f"plugin name {name!r}: only letters, digits and . _ + - allowed"
    assert str(error.value) == expected


@pytest.mark.parametrize("index", ["00", "10", "99"])
def test_two_digits_are_an_index(index: str) -> None:
    assert Plugin(name="p", index=index).index == index


@pytest.mark.parametrize("index", ["", "1", "100", "1a", "-1", " 1", "10\n", "٣٣"])
def test_anything_but_two_ascii_digits_is_no_index(index: str) -> None:
    with pytest.raises(ValueError, match="plugin index") as error:
        Plugin(name="p", index=index)
    assert str(error.value) == f"plugin index {index!r}: two digits expected, as in 10"


def test_a_plugin_does_not_change() -> None:
    plugin = Plugin(name="p", index="10")
    with pytest.raises(dataclasses.FrozenInstanceError):
        plugin.name = "q"  # type: ignore[misc]


# Whose answer matters

ONLY_TELL = {
    "Shutdown",
    "PostUpdatePodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "PostCreateContainer",
    "PostStartContainer",
    "PostUpdateContainer",
    "RemoveContainer",
}


@calls
def test_some_calls_only_tell(method: str, call: tuple[Message, str, tuple[Message, ...]]) -> None:
    assert only_tells(method, call[0]) is (method in ONLY_TELL)


@pytest.mark.parametrize(("event", "field"), TOLD.items(), ids=TOLD.values())
def test_a_state_change_only_tells_what_the_dedicated_call_would(event: Any, field: str) -> None:
    told = only_tells("StateChange", api.StateChangeEvent(event=event))
    assert told is (field not in ("run_pod_sandbox", "start_container"))
