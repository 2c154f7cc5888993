"""`nri-inject try`: create the containers of some manifests on the embedded runtime side.

The plugins are real: child processes, launched as a runtime launches pre-installed ones.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from google.protobuf import json_format
from google.protobuf.message import Message

from nri_inject import api, capabilities
from nri_inject.cli.decisions import Decider, explained, read_policy
from nri_inject.cli.reading import planned_in, reason
from nri_inject.errors import ConfigError, NriError
from nri_inject.injectors import cdi, device
from nri_inject.plugins import (
    cdi_injector,
    device_injector,
    hook_injector,
    policy_validator,
    resource_assigner,
    suite,
)
from nri_inject.runtime import discovery
from nri_inject.runtime.adaptation import Adaptation
from nri_inject.runtime.launcher import TRIED, launch, launch_as
from nri_inject.runtime.manifests import Planned
from nri_inject.runtime.peer import Peer
from nri_inject.runtime.world import Made, World
from nri_inject.service import config, logs
from nri_inject.service.base import Options
from nri_inject.service.command import FAILED, MISUSED
from nri_inject.service.environment import InjectorSpec
from nri_inject.text import yamltext
from nri_inject.text.annotations import container_name, find, where
from nri_inject.text.names import is_plugin_index
from nri_inject.text.words import plain, quoted
from nri_inject.text.yamltext import Value

_M = TypeVar("_M", bound=Message)

SUITE: Final = "nri-inject"
PARTS: Final[Mapping[str, Sequence[InjectorSpec]]] = {
    SUITE: suite.PARTS,
    "device-injector": (device_injector.PART,),
    "cdi-injector": (cdi_injector.PART,),
    "hook-injector": (hook_injector.PART,),
}
"""What each injector of the suite is made of."""

PLUGINS: Final[Mapping[str, str]] = {
    plugin.main.name: plugin.main.idx
    for plugin in (
        suite,
        device_injector,
        cdi_injector,
        hook_injector,
        resource_assigner,
        policy_validator,
    )
}
"""The plugins of the suite, and the index that each is launched with."""


@dataclass(slots=True)
class Outcome:
    """What became of one container: what the plugins want changed, or why it fails.

    `updates` are those of other containers, `life` sentences on what happened after creation.
    """

    planned: Planned
    made: Made | None
    error: str = ""
    updates: list[api.ContainerUpdate] = dataclasses.field(default_factory=list)
    life: list[str] = dataclasses.field(default_factory=list)

    @property
    def pod(self) -> str:
        """Namespace and name."""
        return f"{self.planned.pod.namespace}/{self.planned.pod.name}"

    @property
    def container(self) -> str:
        """Name of the container."""
        return container_name(self.planned.container)


@click.command(
    "try",
    epilog="Example: nri-inject try --plugin device-injector --runtime containerd/1.7.24 pod.yaml",
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="NAME",
    help=f"A plugin of the suite ({', '.join(PLUGINS)}), or the path of any plugin's executable,"
    f" NN-name. The suite, {SUITE}, unless given.",
)
@click.option("--idx", metavar="NN", help="Index to launch the one plugin with.")
@click.option("--name", metavar="NAME", help="Name to launch the one plugin with.")
@click.option("--config", "config_file", metavar="FILE", help="The plugins' configuration (YAML).")
@click.option("--policy", metavar="FILE", help="Policy file (YAML), or the word unrestricted.")
@click.option("--cdi-dir", "cdi_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--hooks-dir", "hooks_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--unsafe-files", is_flag=True, help="Skip the check of owners and modes of files.")
@click.option(
    "--runtime", metavar="NAME/VERSION", help="Runtime and version to imitate; default: the newest."
)
@click.option(
    "--life", "lives", is_flag=True, help="Also start, stop and remove the containers and pods."
)
@click.option("--requests", metavar="FILE", help="CreateContainerRequests, a JSON line each.")
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "json"]),
    default="text",
    help="text for people, json (a line for each container) for programs.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("-v", "--verbose", count=True, help="Show the plugins' logs.")
@click.option("-q", "--quiet", is_flag=True, help="Show errors only.")
@click.argument("pods", nargs=-1, metavar="[POD.yaml]...")
def command(
    *,
    plugins: tuple[str, ...],
    requests: str | None,
    runtime: str | None,
    lives: bool,
    output: str,
    pods: tuple[str, ...],
    **flags: Any,
) -> int:
    """Show what the containers of pods would get, without a cluster.

    Starts the plugins the way a runtime does and creates every container of the manifests.
    Nothing on the host is changed. Ends with status 1 if a container would fail, and with
    status 2 if nothing was tried: a plugin does not start, or a file cannot be read.
    """
    if not pods and requests is None:
        raise click.UsageError("a manifest is expected, or a file of requests with --requests")
    if (flags["idx"] or flags["name"]) and len(plugins) != 1:
        raise click.UsageError("--idx and --name need exactly one --plugin")
    if flags["idx"] and not is_plugin_index(flags["idx"]):
        raise click.UsageError(f"--idx {quoted(flags['idx'])}: two digits expected, as in 10")
    logs.configure(flags["log_format"], logs.USUAL - 1 + flags["verbose"] - flags["quiet"])
    try:
        planned = [*_requested(requests), *planned_in(pods)]
        text = _configuration(flags)
        with Adaptation(_runtime(runtime)) as adaptation:
            for plugin in plugins or (SUITE,):
                _add(adaptation, plugin, flags, text)
            outcomes = _create(adaptation, planned, lives=lives)
            if output == "json":
                return _show(outcomes, lambda one: [json.dumps(_as_json(one))], adaptation)
            with closing(_explainer(plugins or (SUITE,), text, adaptation)) as explainer:
                return _show(outcomes, partial(_as_text, explainer), adaptation)
    except NriError as error:  # of a container it is an outcome
        click.echo(f"Error: {error}", err=True)
        return MISUSED


def _add(adaptation: Adaptation, plugin: str, flags: Mapping[str, Any], text: str) -> None:
    try:
        adaptation.add(_launched(plugin, flags), text)
    except ConfigError:
        raise
    except NriError as error:
        if adaptation.runtime.nri >= (0, 7, 0):
            raise
        name = f"{adaptation.runtime.name} {adaptation.runtime.version}"
        raise NriError(
            f"{error.reason}; {name} would stop, since it requires the plugin"
        ) from error


class _World(World):
    """A world that remembers which updates plugins wanted."""

    def __init__(self, adaptation: Adaptation) -> None:
        super().__init__(adaptation)
        self.updates: list[api.ContainerUpdate] = []

    def update(self, updates: Sequence[api.ContainerUpdate]) -> list[api.ContainerUpdate]:
        """Make updates, and remember them."""
        self.updates.extend(updates)
        return super().update(updates)


def _create(
    adaptation: Adaptation, planned: Iterable[Planned], *, lives: bool
) -> Iterator[Outcome]:
    """Run every pod and create its containers; with `lives`, lead them through their life."""
    world = _World(adaptation)
    for group in _by_pod(planned):
        ids = {one.container.id for one in group}
        if group[0].pod.id in world.pods or ids & world.containers.keys():
            world = _World(adaptation)  # the ids belong to an earlier run
        outcomes = _created(world, group)
        if lives:
            outcomes = iter(_lived(world, group[0].pod.id, list(outcomes)))
        yield from outcomes


def _by_pod(planned: Iterable[Planned]) -> Iterator[list[Planned]]:
    """Put the containers together that follow each other in one pod."""
    group: list[Planned] = []
    for one in planned:
        ids = {each.container.id for each in group}
        if group and (one.pod != group[0].pod or one.container.id in ids):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _created(world: _World, group: list[Planned]) -> Iterator[Outcome]:
    adaptation = world.adaptation
    before = len(adaptation.dropped), len(adaptation.passed)
    try:
        world.run_pod(group[0].pod)
    except NriError as error:
        yield from (Outcome(one, None, f"RunPodSandbox: {error.reason}") for one in group)
        return
    for one in group:
        container = api.copy_of(one.container)
        container.pod_sandbox_id = one.pod.id
        outcome = _outcome(world, one, container)
        silent = adaptation.dropped[before[0] :] + adaptation.passed[before[1] :]
        if silent and outcome.made is not None:
            outcome.made = None
            outcome.error = f"{'; '.join(silent)}; a runtime would create the container without it"
        before = len(adaptation.dropped), len(adaptation.passed)
        yield outcome


def _outcome(world: _World, planned: Planned, container: api.Container) -> Outcome:
    try:
        made = world.create(container)
    except NriError as error:
        return Outcome(planned, None, error.reason)
    return Outcome(planned, made, updates=list(made.created.merged.updates))


def _lived(world: _World, pod_id: str, outcomes: list[Outcome]) -> list[Outcome]:
    """Start, stop and remove what was created, and then the pod."""
    alive = [one for one in outcomes if one.planned.container.id in world.containers]
    for name, step in (("start", world.start), ("stop", world.stop), ("remove", world.remove)):
        for outcome in alive:
            _step(world, outcome, name, step, outcome.planned.container.id)
    for outcome in alive:
        outcome.life.insert(0, "start, stop, remove")
    if pod_id in world.pods:
        _step(world, outcomes[-1], "stop pod", world.stop_pod, pod_id)
        _step(world, outcomes[-1], "remove pod", world.remove_pod, pod_id)
    return outcomes


def _step(
    world: _World, outcome: Outcome, name: str, step: Callable[[str], None], target: str
) -> None:
    """Take one step, and note in the outcome what a person would want to know of it."""
    before = len(world.faults), len(world.adaptation.dropped), len(world.updates)
    try:
        step(target)
    except NriError as error:
        outcome.made, outcome.error = None, outcome.error or f"{name}: {error.reason}"
    faults, dropped = world.faults[before[0] :], world.adaptation.dropped[before[1] :]
    updates = world.updates[before[2] :]
    outcome.updates.extend(updates)
    outcome.life.extend(f"{name}: {fault}; a runtime would only log that" for fault in faults)
    outcome.life.extend(f"{name}: {lost}; it is not called again" for lost in dropped)
    outcome.life.extend(f"{name}: updates {json.dumps(_update(each))}" for each in updates)


def _update(update: api.ContainerUpdate) -> dict[str, Any]:
    return json_format.MessageToDict(_without_empty(update))


def _show(
    outcomes: Iterable[Outcome],
    shown: Callable[[Outcome], Iterable[str]],
    adaptation: Adaptation,
) -> int:
    failed = False
    for outcome in outcomes:
        failed |= outcome.made is None
        for line in shown(outcome):
            click.echo(line)
    return FAILED if failed or adaptation.dropped else 0


def _as_json(outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {"pod": outcome.pod, "container": outcome.container}
    if outcome.made is None:
        return line | {"error": outcome.error}
    asked = _without_empty(outcome.made.adjust)
    for lost in outcome.made.created.lost:  # what plugins want, also where this runtime drops it
        asked.MergeFrom(lost.part)
    return line | {
        "adjust": json_format.MessageToDict(asked),
        "update": [_update(each) for each in outcome.updates],
    }


def _without_empty(message: _M) -> _M:
    """Leave out the empty messages with which the reference's merging always begins."""
    result = api.copy_of(message)
    _prune(result)
    return result


