"""`nri-inject try`: create the containers of some manifests on the embedded runtime side.

The plugins are real: child processes, launched as a runtime launches pre-installed ones.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from google.protobuf import json_format

from nri_inject import api, config, logs, runtimes, yamltext
from nri_inject.annotations import container_name, find, plain, quoted, where
from nri_inject.command import FAILED, MISUSED
from nri_inject.errors import ConfigError, NriError, RemoteError
from nri_inject.runtime import manifests
from nri_inject.runtime.adaptation import Adaptation, Created
from nri_inject.runtime.apply import apply
from nri_inject.runtime.manifests import Planned
from nri_inject.runtime.peer import Peer, launch, launch_as
from nri_inject.yamltext import Value

PLUGINS: Final = {"device-injector": "10", "cdi-injector": "20", "hook-injector": "30"}
"""The plugins of the suite, and the index that each is launched with."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one container: what the plugins want changed, or why it fails."""

    planned: Planned
    created: Created | None
    error: str = ""

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
    " NN-name. All of the suite unless given.",
)
@click.option("--idx", metavar="NN", help="Index to launch the one plugin with.")
@click.option("--name", metavar="NAME", help="Name to launch the one plugin with.")
@click.option("--config", "config_file", metavar="FILE", help="The plugins' configuration (YAML).")
@click.option("--policy", metavar="FILE", help="Who may inject what; the word unrestricted.")
@click.option("--cdi-dir", "cdi_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--hooks-dir", "hooks_dirs", multiple=True, metavar="DIR", help="As for the plugins.")
@click.option("--unsafe-files", is_flag=True, help="Do not ask who could have written the files.")
@click.option(
    "--runtime", metavar="NAME/VERSION", help="The runtime to be, the newest unless given."
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
    output: str,
    pods: tuple[str, ...],
    **flags: Any,
) -> int:
    """Show what would happen to the containers of pods, without a cluster.

    Starts the plugins the way a runtime does and creates every container of the manifests.
    Nothing on the host is changed. Ends with status 1 if a container would fail.
    """
    if not pods and requests is None:
        raise click.UsageError("name a manifest, or a file of requests with --requests")
    if (flags["idx"] or flags["name"]) and len(plugins) != 1:
        raise click.UsageError("--idx and --name go with one --plugin")
    logs.configure(flags["log_format"], logs.USUAL - 1 + flags["verbose"] - flags["quiet"])
    try:
        planned = [*_requested(requests), *_manifests(pods)]
        text = _configuration(flags)
        with Adaptation(_runtime(runtime)) as adaptation:
            for plugin in plugins or PLUGINS:
                adaptation.add(_launched(plugin, flags), text)
            return _show(_create(adaptation, planned), output, adaptation)
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        return MISUSED
    except NriError as error:
        click.echo(f"Error: {error}", err=True)
        return FAILED


def _create(adaptation: Adaptation, planned: Iterable[Planned]) -> Iterator[Outcome]:
    for one in planned:
        dropped = len(adaptation.dropped)
        try:
            created = adaptation.create_container(one.pod, one.container)
            apply(manifests.oci_spec(one.container), created.merged.adjust)
        except NriError as error:
            yield Outcome(
                one, None, error.message if isinstance(error, RemoteError) else str(error)
            )
            continue
        if len(adaptation.dropped) > dropped:
            lost = "; ".join(adaptation.dropped[dropped:])
            yield Outcome(one, None, f"{lost}; a runtime would create the container without it")
        else:
            yield Outcome(one, created)


def _show(outcomes: Iterable[Outcome], output: str, adaptation: Adaptation) -> int:
    failed = False
    for outcome in outcomes:
        failed |= outcome.created is None
        lines = [json.dumps(_as_json(outcome))] if output == "json" else _as_text(outcome)
        for line in lines:
            click.echo(line)
    return FAILED if failed or adaptation.dropped else 0


def _as_json(outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {"pod": outcome.pod, "container": outcome.container}
    if outcome.created is None:
        return line | {"error": outcome.error}
    merged = outcome.created.merged
    return line | {
        "adjust": json_format.MessageToDict(_without_empty(merged.adjust)),
        "update": [json_format.MessageToDict(update) for update in merged.updates],
    }


def _without_empty(adjust: api.Adjustment) -> api.Adjustment:
    """Leave out the empty messages with which the reference's merging always begins."""
    result = api.Adjustment()
    result.CopyFrom(adjust)
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
    "LinuxMemory",
    "LinuxRdt",
    "LinuxResources",
}


