"""Show the changes of plugins to a container, from its creation request to the created one.

One process reads several places in the order of plugins, on a connection for each. It requests
nothing and changes nothing. docs/see-what-changed.md is the page for users: its limits, and the
differences from NRI's differ (NRI 0.12).
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from nri_inject.api import ConfigureRequest, Container, Pod
from nri_inject.errors import ConfigError
from nri_inject.plugin import Plugin
from nri_inject.plugins.differences import Change, differences, fields_of
from nri_inject.plugins.excerpt import large_fields
from nri_inject.service import config, logs
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.health.mark import PREFIX as MARKS
from nri_inject.service.output import STANDARD_OUTPUT, Output
from nri_inject.stub import Stub
from nri_inject.text.annotations import container_name, where
from nri_inject.text.times import timestamp
from nri_inject.text.words import plain

log = logging.getLogger(__name__)

# How far the container has come, which no plugin changes.
_PROGRESS: Final = frozenset(
    {
        *("state", "pid", "created_at", "started_at", "finished_at"),
        *("exit_code", "status_reason", "status_message"),
    }
)

# Containers on their way at one time. A runtime that does not tell that a creation has failed
# (CRI-O) would have us keep them for ever.
_MAX_CONTAINERS: Final = 1024

MAX_COMPARED: Final = 512 * 1024
"""How many bytes two looks at a container may have that are kept until they are compared."""

MAX_TRACED: Final = 32 << 20
"""How many bytes of containers on their way are kept; beyond that the oldest are forgotten."""

_COLOURS: Final = {"+": "\x1b[32m", "-": "\x1b[31m", "~": "\x1b[33m"}
_PLAIN: Final = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Step:
    """The changes of a container between two places; `before` and `after` name them.

    `untold` are fields that had values and have none at all in the created container: a runtime
    that does not report a field looks like one that has dropped it. `large` are fields that were
    too large to be compared.
    """

    seconds: float
    pod: Pod
    container: Container
    before: str
    after: str
    changes: Sequence[Change]
    untold: Sequence[str] = ()
    large: Sequence[str] = ()


def as_json(step: Step) -> str:
    """Write a step as one line."""
    return (
        json.dumps(
            {
                "time": timestamp(step.seconds),
                "pod": f"{step.pod.namespace}/{step.pod.name}",
                "container": container_name(step.container),
                "id": step.container.id,
                "from": step.before,
                "to": step.after,
                "changes": [change._asdict() for change in step.changes],
                "untold": list(step.untold),
                "large": list(step.large),
            }
        )
        + "\n"
    )


def as_text(step: Step, *, colour: bool = False) -> str:
    """Write a step for people: a line for each change."""
    lines = [f"{where(step.pod, step.container)}: from {step.before} to {step.after}"]
    for mark, words in map(_line, step.changes):
        line = f"  {mark} {words}"
        lines.append(f"{_COLOURS[mark]}{line}{_PLAIN}" if colour else line)
    lines += [f"  ? {field}: {step.after} does not report it" for field in step.untold]
    lines += [f"  ? {field}: too large to be compared" for field in step.large]
    if len(lines) == 1:
        lines.append("  no changes")
    return "\n".join(lines) + "\n"


def _line(change: Change) -> tuple[str, str]:
    name = change.field + (f"[{plain(change.key)}]" if change.key else "")
    if change.before is None:
        return "+", f"{name} {json.dumps(change.after)}"
    if change.after is None:
        return "-", f"{name} {json.dumps(change.before)}"
    return "~", f"{name} {json.dumps(change.before)} -> {json.dumps(change.after)}"


def compared(
    old: Container, new: Container, *, created: bool, large: Iterable[str] = ()
) -> tuple[list[Change], list[str]]:
    """Return the changes, and the fields that are no longer reported in the `created` container.

    `large` fields are not compared.
    """
    ignored = _PROGRESS.union(large)
    changes = [
        change
        for change in differences(old, new, ignored)
        if not (change.field == "annotations" and change.key.startswith(MARKS))
    ]
    if not created:
        return changes, []
    reported = fields_of(new, ignored)
    untold = {change.field for change in changes if change.field not in reported}
    return [change for change in changes if change.field in reported], sorted(untold)


def large_of(old: Container, new: Container) -> list[str]:
    """Return the fields of which one of two containers has too much to be compared."""
    return sorted({*large_fields(old), *large_fields(new)})


def checked_indices(words: Iterable[str]) -> list[str]:
    """Return the places in the order of plugins that words with commas name, ascending.

    ConfigError for what is no number of one or two digits, and for one that is there twice.
    """
    given = [part.strip() for word in words for part in word.split(",")]
    wrong = [part for part in given if not (part.isascii() and part.isdigit() and len(part) < 3)]
    if wrong:
        raise ConfigError(
            f"index {', '.join(map(repr, wrong))}: two digits expected, as in 00,50,99"
        )
    indices = sorted(part.zfill(2) for part in given)
    if len(set(indices)) < len(indices):
        raise ConfigError(f"indices {', '.join(indices)}: one of them is there twice")
    return indices


class Traces:
    """What was seen last of each container that is on its way, bounded; by id, not by order.

    A container is kept as bytes, since a message keeps all of its request in memory.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, bytes]] = {}
        self._size = 0

    def look(self, label: str, container: Container, *, begin: bool) -> tuple[str, bytes] | None:
        """Return the last look at a container, and remember this one in its place.

        A container that was never seen is remembered only if this may be the first look.
        """
        before = self._last.get(container.id)
        if before is not None or begin:
            self.forget(container)
            seen = container.SerializeToString()
            self._last[container.id] = label, seen
            self._size += len(seen)
            while len(self._last) > _MAX_CONTAINERS or self._size > MAX_TRACED:
                _, oldest = self._last.pop(next(iter(self._last)))
                self._size -= len(oldest)
        return before

    def forget(self, container: Container) -> None:
        """Look no further at a container that has started, or never will."""
        last = self._last.pop(container.id, None)
        if last is not None:
            self._size -= len(last[1])

    def __len__(self) -> int:
        return len(self._last)


