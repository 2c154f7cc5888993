"""`nri-inject status`: what the running plugins say of themselves; also an exec probe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

import click

from nri_inject.capabilities import FAILURE_POLICY, dotted
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.health import status
from nri_inject.service.health.state import StatusDocument, in_words, unready
from nri_inject.service.logs import one_line
from nri_inject.service.options import DIR, Helped, format_option, together

_NO_ANSWER: Final = {
    "fails": "a container fails if the plugin does not answer",
    "passes": "a container starts without the plugin if it does not answer",
    "ignored": "a container starts without the plugin if it does not answer: this runtime ignores"
    f" the failure policy, which needs NRI {dotted(FAILURE_POLICY)}",
}


plugin_options: Final = together(
    click.option(
        "--plugin", default="", metavar="NAME", help="Only plugins with this name or NN-name."
    ),
    click.option(
        "--status-dir",
        default=status.directory,
        type=DIR,
        help=f"Directory of their sockets; default: {status.DIRECTORY}. Also {status.VARIABLE}.",
    ),
)
"""The options that say which running plugins a command is about."""


@click.command(
    "status", cls=Helped, epilog="Example: nri-inject status --ready --plugin nri-inject"
)
@plugin_options
@click.option(
    "--ready",
    is_flag=True,
    help="Status 0 if all are registered and use the newest configuration and policy."
    " Prints only why one is not.",
)
@click.option("--live", is_flag=True, help="Print nothing; status 0 if all answer.")
@format_option
def command(*, plugin: str, ready: bool, live: bool, status_dir: str, output: str) -> int:
    """Show the status of the plugins on this node: registration, since when, and counts.

    Ends with status 1 if no plugin runs, or if one does not answer or is not registered.
    """
    try:
        sockets = sockets_of(status_dir, plugin)
    except OSError as error:
        terminal.show_error(f"{status_dir}: {error.strerror}")
        return FAILED
    if live:
        return 0 if sockets and all(map(status.is_alive, sockets.values())) else FAILED
    with terminal.progress("asking the plugins"):
        said = {name: status.ask(path) for name, path in sockets.items()}
    if ready:
        _show_reasons(said)
    else:
        _show(said, status_dir, output)
    all_ready = bool(said) and all(document and document["ready"] for document in said.values())
    return 0 if all_ready else FAILED


def sockets_of(where: str, plugin: str) -> dict[str, str]:
    """Return the paths of the status sockets of plugins, by their names; OSError if unreadable."""
    return {name: path for name, path in status.found(where).items() if _is_meant(name, plugin)}


def _is_meant(name: str, plugin: str) -> bool:
    title = name.rpartition(".")[0]
    return plugin in ("", title, title[3:])


def _show_reasons(said: Mapping[str, StatusDocument | None]) -> None:
    """Say why a plugin is not ready, in the words of /readyz."""
    for document in said.values():
        if document is not None:
            for reason in unready(document):
                click.echo(one_line(f"{document['plugin']}: {reason}"))


def _show(said: Mapping[str, StatusDocument | None], where: str, output: str) -> None:
    if output == "json":
        silent = [name for name, document in said.items() if document is None]
        plugins = [document for document in said.values() if document is not None]
        click.echo(json.dumps({"plugins": plugins, "silent": silent}))
        return
    if not said:
        click.echo(f"no plugin has a socket in {where}")
    for name, document in said.items():
        for line in _lines(name, document):
            terminal.show_line(one_line(line))


def _lines(name: str, said: StatusDocument | None) -> Iterator[str]:
    if said is None:
        yield f"{name}  does not answer: it was killed, or it hangs"
        return
    by = f" by {said['runtime']}" if said["runtime"] else ""
    since = said["synchronized"] or said["configured"] or said["started"]
    yield f"{said['plugin']}  {said['phase']}{by} since {since}, process {said['pid']}"
    if failures := said.get("worker", {}).get("failures"):
        yield f"  workers     {failures} died or hung, and were replaced"
    if error := (said.get("upgrades") or {}).get("error"):
        yield f"  upgrade     failed, version {said['version']} goes on: {error}"
    counts = ", ".join(f"{count} {word}" for word, count in said["containers"].items())
    yield f"  containers  {counts}"
    if no_answer := _NO_ANSWER.get(said.get("no_answer", "")):
        yield f"  no answer   {no_answer}"
    yield from _lines_of_found(said)
    if any((restarts := said.get("restarts", {})).values()):
        words = (f"{count} {_RESTARTS[word]}" for word, count in restarts.items() if count)
        yield f"  restarts    {', '.join(words)}"
    if said["config_error"]:
        yield f"  not in force: {said['config_error']}"
    if policy := said.get("policy"):
        yield from _lines_of_policy(policy)
    for note in said.get("notes", ()):
        yield f"  note        {note}"


_FOUND: Final = {
    "drifted": "that would be given something else now",
    "stale": "with a device that has changed",
}

_RESTARTS: Final = {
    "stopped": "stopped for the kubelet to create anew",
    "failed": "failed",
    "excluded": "in an excluded namespace",
    "over_budget": "beyond the budget of the pod",
    "repeated": "not a second time",
    "useless": "that would not help",
    "left_out": "too many",
    "waiting": "waiting",
}


def _lines_of_found(said: StatusDocument) -> Iterator[str]:
    missed = said["missed"]
    # A plugin that was started before an upgrade does not count all of these.
    uncompared = said.get("uncompared", 0)
    rest = f", and {uncompared} not compared" if uncompared else ""
    yield f"  missed      {missed['count']} of {said['compared']} that were running{rest}"
    yield from _found(missed)
    for word, what in _FOUND.items():
        if (found := said.get(word, {"count": 0}))["count"]:
            yield f"  {word:<10}  {found['count']} {what}"
            yield from _found(found)


def _found(containers: StatusDocument) -> Iterator[str]:
    for one in containers["containers"]:
        yield f"    {one['pod']} {one['container']} {in_words(one)}"
    if more := containers["count"] - len(containers["containers"]):
        yield f"    and {more} more"


_IN_FORCE: Final = {
    "newest": "in force is the newest version",
    "before": "in force is the version before",
    "kept": "in force is the last good version, kept from before the start",
    "nothing": "everything is denied",
}


def _lines_of_policy(policy: StatusDocument) -> Iterator[str]:
    written = policy["written"]
    version = "" if written is None else f", of {written}, {_ago(policy['age'])} ago"
    yield f"  policy      {policy['file']}: {_IN_FORCE[policy['in_force']]}{version}"
    if policy["error"]:
        yield f"  not in force: {policy['error']}"


def _ago(seconds: int) -> str:
    """Write how long something has been, in its largest unit, as in `3 h`."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