def _as_text(outcome: Outcome) -> Iterator[str]:
    """Yield what the container asked for, what it gets and from whom, and what that changes."""
    yield where(outcome.planned.pod, outcome.planned.container)
    for key, value in _asked(outcome.planned):
        yield f"  asks   {key}: {value}"
    if outcome.created is None:
        yield f"  fails  {logs.one_line(outcome.error)}"
        return
    adjust = _without_empty(outcome.created.merged.adjust)
    owners = outcome.created.owners.owners.get(outcome.planned.container.id)
    if owners is None or not adjust.ByteSize():
        yield "  gets   nothing"
        return
    for line in _owned(owners):
        yield f"  gets   {line}, allowed since nothing is restricted"
    for line in _changes(outcome.planned.container, adjust):
        yield f"  OCI    {line}"


def _asked(planned: Planned) -> Iterator[tuple[str, str]]:
    """Yield the annotations that count for this container, each value on one line."""
    from nri_inject.plugins import cdi_injector
    from nri_inject.plugins.device_injector import KINDS

    prefixes = [(kind.prefix, kind.old_prefix) for kind in KINDS]
    prefixes.append((cdi_injector.PREFIX, cdi_injector.OLD_PREFIX))
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


def _owned(owners: api.FieldOwners) -> Iterator[str]:
    """Yield every field and key that a plugin has set, with the plugin's name."""
    for field, plugin in sorted(owners.simple.items()):
        yield f"{_FIELD_NAMES[field]} from {plugin}"
    for field, compound in sorted(owners.compound.items()):
        for key, plugin in sorted(compound.owners.items()):
            yield f"{_FIELD_NAMES[field]} {plain(key)} from {plugin}"


_FIELD_NAMES: Final = {value: name for name, value in api.Field.items()}


def _changes(container: api.Container, adjust: api.Adjustment) -> Iterator[str]:
    """Yield what changes in the container's OCI spec: + for what comes, - for what goes."""
    before = manifests.oci_spec(container)
    yield from _difference(before, apply(before, adjust), "")


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
        return launch(Path(plugin).absolute(), log=log)
    index, name, executable = PLUGINS.get(plugin, "10"), plugin, Path(plugin).absolute()
    if "/" not in plugin:
        executable = _of_suite(plugin)
    return launch_as(executable, flags["idx"] or index, flags["name"] or name, log=log)


def _of_suite(plugin: str) -> Path:
    if plugin not in PLUGINS:
        raise ConfigError(
            f"plugin {plugin!r} is none of the suite ({', '.join(PLUGINS)});"
            " for an executable give a path, as in ./10-name"
        )
    # Beside our interpreter, where pip puts it; the environment of a launched plugin has no PATH.
    executable = Path(sys.executable).with_name(f"nri-{plugin}")
    if not os.access(executable, os.X_OK):
        raise ConfigError(f"{executable} is missing; was the package installed with pip?")
    return executable


def _configuration(flags: Mapping[str, Any]) -> str:
    """Return the drop-in text: the file's, with what the command line says in it.

    That is how a launched plugin is configured; it has no arguments.
    """
    file = flags["config_file"]
    document = {} if file is None else config.read_document(config.read_bytes(file), file)
    if flags["policy"] is not None:
        config.checked({"policy": flags["policy"]}, "--policy")
        document["policy"] = flags["policy"]
    config.checked(document, file or "configuration")
    if flags["unsafe_files"]:
        document["unsafe_files"] = True
    for section, directories in (("cdi", flags["cdi_dirs"]), ("hooks", flags["hooks_dirs"])):
        if directories:
            absolute: Value = [str(Path(directory).absolute()) for directory in directories]
            before = document.get(section)
            document[section] = {**(before if isinstance(before, dict) else {}), "dirs": absolute}
    return json.dumps(document)  # JSON is YAML


def _runtime(text: str | None) -> runtimes.Runtime:
    if text is None:
        return runtimes.Runtime("nri-inject", "try", runtimes.NEWEST.nri)
    name, slash, version = text.partition("/")
    if not (name and slash and version):
        raise ConfigError(f"--runtime {text!r}: NAME/VERSION expected, as in containerd/1.7.24")
    return runtimes.identify(name, version)


def _manifests(files: Iterable[str]) -> Iterator[Planned]:
    for file in files:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read manifest {file}: {_reason(error)}") from error
        yield from manifests.read(text, file)


def _requested(file: str | None) -> Iterator[Planned]:
    if file is None:
        return
    try:
        with Path(file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _request(line, f"{file}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read requests {file}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = isinstance(error, OSError) and error.strerror
    return text or " ".join(str(error).split())


def _request(line: str, place: str) -> Planned:
    try:
        request = json_format.Parse(line, api.CreateContainerRequest())
    except json_format.ParseError as error:
        raise ConfigError(
            f"{place}: no CreateContainerRequest in protobuf JSON: {_reason(error)}"
        ) from error
    return Planned(request.pod, request.container)
