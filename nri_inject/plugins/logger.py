"""Log the events that a runtime sends to plugins, of selected pods, as YAML or as JSON.

docs/log-events.md is the page for users, with the differences from NRI's logger (NRI 0.12).
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any, Final

import yaml
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from nri_inject.api import (
    Adjustment,
    ConfigureRequest,
    Container,
    KeyValue,
    Pod,
    ValidateContainerAdjustmentRequest,
)
from nri_inject.errors import ConfigError
from nri_inject.plugin import ARGUMENTS, EVENTS, Plugin
from nri_inject.plugins.excerpt import large_fields, without
from nri_inject.service import config, logs
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.health.records import Records
from nri_inject.service.output import Output
from nri_inject.stub import Stub
from nri_inject.text.times import timestamp
from nri_inject.text.words import quoted, suggestion
from nri_inject.text.yamltext import Value
from nri_inject.wire import recording
from nri_inject.wire.recording import Piece
from nri_inject.wire.session import Role

log = logging.getLogger(__name__)

Document = dict[str, Any]

LOGGED: Final = ("synchronize", *EVENTS)
"""What can be logged, as the fields of Plugin are called."""

_NAMES: Final = {field: "".join(map(str.capitalize, field.split("_"))) for field in LOGGED}
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "all": LOGGED,
    "pod": tuple(field for field in LOGGED if "pod" in field),
    "podsandbox": tuple(field for field in LOGGED if "pod" in field),
    "container": tuple(field for field in LOGGED if "container" in field),
    **{field.replace("_", ""): (field,) for field in LOGGED},
}

_MAPS: Final = frozenset({"labels", "annotations", "sysctl", "unified", "netDevices", "owners"})

# The names of pods that are remembered, since a runtime's last events of one have its id alone.
_MAX_PODS: Final = 4096
_MAX_NAMES: Final = 1024  # characters; Kubernetes' own have some 400

MAX_EVENT: Final = 512 * 1024
"""How many bytes of an event are kept until it is written; of a longer event the names are."""

MAX_NAME: Final = 320
"""How many characters of a name are written of such an event."""

_NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "pod": ("id", "uid", "namespace", "name"),
    "container": ("id", "pod_sandbox_id", "name"),
}

_PID: Final = os.getpid()  # of the service, whichever of its workers has imported this

MAX_HELD: Final = 16 << 20
"""How many bytes of containers may wait for their pod's name while a runtime synchronizes."""

# The keys of the Go logger's drop-in file, which stand at its top.
_GO_KEYS: Final = {
    "logFile": "log_file",
    "events": "events",
    "addAnnotation": "add_annotation",
    "setAnnotation": "set_annotation",
    "addEnv": "add_env",
    "setEnv": "set_env",
}


def events_of(words: Iterable[str]) -> tuple[str, ...]:
    """Return the fields of Plugin that words such as `pod` or `CreateContainer` stand for.

    Letter case, spaces around a word, and `_` and `-` in it do not count; a word may be several
    with commas between. ConfigError names the words that are none.
    """
    given = [part.strip() for word in words for part in word.split(",")]
    keys = [re.sub(r"[_-]", "", word).lower() for word in given]
    unknown = [word for word, key in zip(given, keys, strict=True) if key not in _WORDS]
    if unknown:
        raise ConfigError("; ".join(map(_unknown, unknown)))
    chosen = {field for key in keys for field in _WORDS[key]}
    return tuple(field for field in LOGGED if field in chosen)


def _unknown(word: str) -> str:
    known = ("all", "pod", "container", *(_NAMES[field] for field in LOGGED))
    return f"unknown event {quoted(word)}; {suggestion(word, known)}"


def document(
    seconds: float, event: str, messages: Mapping[str, Message], left_out: int = 0
) -> Document:
    """Return an event's document: its name, pod and message, in protobuf's own JSON.

    The fields of a message under the name "" are the document's own. `left_out` is how many bytes
    it had where only names are written of it, 0 otherwise. Else what is too large is left out field
    by field, and `left_out_fields` names them.
    """
    document: Document = {"time": timestamp(seconds), "event": _NAMES[event]}
    large = {name: large_fields(message) for name, message in messages.items()}
    parts = {
        name: _in_order(MessageToDict(without(message, large[name])))
        for name, message in messages.items()
    }
    document |= parts.get("", parts)
    if left_out:
        document["left_out"] = left_out
    if fields := [f"{name}.{field}".lstrip(".") for name in large for field in large[name]]:
        document["left_out_fields"] = fields
    return document


def names_of(messages: Mapping[str, Message]) -> dict[str, Message]:
    """Return the pod and the container of an event with nothing but their names, cut if long."""
    if "" in messages:
        messages = {name: getattr(messages[""], name) for name in ("pod", "container")}
    return {
        name: type(message)(**{field: getattr(message, field)[:MAX_NAME] for field in _NAMED[name]})
        for name, message in messages.items()
        if name in _NAMED
    }


