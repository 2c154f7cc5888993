"""The checks of `doctor`: problems of NRI, its plugins and their files, and how to correct them.

Each check is a function of the gathered facts, and yields findings; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from nri_inject import capabilities
from nri_inject.capabilities import Version
from nri_inject.errors import ConfigError
from nri_inject.host.devices.links import DATABASE, first_link, has_database
from nri_inject.node import files, install, starters, texts
from nri_inject.node.gather import Gathered
from nri_inject.policy import document as policies
from nri_inject.policy.rules import Policy
from nri_inject.service import config
from nri_inject.service.health.state import in_words
from nri_inject.text.names import split_plugin
from nri_inject.text.words import listed, plain

_BARE_START: Final[Version] = (1, 7, 26)
"""The first containerd that survives a launched plugin which fails (its NRI is 0.8.0)."""
_VALIDATORS: Final[Version] = (0, 10, 0)
"""The first NRI that asks validators, and has one of its own."""

_REQUESTED: Final = {
    "rlimits": "ulimits",
    "device rules": "access to a device that is not rw",
    "io_priority": "io-priority",
    "scheduler": "scheduling-policy",
    "net_devices": "network-devices",
    "sysctl": "sysctl",
    "memory_policy": "memory-policy",
}
"""What pods can request of the fields that a runtime may lack, in the words of annotations."""
_MAX_ABSENT: Final = 12

_FAILURE_POLICY: Final = capabilities.dotted(capabilities.FAILURE_POLICY)


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding for a node's admin: the problem, and how to correct it.

    A `problem` prevents something or makes it unsafe; a `note` is for information.
    """

    check: str
    level: Literal["problem", "note"]
    what: str
    do: str


_Found = Iterator[tuple[Literal["problem", "note"], str, str]]


def _problem(what: str, do: str) -> tuple[Literal["problem"], str, str]:
    return "problem", what, do


def _note(what: str, do: str) -> tuple[Literal["note"], str, str]:
    return "note", what, do


def diagnose(gathered: Gathered) -> list[Finding]:
    """Return what all checks find, problems first."""
    findings = [
        Finding(name, level, what, do)
        for name, check in CHECKS.items()
        for level, what, do in check(gathered)
    ]
    return sorted(findings, key=lambda finding: finding.level != "problem")


# --- the runtime ----------------------------------------------------------------------------------


def _nri_enabled(seen: Gathered) -> _Found:
    how = install.how_to_enable(seen.node)
    restart = f"restart {seen.node.distribution.unit}"
    if seen.node.nri.enabled is False:
        yield _problem(f"NRI is off in {seen.node.distribution.name}", f"{how}; {restart}")
    elif seen.node.nri.enabled is None:
        yield _problem(
            f"{seen.node.distribution.config} does not set whether NRI is on; before"
            " containerd 2.0 it is off",
            f"{how}; {restart}",
        )


def _connections(seen: Gathered) -> _Found:
    if seen.node.nri.enabled is False or seen.node.nri.connections:
        return
    say = _problem if seen.external else _note
    yield say(
        f"{seen.node.distribution.name} refuses connections of plugins (disable_connections)",
        "install pre-installed plugins, without --systemd, or set it to false",
    )


def _socket(seen: Gathered) -> _Found:
    if seen.socket and seen.node.nri.enabled is not False and seen.node.nri.connections:
        yield _problem(
            f"NRI socket {seen.node.nri.socket}: {seen.socket}",
            f"start or restart {seen.node.distribution.unit}; mount the socket's directory, not"
            " the socket, into a container",
        )


def _release(seen: Gathered) -> _Found:
    runtime, release = seen.runtime, seen.node.release
    if runtime is None or release is None:
        return
    lacking = [
        words for name, words in _REQUESTED.items() if capabilities.unsupported(name, runtime)
    ]
    if lacking:
        yield _note(
            f"{runtime.name} {runtime.version} is too old for {', '.join(lacking)}",
            "pods that request these fail, or start without where the configuration has"
            " on_unsupported: warn",
        )
    if runtime.name == "containerd" and release < _BARE_START and seen.ours:
        yield _note(
            f"containerd {runtime.version} stops if a pre-installed plugin does not start",
            "check each change of the plugin's configuration with nri-inject try --config,"
            " or use --systemd, or containerd 1.7.26",
        )


def _no_answer(seen: Gathered) -> _Found:
    """Ask the plugins; where none runs, judge by the release."""
    said = [status for status in seen.statuses.values() if status and status.get("no_answer")]
    names = {str(one.get("runtime")) for one in said if one["no_answer"] == "ignored"}
    runtime = seen.runtime
    if not said and runtime is not None and (seen.ours or seen.external):
        keeps = capabilities.keeps_failure_policy(runtime)
        names = set() if keeps else {f"{runtime.name} {runtime.version}"}
    for name in sorted(names):
        yield _note(
            f"{name} ignores the failure policy of plugins: if a plugin does not answer within"
            " 2 s, the container starts without it",
            f"use a runtime with NRI {_FAILURE_POLICY}, which no release of containerd or CRI-O has"
            " yet; nri-inject status names the containers that lack something",
        )