def _prune(message: Any) -> None:
    for field, value in message.ListFields():
        if field.message_type is not None and hasattr(value, "ListFields"):
            _prune(value)
            if not value.ListFields() and field.message_type.name in _OFTEN_EMPTY:
                message.ClearField(field.name)


# Others mean something when they are empty: an I/O priority of class NONE is all zeros.
_OFTEN_EMPTY: Final = {
    "Hooks",
    "LinuxCPU",
    "LinuxContainerAdjustment",
    "LinuxContainerUpdate",
    "LinuxMemory",
    "LinuxRdt",
    "LinuxResources",
}


def _as_text(explainer: _Explainer, outcome: Outcome) -> Iterator[str]:
    """Yield a container's requests, the injections by plugin, and the changes in its spec."""
    yield where(outcome.planned.pod, outcome.planned.container)
    for key, value in _asked(outcome.planned):
        yield f"  asks   {key}: {value}"
    if outcome.made is None:
        yield f"  fails  {logs.one_line(outcome.error)}"
    else:
        yield from _given(outcome.planned, outcome.made, explainer)
    for sentence in outcome.life:
        yield f"  life   {logs.one_line(sentence)}"


def _given(planned: Planned, made: Made, explainer: _Explainer) -> Iterator[str]:
    """Yield the injections with plugin and rule, lost fields, and changes in the spec."""
    owners = made.created.owners.owners.get(planned.container.id)
    if owners is None or not _without_empty(made.adjust).ByteSize():
        yield "  gets   nothing"
    else:
        for line, plugin in _owned(owners):
            yield f"  gets   {line} from {plugin}"
        for line in explainer.reasons(planned):
            yield f"  policy {line}"
    for lost in made.created.lost:
        yield f"  lost   {lost.loss.field} from {lost.plugin}, dropped without an error"
    for line in _difference(made.before, made.spec, ""):
        yield f"  OCI    {line}"