def _in_order(value: Any) -> Any:
    """Sort the keys of maps, which come in any order; fields stay in the protocol's."""
    if isinstance(value, list):
        return [_in_order(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: dict(sorted(item.items())) if name in _MAPS else _in_order(item)
        for name, item in value.items()
    }


def as_json(record: Document) -> str:
    """Write a document as one line."""
    return json.dumps(record) + "\n"


def as_yaml(record: Document) -> str:
    """Write a document of a YAML stream; no value in it takes more than one line."""
    return "---\n" + yaml.dump(record, Dumper=_yaml_dumper(), sort_keys=False, width=1 << 30)


@cache
def _yaml_dumper() -> Any:
    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # either
        """A dumper that quotes, and so escapes, what is not plain text."""

    def text(dumper: Any, value: str) -> Any:
        plain = value.isascii() and value.isprintable()
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')

    Dumper.add_representer(str, text)
    return Dumper


class Chosen:
    """Which pods are logged: the patterns, and the names of the pods that are known."""

    def __init__(self, namespaces: Sequence[str], pods: Sequence[str]) -> None:
        self._namespaces = namespaces
        self._pods = pods
        self._names: dict[str, tuple[str, str]] = {}

    def awaits(self, pod_id: str) -> bool:
        """Tell whether it takes the name of a pod to decide, and that is not known yet."""
        return bool(self._namespaces or self._pods) and pod_id not in self._names

    def __contains__(self, pod: Pod) -> bool:
        """Tell whether a pod is to be logged; one whose name nobody has told is, too."""
        if pod.name and len(pod.id) + len(pod.namespace) + len(pod.name) <= _MAX_NAMES:
            self._names.pop(pod.id, None)
            self._names[pod.id] = pod.namespace, pod.name
            if len(self._names) > _MAX_PODS:
                del self._names[next(iter(self._names))]
        namespace, name = self._names.get(pod.id, (pod.namespace, pod.name))
        return not name or (_matches(namespace, self._namespaces) and _matches(name, self._pods))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def changes(settings: config.LoggerConfig, value: str) -> Adjustment | None:
    """Return the annotation and the variable that containers are to get, if any."""
    adjustment = Adjustment()
    if settings.add_annotation:
        adjustment.annotations[settings.add_annotation] = value
    if settings.set_annotation:
        # A removal beside the value takes the key over from an earlier plugin (NRI, pkg/api).
        adjustment.annotations[f"-{settings.set_annotation}"] = ""
        adjustment.annotations[settings.set_annotation] = value
    if settings.add_env:
        adjustment.env.append(KeyValue(key=settings.add_env, value=value))
    if settings.set_env:
        adjustment.env.append(KeyValue(key=f"-{settings.set_env}"))
        adjustment.env.append(KeyValue(key=settings.set_env, value=value))
    return adjustment if adjustment.ByteSize() else None


class Logger:
    """The service: handlers that write their events."""

    def __init__(self, options: Options, configured: Config) -> None:
        own = dict(options.own)
        record = own.pop("record", None)
        self._recording = Output(record) if record else None
        self._options = own
        self._name, self._index = options.name, options.idx
        self._held = Records(MAX_HELD)
        self._output = Output()
        self.plugin = self._settled(configured)

    def attach(self, stub: Stub) -> None:
        """Write between two requests, and stop when the reader has closed the pipe."""
        self._output.on_reader_gone = stub.stop
        stub.watch(self._output)
        if self._recording is not None:
            stub.watch(self._recording)
            stub.on_bytes(partial(_recorded, self._recording, time.monotonic()))

    def close(self) -> None:
        """Write what is left."""
        self._output.close()
        if self._recording is not None:
            self._recording.close()

    def configure(self, request: ConfigureRequest) -> Plugin:
        """Take the drop-in configuration, which wins, but for the command line."""
        if request.config:
            source = "drop-in configuration"
            given = _as_ours(config.read_document(request.config, source))
            self.reconfigure(config.checked(given, source))
        return self.plugin

    def reconfigure(self, configured: Config) -> None:
        """Write as a configuration says from now on; other events are had when registered anew."""
        self.plugin = self._settled(configured)

    def _settled(self, configured: Config) -> Plugin:
        """Return the plugin for a configuration, and write to where it says."""
        logs.send_to(configured.log_target)
        settings = config.with_options(configured.logger, self._options)
        handlers: dict[str, Callable[..., Any]] = {
            field: partial(self._tell, field) for field in events_of(settings.events)
        }
        self._output.set_path(settings.log_file)
        self._chosen = Chosen(settings.namespaces, settings.pods)
        self._written = as_json if settings.format == "json" else as_yaml
        if "synchronize" in handlers:
            handlers["synchronize"] = self._synchronize
            handlers["synchronize_part"] = self._synchronize_part
        if "validate_container_adjustment" in handlers:
            handlers["validate_container_adjustment"] = self._validate
        adjustment = changes(settings, f"logger-pid-{_PID}")
        if adjustment is not None:
            tell = handlers.get("create_container")
            handlers["create_container"] = partial(_adjusting, adjustment, tell)
        return Plugin(
            name=self._name,
            index=self._index,
            failure_policy=None,  # a container does not need its line in the log
            configure=self.configure,
            **handlers,
        )

    def _tell(self, field: str, pod: Pod, *others: Message) -> None:
        self._put(field, pod, dict(zip(ARGUMENTS[field], (pod, *others), strict=True)))

    def _validate(self, request: ValidateContainerAdjustmentRequest) -> None:
        self._put("validate_container_adjustment", request.pod, {"": request})

    def _synchronize_part(self, pods: Sequence[Pod], containers: Sequence[Container]) -> None:
        """Put down each pod and each container by itself: all together may be very many."""
        for pod in pods:
            self._put("synchronize", pod, {"pod": pod})
        for container in containers:
            if self._chosen.awaits(container.pod_sandbox_id):
                self._held.put(container.id, container.SerializeToString())
            else:
                self._put_container(container)

    def _synchronize(self, pods: Sequence[Pod], containers: Sequence[Container]) -> None:
        """Put down the containers that came before their pods."""
        self._synchronize_part(pods, containers)  # none where they came in parts
        held, self._held = self._held, Records(MAX_HELD)
        while (record := held.pop_first()) is not None:
            self._put_container(Container.FromString(record))
        if held.left_out:
            log.warning(
                "%d containers were reported before their pods and are not logged", held.left_out
            )

    def _put_container(self, container: Container) -> None:
        self._put("synchronize", Pod(id=container.pod_sandbox_id), {"container": container})

    def _put(self, field: str, pod: Pod, messages: Mapping[str, Message]) -> None:
        if pod in self._chosen:
            now, written = time.time(), self._written
            size = sum(message.ByteSize() for message in messages.values())
            left_out = size if size > MAX_EVENT else 0
            kept = _Kept(names_of(messages) if left_out else messages)
            self._output.enqueue(
                lambda: written(document(now, field, kept.messages(), left_out)), kept.size
            )


class _Kept:
    """Messages that wait to be written, as bytes: one message keeps all of its request alive."""

    def __init__(self, messages: Mapping[str, Message]) -> None:
        self._messages = [
            (name, type(message), message.SerializeToString()) for name, message in messages.items()
        ]
        self.size = sum(len(data) for _, _, data in self._messages)

    def messages(self) -> Mapping[str, Message]:
        """Return what `document` takes."""
        return {name: kind.FromString(data) for name, kind, data in self._messages}


def _adjusting(
    adjustment: Adjustment, tell: Callable[..., Any] | None, pod: Pod, container: Container
) -> Adjustment:
    if tell is not None:
        tell(pod, container)
    return adjustment


def _recorded(output: Output, start: float, sender: Role, data: bytes) -> None:
    piece = Piece(sender, data, time.monotonic() - start)
    output.enqueue(lambda: recording.encode(piece) + "\n", len(data))


def _as_ours(given: Mapping[str, Value]) -> dict[str, Value]:
    """Move the keys of the Go logger's drop-in file to where ours are."""
    go = {_GO_KEYS[key]: value for key, value in given.items() if key in _GO_KEYS}
    rest = {key: value for key, value in given.items() if key not in _GO_KEYS}
    return rest | {"logger": go} if go and "logger" not in rest else dict(given)


def _parameters() -> Sequence[Any]:
    import click

    from nri_inject.service.options import FILE, option

    return [
        option(
            "--events",
            multiple=True,
            metavar="WORDS",
            help="Events, separated by commas: all, pod, container, or names; default: all.",
        ),
        option("--format", type=click.Choice(["yaml", "json"]), help="Default: yaml."),
        option(
            "--namespace",
            "namespaces",
            multiple=True,
            metavar="PATTERN",
            help="Only pods of these namespaces; patterns with * and ?. Repeatable.",
        ),
        option(
            "--pod",
            "pods",
            multiple=True,
            metavar="PATTERN",
            help="Only pods with these names. Repeatable.",
        ),
        option("--log-file", type=FILE, help="Append to FILE; default: standard output."),
        option("--record", type=FILE, help="Also write the bytes of the connection to FILE."),
        option("--add-annotation", metavar="KEY", help="Add this annotation to containers."),
        option(
            "--set-annotation",
            metavar="KEY",
            help="The same, and replace the value of other plugins.",
        ),
        option("--add-env", metavar="NAME", help="Add this variable to containers."),
        option(
            "--set-env", metavar="NAME", help="The same, and replace the value of other plugins."
        ),
    ]


main: Final = Command(
    name="logger",
    idx="90",
    service=Logger,
    parameters=_parameters,
    help="Log the events that the runtime sends to plugins.",
    example="nri-logger --events pod,CreateContainer --namespace 'team-*' --format json",
)