def _validator(seen: Gathered) -> _Found:
    rules = seen.node.nri.validator
    names = {plugin.name[3:] for plugin in seen.plugins}
    if rules.get("enable") is not True:
        return
    if seen.runtime is not None and seen.runtime.nri < _VALIDATORS:
        yield _problem(
            f"{seen.runtime.name} {seen.runtime.version} has no default validator, so the"
            " configured one checks nothing",
            "use containerd 2.2.0 or CRI-O 1.34, or newer",
        )
        return
    if rules.get("reject_oci_hook_adjustment") is True and seen.ours:
        yield _problem(
            "the runtime's default validator rejects every container that gets an OCI hook",
            "set reject_oci_hook_adjustment to false, or define no hooks",
        )
    required = rules.get("required_plugins")
    for name in required if isinstance(required, list) else ():
        if name not in names and not seen.external:
            yield _problem(
                f"the runtime requires the plugin {plain(str(name))}, which is not installed:"
                " no container can be created",
                "install it, or remove it from required_plugins",
            )


# --- plugins --------------------------------------------------------------------------------------


def _file_names(seen: Gathered) -> _Found:
    for plugin in seen.plugins:
        if plugin.executable and not split_plugin(plugin.name)[0]:
            yield _problem(
                f"{plugin.path} is executable, but its name is not NN-name, so containerd stops",
                "rename it to two digits, a dash and a name, or remove it",
            )


def _launchable(seen: Gathered) -> _Found:
    for plugin in seen.plugins:
        if plugin.dangling:
            yield _problem(
                f"{plugin.path} is a dangling link, so the plugin does not start",
                "run nri-inject install again, or remove the link",
            )
        elif not plugin.executable and split_plugin(plugin.name)[0]:
            yield _problem(
                f"{plugin.path} is not executable, so runtimes ignore it",
                f"chmod 0755 {plugin.path}",
            )


def _indexes(seen: Gathered) -> _Found:
    by_index: dict[str, list[str]] = {}
    for plugin in seen.plugins:
        if plugin.executable and split_plugin(plugin.name)[0]:
            by_index.setdefault(plugin.name[:2], []).append(plugin.name)
    for index, names in by_index.items():
        if len(names) > 1:
            yield _problem(
                f"index {index} is used by {' and '.join(map(plain, names))}, so their"
                " order is undefined",
                "give each plugin its own index",
            )


def _installed(seen: Gathered) -> _Found:
    runs = any(said is not None for said in seen.statuses.values())
    if not (seen.starters or seen.ours or seen.external or runs):
        yield _problem(
            f"nri-inject is not installed: {seen.node.nri.plugins} has no plugin of it, there is no"
            " unit, and no plugin of it runs; pods start without the devices that they request",
            "nri-inject install; a plugin that the DaemonSet runs is not visible here, ask it with"
            " kubectl exec",
        )


def _twice(seen: Gathered) -> _Found:
    """Find plugins that inject the same: the suite and a part, or one installed in two ways."""
    for number, (path, plugin) in enumerate(seen.starters):
        for other_path, other in seen.starters[number + 1 :]:
            if starters.is_same(plugin, other):
                yield _problem(
                    f"{path} and {other_path} both start a plugin that injects the same, so every"
                    " container that requests a device fails with a conflict",
                    "remove one of them; nri-inject install replaces one that it has installed",
                )
    titles = [str(said.get("plugin")) for said in seen.statuses.values() if said is not None]
    for title in sorted({title for title in titles if titles.count(title) > 1}):
        yield _problem(
            f"plugin {title} runs {titles.count(title)} times, so every container that requests a"
            " device fails with a conflict",
            f"stop the service or restart {seen.node.distribution.unit}, so that one is left",
        )


def _owners(seen: Gathered) -> _Found:
    unsafe = {plugin.path: plugin.unsafe for plugin in seen.plugins if plugin.unsafe}
    for path, why in {**unsafe, **seen.unsafe}.items():
        what = why if why.startswith(f"{path} ") else f"{path}: {why}"  # a directory above it
        yield _problem(what, "chown it to root, and chmod it go-w")


def _registered(seen: Gathered) -> _Found:
    answers = {name: said for name, said in seen.statuses.items() if said is not None}
    running = {str(said.get("plugin")) for said in answers.values()}
    for name in seen.statuses.keys() - answers.keys():
        yield _problem(
            f"plugin {name} does not answer: it was killed, or it hangs",
            f"look for process {name.rpartition('.')[2]}, and stop it if it hangs: with NRI"
            f" {_FAILURE_POLICY} containers fail until then. A plugin that the runtime launches"
            f" starts again only when {seen.node.distribution.unit} restarts",
        )
    for said in answers.values():
        if not said.get("ready"):
            yield _problem(
                f"plugin {said.get('plugin')} runs, but is not registered with a runtime"
                f" ({said.get('phase')})",
                "see its log; the runtime may be stopped, or NRI may be off",
            )
    for plugin in seen.ours:
        if plugin.name not in running and not seen.socket and seen.node.nri.enabled:
            yield _problem(
                f"plugin {plugin.name} is installed and does not run: the runtime has not"
                " launched it yet, or has disconnected it",
                f"see the runtime's log, and restart {seen.node.distribution.unit}",
            )