class Differ:
    """The service: one plugin for each place in the order, and the traces they share."""

    def __init__(self, options: Options, configured: Config) -> None:
        self._options = options
        self._output = Output()
        self._traces = Traces()
        self.reconfigure(configured)
        self._indices = checked_indices(self._settings.indices)
        first, *self._others = (self._plugin(place) for place in range(len(self._indices)))
        self.plugin: Final = first

    def attach(self, stub: Stub) -> None:
        """Look at the other places, too; a launched differ has one."""
        self._output.on_reader_gone = stub.stop
        stub.watch(self._output)
        if stub.launched:
            self._indices = [self._options.idx]
            log.warning(
                "launched by the runtime, so it compares only one place, %s, with"
                " the created container; start nri-differ as a service"
                " to compare several",
                self._options.idx,
            )
            return
        for plugin in self._others:
            stub.add_plugin(plugin)

    def close(self) -> None:
        """Write what is left."""
        self._output.close()

    def configure(self, request: ConfigureRequest) -> None:
        """Take the drop-in configuration, which wins, but for the command line."""
        if request.config:
            self.reconfigure(config.read(request.config, "drop-in configuration"))

    def reconfigure(self, configured: Config) -> None:
        """Write as a configuration says from now on; the places stay what they were."""
        logs.send_to(configured.log_target)
        settings = config.with_options(configured.differ, self._options.own)
        self._output.set_path(settings.log_file)
        self._settings = settings
        self._written = self._writer()

    def _writer(self) -> Callable[[Step], str]:
        if self._settings.format == "json":
            return as_json
        on_terminal = not self._settings.log_file and os.isatty(STANDARD_OUTPUT)
        return partial(as_text, colour=on_terminal and not os.environ.get("NO_COLOR"))

    def _plugin(self, place: int) -> Plugin:
        """Return the plugin for one place; only the first one reads created containers."""
        handlers: dict[str, Callable[..., Any]] = {"create_container": partial(self._asked, place)}
        if place == 0:
            handlers |= {
                "configure": self.configure,
                "post_create_container": partial(self._look_again, "PostCreateContainer"),
                "start_container": partial(self._look_again, "StartContainer"),
                "post_start_container": self._started,
                "stop_container": self._gone,
                "remove_container": self._gone,
            }
        return Plugin(
            name=self._options.name,
            index=self._indices[place],
            failure_policy=None,  # a container does not need its line in the log
            **handlers,
        )

    def _asked(self, place: int, pod: Pod, container: Container) -> None:
        self._look(f"request at {self._indices[place]}", pod, container, begin=True)

    def _look_again(self, label: str, pod: Pod, container: Container) -> None:
        self._look(label, pod, container, begin=False)

    def _started(self, pod: Pod, container: Container) -> None:
        self._look("PostStartContainer", pod, container, begin=False)
        self._traces.forget(container)

    def _gone(self, _: Pod, container: Container) -> None:
        self._traces.forget(container)

    def _look(self, label: str, pod: Pod, container: Container, *, begin: bool) -> None:
        last = self._traces.look(label, container, begin=begin)
        if last is None:
            return
        before, old = last
        if len(old) + container.ByteSize() > MAX_COMPARED:
            log.warning(
                "%s: not compared at %s, since it has more than %d bytes",
                *(where(pod, container), label, MAX_COMPARED // 2),
            )
            return
        seen, about = container.SerializeToString(), Pod(namespace=pod.namespace, name=pod.name)
        now, written, unchanged = time.time(), self._written, self._settings.unchanged

        def render() -> str:
            new = Container.FromString(seen)
            earlier = Container.FromString(old)
            large = large_of(earlier, new)
            changes, untold = compared(earlier, new, created=not begin, large=large)
            if not (changes or untold or large or unchanged):
                return ""
            return written(Step(now, about, new, before, label, changes, untold, large))

        self._output.enqueue(render, len(old) + len(seen))


def _places(options: Options, configured: Config) -> int:
    settings = config.with_options(configured.differ, options.own)
    return len(checked_indices(settings.indices))


def _parameters() -> Sequence[Any]:
    import click

    from nri_inject.service.options import FILE, option

    return [
        option(
            "--indices",
            multiple=True,
            metavar="NN,NN",
            help="Places in the order of plugins, separated by commas; default: 00,99.",
        ),
        option("--format", type=click.Choice(["text", "json"]), help="Default: text."),
        option("--log-file", type=FILE, help="Append to FILE; default: standard output."),
        option("--unchanged", is_flag=True, help="Also show containers without changes."),
        # What the Go differ has and ours has no need of, so that its unit files keep working.
        option("--verbose-level", type=int, hidden=True, expose_value=False),
        option("--yaml", is_flag=True, hidden=True, expose_value=False),
    ]


main: Final = Command(
    name="differ",
    idx="99",
    service=Differ,
    connections=_places,
    parameters=_parameters,
    help="Show what plugins changed in containers.",
    example="nri-differ --indices 00,25,99",
)