class _Explainer:
    """Tell which rules of the policy let the suite's injectors give what they give.

    Without a decider there is none of them, or nothing is restricted: `always` says that.
    """

    def __init__(self, decider: Decider | None, always: Sequence[str] = ()) -> None:
        self._decider = decider
        self._always = always

    def reasons(self, planned: Planned) -> Sequence[str]:
        """Return a line for each decision."""
        if self._decider is None:
            return self._always
        decided = self._decider.decide(planned.pod, planned.container)
        return [explained(decision) for decision in decided.decisions]

    def close(self) -> None:
        """Stop watching files."""
        if self._decider is not None:
            self._decider.close()


def _explainer(plugins: Iterable[str], text: str, adaptation: Adaptation) -> _Explainer:
    configured = config.read(text, "configuration")
    parts = [part for plugin in plugins for part in PARTS.get(plugin, ())]
    if configured.policy == config.UNRESTRICTED or not parts:
        return _Explainer(None, [config.UNRESTRICTED] if parts else [])
    options = Options(idx=PLUGINS[SUITE], name=SUITE)
    quiet = dataclasses.replace(configured, audit="off")
    return _Explainer(Decider(parts, options, quiet, adaptation.runtime))


def _asked(planned: Planned) -> Iterator[tuple[str, str]]:
    """Yield the annotations that count for this container, each value on one line."""
    prefixes = [(kind.prefix, kind.old_prefix) for kind in device.KINDS]
    prefixes.append((cdi.PREFIX, cdi.OLD_PREFIX))
    name = container_name(planned.container)
    for prefix, old_prefix in prefixes:
        found = find(planned.pod.annotations, prefix, old_prefix, name)
        if found is not None:
            key, text = found
            yield plain(key), _on_one_line(text)