def _missed(seen: Gathered) -> _Found:
    for said in seen.statuses.values():
        missed = said.get("missed", {}) if said else {}
        if missed.get("count"):
            first = [
                f", the first: {one['pod']} {one['container']} {in_words(one)}"
                for one in missed["containers"][:1]
            ]
            count = missed["count"]
            yield _problem(
                f"{count} running containers were created without the plugin{''.join(first)}",
                "delete their pods, so that they are recreated",
            )


def _notes(seen: Gathered) -> _Found:
    for said in seen.statuses.values():
        for note in said.get("notes", ()) if said else ():
            yield _note(
                f"{said['plugin'] if said else ''}: {note}",
                "see docs/run-on-a-node.md, What the plugin sees",
            )


# --- files ----------------------------------------------------------------------------------------


def _configurations(seen: Gathered) -> _Found:
    for path, document in seen.documents.items():
        if isinstance(document, str):
            yield _problem(document, f"correct {path}; nri-inject try --config {path} checks it")
            continue
        try:
            settings = config.checked(document, path)
        except ConfigError as error:
            yield _problem(str(error), f"correct {path}")
            continue
        if settings.cdi.mode == "native" and seen.runtime is not None:
            loss = capabilities.unsupported("CDI_devices", seen.runtime)
            if loss is not None:
                sentence = capabilities.sentence(loss, seen.runtime)
                yield _problem(f"{path}: cdi.mode native: {sentence}", "use cdi.mode: resolve")
        if settings.unsafe_files:
            yield _note(
                f"{path}: unsafe_files: owners and modes of CDI and hook files are not checked",
                "remove it once the owners are right",
            )


def _policy(seen: Gathered) -> _Found:
    for path, document in seen.documents.items():
        if isinstance(document, str):
            continue
        policy = document.get("policy")
        if policy is None:
            yield _problem(
                f"{path} has no policy",
                f"add the lines `policy:` and `  file: {texts.POLICY_FILE}`",
            )
        elif policy == config.UNRESTRICTED:
            yield _note(
                f"{path}: policy: unrestricted: every pod gets what its annotations request",
                "write a policy unless every author of a pod is trusted",
            )
        elif isinstance(policy, dict) and isinstance(named := policy.get("file"), str):
            try:
                found = policies.read(files.read(seen.node.root, named), named)
                yield from _links(found, named, seen.node.root)
            except FileNotFoundError:
                yield _problem(f"{path}: policy file {named} does not exist", f"write {named}")
            except ConfigError as error:
                yield _problem(str(error), f"correct {named}")


def _links(policy: Policy, file: str, root: str) -> _Found:
    link = None if has_database(root) else first_link(policy.texts("devices"), root)
    if link is not None:
        yield _note(
            f"{file} names links to devices, such as {plain(link)}, and this host has no database"
            f" of udev in {DATABASE}: plugins resolve links in /dev itself",
            "start udev if this host uses it",
        )


def _cdi(seen: Gathered) -> _Found:
    for path, sentences in seen.cdi_errors.items():
        for sentence in sentences:
            yield _problem(f"CDI {path}: {sentence}", "nri-inject cdi validate shows the place")
    for path, sentences in seen.cdi_absent.items():
        if sentences:
            yield _problem(
                f"CDI {path}: {listed(sentences, _MAX_ABSENT)}; containers that request its"
                " devices fail",
                "install the driver, generate the file anew, or remove it",
            )


def _unread(seen: Gathered) -> _Found:
    for path, why in seen.unread.items():
        yield _note(f"{plain(path)} {why}", "rename it, or move it out of the directory")


def _hooks(seen: Gathered) -> _Found:
    for path, sentences in seen.hook_errors.items():
        for sentence in sentences:
            yield _problem(
                f"hook file {path}: {sentence}", "nri-inject hooks validate shows details"
            )


CHECKS: Final[Mapping[str, Callable[[Gathered], _Found]]] = {
    "nri": _nri_enabled,
    "connections": _connections,
    "socket": _socket,
    "release": _release,
    "no-answer": _no_answer,
    "validator": _validator,
    "file-names": _file_names,
    "launchable": _launchable,
    "indexes": _indexes,
    "installed": _installed,
    "twice": _twice,
    "owners": _owners,
    "registered": _registered,
    "missed": _missed,
    "notes": _notes,
    "configuration": _configurations,
    "policy": _policy,
    "cdi": _cdi,
    "hooks": _hooks,
    "unread": _unread,
}
