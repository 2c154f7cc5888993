"""Inject the OCI hooks that the host's admin has defined for matching containers.

Hook files select the containers: docs/register-a-hook.md. The differences from NRI's hook-injector
(NRI 0.12) are in docs/differences-hooks.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from nri_inject.api import Adjustment, Container, Mount, Pod
from nri_inject.errors import RequestError
from nri_inject.hooks.definition import Definition
from nri_inject.hooks.match import (
    Choices,
    HookDecision,
    HookSubject,
    Match,
    NoCommand,
    injection_of,
    matches,
)
from nri_inject.host.model import HostPath
from nri_inject.injectors.compose import Injector
from nri_inject.injectors.giving import Give
from nri_inject.injectors.host import Host
from nri_inject.policy.gifts import Gift
from nri_inject.text.annotations import where
from nri_inject.text.budget import Spend, unlimited
from nri_inject.text.fields import Fault
from nri_inject.text.paths import clean
from nri_inject.text.words import plain, quoted

# Mounts that runtime and kubelet give every container, whether anybody wants them or not.
_EVERYBODYS: Final = frozenset(
    {
        "/dev/shm",  # noqa: S108 - a mount's place, no file of ours
        "/dev/termination-log",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/run/.containerenv",
        "/run/secrets",
        "/var/run/secrets/kubernetes.io/serviceaccount",
        "/run/secrets/kubernetes.io/serviceaccount",
    }
)


def injector(choices: Choices, *, unsafe: bool = False) -> Injector:
    """Return the injector for an admin's choices; `unsafe` runs programs that others could change.

    It raises RequestError if a choice is to fail the container. A hook that is left out because its
    program cannot be run is a warning of the host.
    """

    def inject(pod: Pod, container: Container, host: Host) -> Adjustment:
        if not host.hooks:
            return Adjustment()
        spend = partial(host.budget.spend, "comparing it with the hooks' conditions")
        subject = subject_of(pod, container, choices, spend)
        try:
            found: Sequence[Match] = matches(host.hooks, subject)
            if not unsafe:
                found = _believed(found, host)
            found = _permitted(found, host)
        except NoCommand as error:
            raise RequestError([str(error)], where=where(pod, container)) from error
        result = injection_of(found, subject, container.hooks)
        unusable = [_sentence(match) for match in result.skipped]
        if unusable and choices.unusable_program == "fail":
            raise RequestError(unusable, where=where(pod, container))
        for sentence in unusable:
            host.warn(f"left out: {sentence}")
        if not result.hooks.ByteSize():
            return Adjustment()
        return Adjustment(hooks=result.hooks)

    return inject


def giver(choices: Choices, *, unsafe: bool = False) -> Give:
    """Return how hooks are given that rules name by their files; the words are those above."""

    def give(gift: Gift, _pod: Pod, container: Container, host: Host) -> Adjustment:
        found: Sequence[Match] = [
            Match(one, HookDecision(True, ())) for one in host.hooks if _name(one) == gift.value
        ]
        if not found:
            raise Fault("no hook file of this name is in use")
        found = found if unsafe else _believed(found, host)
        if unusable := [_sentence(match) for match in found if match.definition.unusable]:
            raise Fault(*unusable)
        if host.permit is not None and not host.permit.filter_names(
            "hooks", [str(gift.value)], "hook"
        ):
            return Adjustment()
        subject = HookSubject({}, None, False, choices)
        return Adjustment(hooks=injection_of(found, subject, container.hooks).hooks)

    return give


def _believed(found: Sequence[Match], host: Host) -> Sequence[Match]:
    """Take a hook for unusable if containers may write its file or its program."""
    if host.permit is None or not host.permit.policy.lent:
        return found
    files = host.permit.guarded(host).files
    return [_judged(match, _doubt(match.definition, files)) for match in found]


def _judged(match: Match, doubt: str) -> Match:
    if not doubt:
        return match
    return match._replace(definition=dataclasses.replace(match.definition, unusable=doubt))


def _doubt(definition: Definition, files: Mapping[str, HostPath]) -> str:
    """Name the user who could have written a hook's file or program; empty if only root could."""
    paths = (definition.file, *([definition.path] if definition.runs_on_host else ()))
    places = ((path, files.get(path)) for path in paths)
    return next(
        (
            f"others can change {quoted(path)}: {place.writable_by}"
            for path, place in places
            if place is not None and place.writable_by is not None
        ),
        "",
    )


def _permitted(found: Sequence[Match], host: Host) -> Sequence[Match]:
    """Leave out the hooks that a rule of the policy denies; RequestError if none can be consulted.

    A hook file is the admin's own word, and needs no rule that allows it. Nobody requests a hook,
    so a denied one does not fail the container.
    """
    names = [_name(match.definition) for match in found if not match.definition.unusable]
    if host.permit is None or not names:
        return found
    denied = {*names} - {*host.permit.filter_unrequested_names("hooks", names, "hook")}
    return [match for match in found if _name(match.definition) not in denied]


def _name(definition: Definition) -> str:
    return definition.file.rpartition("/")[2]


inject: Final = injector(Choices())
"""Return the hooks that a container gets unless the admin has chosen otherwise."""


def subject_of(
    pod: Pod, container: Container, choices: Choices, spend: Spend = unlimited
) -> HookSubject:
    """Return the subject of the conditions; if both have a key, the pod's annotation counts."""
    spend(len(pod.annotations) + len(container.annotations))
    return HookSubject(
        _Annotations(pod.annotations, container.annotations),
        container.args,
        lambda: has_bind_mounts(container.mounts, choices),
        choices,
        spend,
    )


class _Annotations(Mapping[str, str]):
    """The annotations of a pod over those of a container.

    Of most of them conditions look at the key alone, and a copy would read the values as well.
    """

    def __init__(self, pod: Mapping[str, str], container: Mapping[str, str]) -> None:
        self._pod = pod
        self._container = container
        self._keys = dict.fromkeys(container) | dict.fromkeys(pod)

    def __getitem__(self, key: str) -> str:
        for layer in (self._pod, self._container):
            if key in layer:  # a map of protobuf would make up what it lacks
                return layer[key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def has_bind_mounts(mounts: Iterable[Mount], choices: Choices) -> bool:
    """Tell whether there are bind mounts, in the sense that the admin has chosen."""
    if choices.bind_mounts == "any":
        return any(True for _ in mounts)
    return any(_is_bind(mount) and clean(mount.destination) not in _EVERYBODYS for mount in mounts)


def _is_bind(mount: Mount) -> bool:
    return mount.type == "bind" or not {"bind", "rbind"}.isdisjoint(mount.options)


def _sentence(match: Match) -> str:
    definition = match.definition
    return f"hook {plain(definition.file)} cannot be run: {definition.unusable}"
