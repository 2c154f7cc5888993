"""`nri-inject try`: create the containers of some manifests on the embedded runtime side.

The plugins are real: child processes, launched as a runtime launches pre-installed ones.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import click
from google.protobuf import json_format

from nri_inject import api, capabilities
from nri_inject.capabilities import Runtime
from nri_inject.cli.decisions import Decider
from nri_inject.cli.here import Here, NodeOptions, document_of, look_here, node_options, show_here
from nri_inject.cli.outcomes import Explainer, as_json, as_text, hide_marks
from nri_inject.cli.reading import Warn, planned_in, reason
from nri_inject.cli.unread import Unreads
from nri_inject.errors import ConfigError, NriError
from nri_inject.injectors.host import ignore_warning
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
from nri_inject.runtime.trial import Outcome, as_reported, create
from nri_inject.service import config, logs, terminal
from nri_inject.service.base import Options
from nri_inject.service.command import FAILED
from nri_inject.service.config import Config
from nri_inject.service.environment import InjectorSpec
from nri_inject.service.options import FILE, POD, Helped
from nri_inject.text.annotations import where
from nri_inject.text.names import is_plugin_index
from nri_inject.text.words import meant, plain, quoted

SUITE: Final = "nri-inject"
PARTS_OF_PLUGIN: Final[Mapping[str, Sequence[InjectorSpec]]] = {
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


@click.command(
    "try",
    cls=Helped,
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
@node_options("Policy file (YAML), or the word unrestricted.")
@click.option(
    "--runtime", metavar="NAME/VERSION", help="The runtime to be: the node's, else the newest."
)
@click.option(
    "--life", "lives", is_flag=True, help="Also start, stop and remove the containers and pods."
)
@click.option("--requests", type=FILE, help="CreateContainerRequests, a JSON line each.")
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
@click.argument("pods", nargs=-1, type=POD)
def command(
    *,
    plugins: tuple[str, ...],
    idx: str | None,
    name: str | None,
    node: NodeOptions,
    runtime: str | None,
    lives: bool,
    requests: str | None,
    output: str,
    log_format: logs.LogFormat,
    verbose: int,
    quiet: bool,
    pods: tuple[str, ...],
) -> int:
    """Show what the containers of pods would get, without a cluster.

    Starts the plugins as a runtime does and creates every container of the manifests. Changes
    nothing on the host. The defaults are the node's own configuration, policy and runtime. Ends
    with status 1 if a container would fail, if no plugin reads one of its annotations, or if the
    policy or the configuration has a fault; with status 2 if nothing was tried: a plugin does not
    start, or a file cannot be read or has no pod.
    """
    if not pods and requests is None:
        raise click.UsageError("a manifest is expected, or a file of requests with --requests")
    if (idx or name) and len(plugins) != 1:
        raise click.UsageError("--idx and --name need exactly one --plugin")
    if idx and not is_plugin_index(idx):
        raise click.UsageError(f"--idx {quoted(idx)}: two digits expected, as in 10")
    logs.configure(log_format, logs.USUAL - 1 + verbose - quiet)
    warn = ignore_warning if quiet else terminal.show_warning
    plugins = plugins or (SUITE,)
    planned = [*_requested(requests), *planned_in(pods)]
    here = look_here(node.root)
    document = document_of(here, node, warn)
    with Adaptation(_runtime(runtime, here)) as adaptation:
        show_here(here, document, adaptation.runtime, quiet=quiet)
        for plugin in plugins:
            with terminal.progress(f"starting {plain(plugin)}"):
                launched = partial(_launched, plugin, idx, name, log=verbose > 0)
                _add(adaptation, launched, json.dumps(document))  # JSON is YAML
        reported = [as_reported(one, adaptation.runtime) for one in planned]
        outcomes = map(hide_marks, create(adaptation, reported, lives=lives))
        configured = config.checked(document, "configuration")
        with closing(_explainer(plugins, configured, adaptation.runtime)) as explainer:
            return _show(outcomes, explainer, adaptation, output, warn)


def _show(
    outcomes: Iterable[Outcome],
    explainer: Explainer,
    adaptation: Adaptation,
    output: str,
    warn: Warn,
) -> int:
    failed = False
    for outcome in outcomes:
        failed |= outcome.made is None
        if output == "json":
            click.echo(json.dumps(as_json(outcome)))
            for sentence in explainer.warnings(outcome.planned):
                warn(f"{where(outcome.planned.pod, outcome.planned.container)}: {sentence}")
        else:
            for line in as_text(explainer, outcome):
                terminal.show_line(line)
    return FAILED if failed or adaptation.dropped or explainer.found_wrong else 0


def _add(adaptation: Adaptation, launched: Callable[[], Peer], text: str) -> None:
    try:
        adaptation.add(launched(), text)
    except ConfigError:
        raise
    except NriError as error:
        if adaptation.runtime.nri >= (0, 7, 0):
            raise
        name = f"{adaptation.runtime.name} {adaptation.runtime.version}"
        raise NriError(
            f"{error.reason}; {name} would stop, since it requires the plugin"
        ) from error


def _explainer(plugins: Iterable[str], configured: Config, runtime: Runtime) -> Explainer:
    """Return what explains the outcomes of our injectors among the plugins."""
    parts = [part for plugin in plugins for part in PARTS_OF_PLUGIN.get(plugin, ())]
    if not parts:
        return Explainer(None, None)
    options = Options(idx=PLUGINS[SUITE], name=SUITE)
    quiet = dataclasses.replace(configured, audit="off")
    unreads = Unreads(configured.annotations.adopted)
    is_open = configured.policy == config.UNRESTRICTED
    logging.disable(logging.WARNING)  # of what the plugin logs itself, and the answer has
    try:
        decider = Decider(parts, options, quiet, runtime)
    finally:
        logging.disable(logging.NOTSET)
    return Explainer(decider, unreads, [config.UNRESTRICTED] if is_open else [])


def _launched(plugin: str, idx: str | None, name: str | None, *, log: bool) -> Peer:
    log = log or "/" in plugin  # an author's own, whose tracebacks matter
    if "/" in plugin and not (idx or name):
        try:
            discovery.identity(plugin)
        except NriError as error:
            raise ConfigError(f"{error}; or set --idx and --name") from error
        return launch(Path(plugin).absolute(), log=log, environment=_environment(plugin))
    executable = Path(plugin).absolute() if "/" in plugin else _of_suite(plugin)
    index = idx or PLUGINS.get(plugin, "10")
    environment = _environment(executable)
    return launch_as(executable, index, name or plugin, log=log, environment=environment)


def _environment(executable: str | Path) -> Mapping[str, str]:
    """Return the variables of a plugin; a script that looks for its interpreter gets our PATH."""
    try:
        with Path(executable).open("rb") as file:
            looks = file.read(len(_LOOKS)) == _LOOKS
    except OSError:  # which the start of the plugin reports
        looks = False
    if not looks:
        return TRIED
    terminal.show_warning(
        f"plugin {executable}: its first line looks for the interpreter on PATH, which a runtime"
        " does not set; write an absolute path there before a runtime launches it, as in"
        f" #!{sys.executable}"
    )
    return {**TRIED, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}


_LOOKS: Final = b"#!/usr/bin/env "


def _of_suite(plugin: str) -> Path:
    if plugin not in PLUGINS:
        near = meant(plugin, [*PLUGINS])
        hint = "for an executable write a path, as in ./10-name"
        raise ConfigError(
            f"plugin {quoted(plugin)} is not in the suite ({', '.join(PLUGINS)});"
            f" {f'did you mean {near!r}?' if near else hint}"
        )
    # Beside our interpreter, where pip puts it; the environment of a launched plugin has no PATH.
    name = plugin if plugin == SUITE else f"nri-{plugin}"
    executable = Path(sys.executable).with_name(name)
    if not os.access(executable, os.X_OK):
        raise ConfigError(f"{executable} is missing; was the package installed with pip?")
    return executable


def _runtime(text: str | None, here: Here) -> Runtime:
    """Return the runtime to be: the one that is asked for, the node's, or the newest."""
    if text is not None:
        return capabilities.named(text, "--runtime")
    return here.runtime or Runtime("nri-inject", "try", capabilities.NEWEST.nri)


def _requested(file: str | None) -> Iterator[Planned]:
    if file is None:
        return
    count = 0
    try:
        with Path(file).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    count += 1
                    yield _request(line, f"{file}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read requests {file}: {reason(error)}") from error
    if not count:
        raise ConfigError(f"{file} has no request")


def _request(line: str, place: str) -> Planned:
    try:
        request = json_format.Parse(line, api.CreateContainerRequest())
    # An old protobuf lets the RecursionError of deeply nested JSON through.
    except (json_format.ParseError, RecursionError) as error:
        raise ConfigError(
            f"{place}: not a CreateContainerRequest in protobuf JSON: {reason(error)}"
        ) from error
    return Planned(request.pod, request.container)