def _on_one_line(text: str) -> str:
    try:
        return json.dumps(yamltext.load(text))
    except yamltext.YamlError:
        return quoted(text)


def _owned(owners: api.FieldOwners) -> Iterator[tuple[str, str]]:
    """Yield every field and key that a plugin has set, and the plugin's name."""
    for field, plugin in sorted(owners.simple.items()):
        yield _FIELD_NAMES[field], plugin
    for field, compound in sorted(owners.compound.items()):
        for key, plugin in sorted(compound.owners.items()):
            yield f"{_FIELD_NAMES[field]} {plain(key)}", plugin


_FIELD_NAMES: Final = {value: name for name, value in api.Field.items()}


def _difference(before: Any, after: Any, place: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            inside = f"{place}.{key}" if place else key
            yield from _difference(before.get(key), after.get(key), inside)
        return
    # Lists are compared without order: runtimes sort the mounts whenever one is added.
    old, new = ([] if value is None else _listed(value) for value in (before, after))
    yield from (f"- {place} {json.dumps(item)}" for item in old if item not in new)
    yield from (f"+ {place} {json.dumps(item)}" for item in new if item not in old)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _launched(plugin: str, flags: Mapping[str, Any]) -> Peer:
    log = bool(flags["verbose"])
    if "/" in plugin and not (flags["idx"] or flags["name"]):
        try:
            discovery.identity(plugin)
        except NriError as error:
            raise ConfigError(f"{error}; or set --idx and --name") from error
        return launch(Path(plugin).absolute(), log=log, environment=TRIED)
    index, name, executable = PLUGINS.get(plugin, "10"), plugin, Path(plugin).absolute()
    if "/" not in plugin:
        executable = _of_suite(plugin)
    index, name = flags["idx"] or index, flags["name"] or name
    return launch_as(executable, index, name, log=log, environment=TRIED)


def _of_suite(plugin: str) -> Path:
    if plugin not in PLUGINS:
        raise ConfigError(
            f"plugin {plugin!r} is not in the suite ({', '.join(PLUGINS)});"
            " for an executable write a path, as in ./10-name"
        )
    # Beside our interpreter, where pip puts it; the environment of a launched plugin has no PATH.
    name = plugin if plugin == SUITE else f"nri-{plugin}"
    executable = Path(sys.executable).with_name(name)
    if not os.access(executable, os.X_OK):
        raise ConfigError(f"{executable} is missing; was the package installed with pip?")
    return executable


def _configuration(flags: Mapping[str, Any]) -> str:
    """Return the drop-in text: the file's, with what the command line says in it.

    That is how a launched plugin is configured; it has no arguments.
    """
    file = flags["config_file"]
    document = (
        {}
        if file is None
        else config.read_document(config.read_bytes(file, unsafe=flags["unsafe_files"]), file)
    )
    if flags["policy"] is not None:
        document["policy"] = _policy(flags["policy"], unsafe=flags["unsafe_files"])
    config.checked(document, file or "configuration")
    if flags["unsafe_files"]:
        document["unsafe_files"] = True
    for section, directories in (("cdi", flags["cdi_dirs"]), ("hooks", flags["hooks_dirs"])):
        if directories:
            absolute: Value = [str(Path(directory).absolute()) for directory in directories]
            before = document.get(section)
            document[section] = {**(before if isinstance(before, dict) else {}), "dirs": absolute}
    return json.dumps(document)  # JSON is YAML


def _policy(text: str, *, unsafe: bool) -> Value:
    policy = config.policy_of(text)
    if not isinstance(policy, config.NodeFile):
        return policy
    read_policy(policy.path, unsafe=unsafe)
    return {"file": str(Path(policy.path).absolute())}


def _runtime(text: str | None) -> capabilities.Runtime:
    if text is None:
        return capabilities.Runtime("nri-inject", "try", capabilities.NEWEST.nri)
    return capabilities.named(text, "--runtime")


def _requested(file: str | None) -> Iterator[Planned]:
    if file is None:
        return
    try:
        with Path(file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _request(line, f"{file}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read requests {file}: {reason(error)}") from error


def _request(line: str, place: str) -> Planned:
    try:
        request = json_format.Parse(line, api.CreateContainerRequest())
    # An old protobuf lets the RecursionError of deeply nested JSON through.
    except (json_format.ParseError, RecursionError) as error:
        raise ConfigError(
            f"{place}: not a CreateContainerRequest in protobuf JSON: {reason(error)}"
        ) from error
    return Planned(request.pod, request.container)
