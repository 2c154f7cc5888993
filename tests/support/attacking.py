"""How an attack on the policy is tried: by an annotation, or through another plugin."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from nri_inject import api
from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.injectors.device import inject
from nri_inject.injectors.host import Host, real_host
from nri_inject.policy import document
from nri_inject.policy.permit import Permit

CONTAINER = Container(name="main")


def permit(rules: str) -> Permit:
    policy = document.read(f"rules: [{rules}]", "policy")
    return Permit(policy, Pod(namespace="ci", name="evil"), CONTAINER, "10-injector")


def annotated(kind: str, text: str, rules: str, host: Host | None = None) -> Adjustment:
    """Return what a pod gets that asks in an annotation, RequestError if that is nothing."""
    pod = Pod(name="evil", namespace="ci", annotations={f"{kind}.noderesource.dev": text})
    return inject(pod, CONTAINER, dataclasses.replace(host or real_host(), permit=permit(rules)))


def refusal(kind: str, text: str, rules: str, host: Host | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        annotated(kind, text, rules, host)
    return "; ".join(caught.value.faults)


def refused(adjustment: Adjustment, rules: str, host: Host | None = None) -> str:
    """Return why another plugin may not give this, whose spelling no reader of ours has seen."""
    with pytest.raises(RequestError) as caught:
        permit(rules).filter(adjustment, host or real_host())
    return "; ".join(caught.value.faults)


def device(path: str, minor: int, *, major: int = 1, kind: str = "c") -> Adjustment:
    asked = api.LinuxDevice(path=path, type=kind, major=major, minor=minor)
    return Adjustment(linux=api.LinuxContainerAdjustment(devices=[asked]))


NULL_ALLOWED = "{name: bin, allow: {devices: [/dev/null]}}"
FULL_DENIED = "{name: never, deny: {devices: [/dev/full]}}, {allow: {devices: ['/**']}}"
IS_DENIED = "rule 'never' of policy denies it"


def mount(source: Path | str, to: str = "/in", kind: str = "bind", *options: str) -> Adjustment:
    asked = api.Mount(source=str(source), destination=to, type=kind, options=options or ("ro",))
    return Adjustment(mounts=[asked])


def for_source(source: Path | str, **more: str) -> str:
    keys = {"source": str(source), **more}
    entry = ", ".join(f"{key}: {value}" for key, value in keys.items())
    return f"{{name: data, allow: {{mounts: [{{{entry}}}]}}}}"
