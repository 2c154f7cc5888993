"""Hold what every plugin asks for against the policy, whoever made it.

A runtime shows a validator the adjustment that all plugins together have made, and who made what
(NRI 0.10.0 and later). What this suite itself would give to the container is allowed as it is
there; the rest must be allowed by a rule, as if a pod had asked for it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from nri_inject.annotations import where
from nri_inject.api import (
    Adjustment,
    ConfigureRequest,
    FieldOwners,
    ValidateContainerAdjustmentRequest,
)
from nri_inject.audit import Outcome
from nri_inject.command import Command
from nri_inject.config import Config
from nri_inject.errors import NriError, RequestError
from nri_inject.host import Host
from nri_inject.plugin import Plugin
from nri_inject.plugins.suite import PARTS
from nri_inject.policy.items import World, items_of
from nri_inject.policy.owners import owner
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Item, Policy
from nri_inject.runtime import validate
from nri_inject.runtimes import dotted
from nri_inject.service import Options
from nri_inject.stub import Stub
from nri_inject.surroundings import Surroundings

log = logging.getLogger(__name__)

_SINCE: Final = (0, 10, 0)


class Validating:
    """The service of the validator."""

    def __init__(self, options: Options, configured: Config) -> None:
        self._surroundings = Surroundings(PARTS, options, configured)
        self.plugin: Final = Plugin(
            name=options.name,
            index=options.idx,
            configure=self.configure,
            validate_container_adjustment=self.validate,
        )

    def attach(self, stub: Stub) -> None:
        """Watch the node's files with this stub."""
        self._surroundings.attach(stub)

    def close(self) -> None:
        """Stop watching them."""
        self._surroundings.close()

    @property
    def config_error(self) -> str:
        """Why the newest version of the configuration file is not in force; empty if it is."""
        return self._surroundings.config_error

    @property
    def notes(self) -> Sequence[str]:
        """What the plugin cannot see of the node, in sentences."""
        return self._surroundings.notes

    def configure(self, request: ConfigureRequest) -> Plugin:
        """Configure, and return the plugin with the failure policy; log if it is never asked."""
        self._surroundings.configure(request)
        runtime = self._surroundings.runtime
        if runtime.nri < _SINCE:
            log.error(
                "%s %s has NRI %s and never asks a validator, so nothing is validated;"
                " that needs NRI %s, first in containerd 2.2.0 and CRI-O 1.34",
                runtime.name,
                runtime.version,
                dotted(runtime.nri),
                dotted(_SINCE),
            )
        policy = self._surroundings.config.failure_policy
        return dataclasses.replace(self.plugin, failure_policy=policy)

    def validate(self, request: ValidateContainerAdjustmentRequest) -> None:
        """Raise RequestError with everything in the adjustment that may not be."""
        pod, container = request.pod, request.container
        faults = [*self._missing(request), *self._denied(request)]
        if faults:
            told = partial(log.error, "%s: rejected: %s", where(pod, container), "; ".join(faults))
            self._surroundings.after(told)
            raise RequestError(faults, where=where(pod, container))

    def _missing(self, request: ValidateContainerAdjustmentRequest) -> list[str]:
        """Return what is wrong if a plugin that the container needs was not asked."""
        required = self._surroundings.config.validator
        rules = validate.Rules(
            required_plugins=required.required_plugins,
            tolerate_missing_plugins_annotation=required.tolerate_missing_plugins_annotation,
        )
        try:
            validate.validate(rules, request)
        except NriError as error:
            return [str(error)]
        return []

    def _denied(self, request: ValidateContainerAdjustmentRequest) -> list[str]:
        policy = self._surroundings.policy()
        if policy is None:
            return []
        host = self._surroundings.host()
        owners = request.owners.owners[request.container.id]
        permits = _Permits(policy, request)
        items = items_of(request.adjust, permits.world(host))
        explained = self._explained(request, policy, host) if items else []
        foreign = [item for item in items if item not in explained]
        faults = permits.denied(foreign, owners)
        outcome: Outcome = "rejected" if faults else "accepted"
        self._surroundings.after(partial(self._write_down, request, permits.all(), outcome))
        return faults

    def _write_down(
        self,
        request: ValidateContainerAdjustmentRequest,
        permits: Sequence[Permit],
        outcome: Outcome,
    ) -> None:
        for permit in permits:
            self._surroundings.record(permit, request.pod, request.container, outcome)

    def _explained(
        self, request: ValidateContainerAdjustmentRequest, policy: Policy, host: Host
    ) -> list[Item]:
        """Return what the suite itself would give to this container under this policy."""
        permit = Permit(policy, request.pod, request.container, self._surroundings.title)
        try:
            own: Adjustment = self._surroundings.injector(
                request.pod, request.container, dataclasses.replace(host, permit=permit)
            )
        except RequestError:
            return []  # then no injector of ours has had a part in it either
        return items_of(own, _Permits(policy, request).world(host))


class _Permits:
    """A permit for each plugin that had a part in one adjustment."""

    def __init__(self, policy: Policy, request: ValidateContainerAdjustmentRequest) -> None:
        self._policy = policy
        self._request = request
        self._known: dict[str, Permit] = {}

    def world(self, host: Host) -> World:
        """Return what items are looked up in."""
        anybody = Permit(self._policy, self._request.pod, self._request.container, "")
        return anybody.world(host)

    def denied(self, items: list[Item], owners: FieldOwners) -> list[str]:
        """Return a sentence for each item that its plugin may not ask for.

        A validator cannot take anything out: what a policy says to skip is rejected as well.
        """
        faults: list[str] = []
        for item in items:
            plugin = owner(item, owners)
            permit = self._of(plugin)
            decision = permit.decide(item)
            if decision.verdict in ("deny", "skip"):
                faults.append(f"plugin {plugin}: {permit.sentence(decision)}")
        return faults

    def all(self) -> list[Permit]:
        """Return the permits that have been asked."""
        return [*self._known.values()]

    def _of(self, plugin: str) -> Permit:
        if plugin not in self._known:
            pod, container = self._request.pod, self._request.container
            self._known[plugin] = Permit(self._policy, pod, container, plugin)
        return self._known[plugin]


main: Final = Command(
    name="policy-validator",
    idx="95",
    service=Validating,
    help="Reject what any plugin wants for a container and the policy does not allow.",
    example="nri-policy-validator --idx 95 --policy /etc/nri-inject/policy.yaml",
)
