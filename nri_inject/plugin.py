"""The definition of a plugin: a record of functions, one for each request or event of a runtime.

One naming rule holds: the call `CreateContainer`, the event `CREATE_CONTAINER` and the field
`create_container` are one and the same thing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from nri_inject.api import (
    DESCRIPTOR,
    Adjustment,
    ConfigureRequest,
    Container,
    ContainerUpdate,
    CreateContainerResponse,
    Event,
    FailurePolicy,
    LinuxResources,
    Pod,
    StateChangeEvent,
    ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
)
from nri_inject.errors import RequestError
from nri_inject.text.names import is_plugin_index, is_plugin_name

Updates = Iterable[ContainerUpdate] | None
PodHandler = Callable[[Pod], None]
ContainerHandler = Callable[[Pod, Container], None]

_Arguments = Callable[[Message], tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """A plugin's name, its index, and the functions that handle its events.

    `name` has letters, digits and ``. _ + -`` (the rule of NRI 0.12), `index` is two ASCII
    digits; plugins are called in the order of their indexes. ValueError for anything else.

    A handler that is None is not called, and its event is not subscribed to. An NriError that
    a handler raises becomes the text of the status that the runtime gets; where the runtime
    waits for leave (`create_container`, say) it fails that one request. Handlers are called
    one at a time. The runtime allows two seconds, for its whole node: a handler must not wait.

    A runtime may report what exists in many parts. `synchronize` gets all of them together, up to
    `stub.Limits.max_sync_bytes`. A plugin with `synchronize_part` gets each part there as it comes,
    however many they are, and empty sequences in `synchronize` after the last one. A container may
    come before its pod. Keep copies: one message of a part keeps the whole part in memory.

    `configure` may return another record, whose handlers, events and failure policy take the place
    of these for the rest of the connection; the name and the index have been told already.

    `failure_policy` is what a runtime with NRI 0.12.4 or later does when the plugin does not answer
    a request in time, its connection ends, or it breaks the protocol. With `fail_request` the
    request fails, whatever its event; without, it goes on without the plugin. With
    `keep_connected` a plugin that was too late stays connected, and later requests wait for it;
    without, the runtime closes its connection. None means neither, as in older runtimes.

    `create_container` may return a CreateContainerResponse, to update other containers, too. Its
    evictions have no effect: NRI's adaptation drops them (0.2.0 to 0.12.5).
    """

    name: str
    index: str
    failure_policy: FailurePolicy | None = None
    configure: Callable[[ConfigureRequest], Plugin | None] | None = None
    synchronize: Callable[[Sequence[Pod], Sequence[Container]], Updates] | None = None
    synchronize_part: Callable[[Sequence[Pod], Sequence[Container]], None] | None = None
    shutdown: Callable[[], None] | None = None
    run_pod_sandbox: PodHandler | None = None
    update_pod_sandbox: Callable[[Pod, LinuxResources, LinuxResources], None] | None = None
    post_update_pod_sandbox: PodHandler | None = None
    stop_pod_sandbox: PodHandler | None = None
    remove_pod_sandbox: PodHandler | None = None
    create_container: (
        Callable[[Pod, Container], Adjustment | CreateContainerResponse | None] | None
    ) = None
    post_create_container: ContainerHandler | None = None
    start_container: ContainerHandler | None = None
    post_start_container: ContainerHandler | None = None
    update_container: Callable[[Pod, Container, LinuxResources], Updates] | None = None
    post_update_container: ContainerHandler | None = None
    stop_container: Callable[[Pod, Container], Updates] | None = None
    remove_container: ContainerHandler | None = None
    validate_container_adjustment: Callable[[ValidateContainerAdjustmentRequest], None] | None = (
        None
    )

    def __post_init__(self) -> None:
        """Refuse a name or an index that a runtime would refuse."""
        if not is_plugin_name(self.name):
            raise ValueError(f"plugin name {self.name!r}: only letters, digits and . _ + - allowed")
        if not is_plugin_index(self.index):
            raise ValueError(f"plugin index {self.index!r}: two digits expected, as in 10")


def subscription(plugin: Plugin) -> int:
    """Return the event mask of the plugin's handlers: bit (number - 1) for each event.

    Never 0, since that means every event, even those that would need a handler (NRI, stub).
    A plugin without any event gets one that asks nothing of it.
    """
    mask = 0
    for name, event in EVENTS.items():
        if getattr(plugin, name) is not None:
            mask |= 1 << (event - 1)
    return mask or 1 << (Event.REMOVE_POD_SANDBOX - 1)


def events_of(mask: int) -> list[str]:
    """Return the names of the events in a mask, in the order of their numbers."""
    return [Event.Name(event) for event in EVENTS.values() if mask >> (event - 1) & 1]


def dispatch(plugin: Plugin, method: str, request: Message) -> Message:
    """Call the plugin's handler for a call and return the response.

    `method` is any method of the service Plugin but Configure and Synchronize, which need more than
    one function: the stub handles them. Without a handler the response is empty. Raises the
    handler's errors.
    """
    field, arguments = _handler_of(method, request)
    handler = getattr(plugin, field, None)
    response_type = _RESPONSES[method]
    if handler is None:
        return response_type()
    if isinstance(request, ValidateContainerAdjustmentRequest):
        return _verdict(handler, request)
    result = handler(*arguments(request))
    return _response(method, response_type, result)


def only_tells(method: str, request: Message) -> bool:
    """Tell whether a call is a notification, whose response has no effect in the runtime.

    An error in such a handler is logged and not returned. Some runtimes would even fail to stop a
    pod over it (CRI-O).
    """
    field, _ = _handler_of(method, request)
    return tells_only(field)


def tells_only(field: str) -> bool:
    """Tell the same of the field of Plugin that a request is for."""
    return field.startswith(("post_", "remove_", "stop_pod", "shutdown"))


def _handler_of(method: str, request: Message) -> tuple[str, _Arguments]:
    """Return the field of Plugin that a call is for, and how to get its arguments.

    Runtimes before NRI 0.12 send most events as StateChange. An event that we do not know has
    no field; nor has one with more than StateChange can carry or with something to answer.
    """
    if isinstance(request, StateChangeEvent):
        field = _FIELD_OF_EVENT.get(request.event, "")
        return field, _OF_CONTAINER if field.endswith("_container") else _OF_POD
    return _HANDLERS[method]


def _verdict(
    handler: Callable[[ValidateContainerAdjustmentRequest], None],
    request: ValidateContainerAdjustmentRequest,
) -> ValidateContainerAdjustmentResponse:
    try:
        handler(request)
    except RequestError as error:
        return ValidateContainerAdjustmentResponse(reject=True, reason=str(error))
    return ValidateContainerAdjustmentResponse()


def _response(method: str, response_type: type[Message], result: object) -> Message:
    """Turn what a handler returned into the method's response message."""
    if result is None:
        return response_type()
    if isinstance(result, response_type):
        return result
    if isinstance(result, Adjustment) and response_type is CreateContainerResponse:
        return CreateContainerResponse(adjust=result)
    if isinstance(result, Iterable) and "update" in response_type.DESCRIPTOR.fields_by_name:
        return response_type(update=result)
    raise TypeError(f"the handler of {method} returned {type(result).__name__}")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


_METHODS = DESCRIPTOR.services_by_name["Plugin"].methods_by_name

_RESPONSES: dict[str, type[Message]] = {
    name: GetMessageClass(method.output_type) for name, method in _METHODS.items()
}

ARGUMENTS: dict[str, tuple[str, ...]] = {
    _snake(name): tuple(field.name for field in method.input_type.fields)
    for name, method in _METHODS.items()
}
"""Field of Plugin -> the fields of the request that it is about."""


def _getter(names: Sequence[str]) -> _Arguments:
    """Return what gets these fields of a request at once."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda request: tuple(getattr(request, name) for name in names)


_OF_POD = _getter(("pod",))
_OF_CONTAINER = _getter(("pod", "container"))

_HANDLERS: dict[str, tuple[str, _Arguments]] = {
    name: (_snake(name), _getter(ARGUMENTS[_snake(name)])) for name in _METHODS
}

EVENTS: dict[str, int] = {
    field.name: Event.Value(field.name.upper())
    for field in dataclasses.fields(Plugin)
    if field.name.upper() in Event.keys()  # noqa: SIM118 - an enum wrapper is no mapping
}
"""Field of Plugin -> number of its event, in the order of the fields."""

_FIELD_OF_EVENT = {
    EVENTS[field]: field
    for method, (field, _) in _HANDLERS.items()
    if field in EVENTS
    and set(ARGUMENTS[field]) <= {"pod", "container"}
    and not _RESPONSES[method].DESCRIPTOR.fields
}
