"""Check the adjustments of all plugins against the policy.

A runtime sends a validator the joint adjustment of all plugins, and the owner of each part (NRI
0.10.0 and later). The part that this suite itself would inject is allowed as it is there; the rest
must be allowed by a rule, as if a pod had requested it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

from nri_inject.api import (
    Adjustment,
    ConfigureRequest,
    FieldOwners,
    ValidateContainerAdjustmentRequest,
)
from nri_inject.capabilities import dotted
from nri_inject.errors import NriError, RequestError
from nri_inject.injectors.host import Host
from nri_inject.plugin import Plugin
from nri_inject.plugins.suite import PARTS
from nri_inject.policy.audit import AuditOutcome
from nri_inject.policy.evaluation import Evaluation
from nri_inject.policy.items import items_of
from nri_inject.policy.owners import owner
from nri_inject.policy.permit import Permit
from nri_inject.policy.rules import Item, Policy
from nri_inject.runtime import validate
from nri_inject.service.base import Options
from nri_inject.service.command import Command
from nri_inject.service.config import Config
from nri_inject.service.environment import ConfiguredService
from nri_inject.text.annotations import where
from nri_inject.text.budget import OverBudget
from nri_inject.text.paths import clean

log = logging.getLogger(__name__)

_SINCE: Final = (0, 10, 0)


class ValidatorService(ConfiguredService):
    """The service of the validator."""

    def __init__(self, options: Options, configured: Config) -> None:
        super().__init__(PARTS, options, configured)
        self.plugin: Final = Plugin(
            name=options.name,
            index=options.idx,
            configure=self.configure,
            validate_container_adjustment=self.validate,
        )

    def configure(self, request: ConfigureRequest) -> Plugin:
        """Configure, and return the plugin with the failure policy; log if it is never asked."""
        self._environment.configure(request)
        runtime = self._environment.runtime
        if runtime.nri < _SINCE:
            log.error(
                "%s %s has NRI %s and never calls a validator, so nothing is validated;"
                " validators need NRI %s, first in containerd 2.2.0 and CRI-O 1.34",
                runtime.name,
                runtime.version,
                dotted(runtime.nri),
                dotted(_SINCE),
            )
        policy = self._environment.config.failure_policy
        return dataclasses.replace(self.plugin, failure_policy=policy)

    def validate(self, request: ValidateContainerAdjustmentRequest) -> None:
        """Raise RequestError with everything in the adjustment that may not be."""
        try:
            faults = [*self._missing(request), *self._denied(request)]
            if faults:
                raise RequestError(faults, where=where(request.pod, request.container))
        except RequestError as error:
            self._environment.after(partial(log.error, "rejected: %s", str(error)))
            raise

    def _missing(self, request: ValidateContainerAdjustmentRequest) -> list[str]:
        """Return what is wrong if a plugin that the container needs was not asked."""
        required = self._environment.config.validator
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
        host = self._environment.host(request.pod, request.container)
        if host.permit is None:
            return []
        owners = request.owners.owners[request.container.id]
        permits = _Permits(host.permit.policy, request, host)
        own = self._own(request, host) if request.adjust.ByteSize() else Adjustment()
        evaluation = permits.evaluation(own)
        items = items_of(request.adjust, evaluation)
        explained: dict[tuple[str, str], list[Item[object]]] = {}
        for item in items_of(own, evaluation):
            explained.setdefault((item.kind, item.key), []).append(item)
        foreign = [item for item in items if item not in explained.get((item.kind, item.key), ())]
        outcome: AuditOutcome = "rejected"
        try:
            faults = permits.denied(foreign, owners)
            outcome = "rejected" if faults else "accepted"
        finally:
            self._environment.delivered(partial(self._record, request, permits.all(), outcome))
        return faults

    def _record(
        self,
        request: ValidateContainerAdjustmentRequest,
        permits: Sequence[Permit],
        outcome: AuditOutcome,
        in_time: bool,
    ) -> None:
        said: AuditOutcome = outcome if in_time else "too late"
        for permit in permits:
            self._environment.record(permit, request.pod, request.container, said)

    def _own(self, request: ValidateContainerAdjustmentRequest, host: Host) -> Adjustment:
        """Return what the suite itself would give to this container."""
        try:
            return self._environment.injector(request.pod, request.container, host)
        except OverBudget:
            raise
        except RequestError:
            return Adjustment()  # then no injector of ours has had a part in it either


class _Permits:
    """A permit for each plugin that had a part in one adjustment."""

    def __init__(
        self, policy: Policy, request: ValidateContainerAdjustmentRequest, host: Host
    ) -> None:
        self._policy = policy
        self._request = request
        self._host = host
        self._known: dict[str, Permit] = {}

    def evaluation(self, own: Adjustment) -> Evaluation:
        """Return what items are looked up in; the places of the suite's own may be read, too.

        Rules that only give allow nobody to ask for these places.
        """
        permitted = self._permit("").evaluation(self._host)
        devices = {device.path for device in own.linux.devices}
        sources = {clean(mount.source) for mount in own.mounts}
        return permitted._replace(
            reaches_device=lambda path: path in devices or permitted.reaches_device(path),
            reaches_source=lambda path: path in sources or permitted.reaches_source(path),
        )

    def denied(self, items: list[Item[object]], owners: FieldOwners) -> list[str]:
        """Return a sentence for each item that is denied to its plugin.

        A validator cannot remove anything: an item that a policy would skip is rejected as well.
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
            self._known[plugin] = self._permit(plugin)
        return self._known[plugin]

    def _permit(self, plugin: str) -> Permit:
        pod, container = self._request.pod, self._request.container
        return Permit(self._policy, pod, container, plugin, self._host.budget)


main: Final = Command(
    name="policy-validator",
    idx="95",
    service=ValidatorService,
    help="Reject adjustments of any plugin that the policy does not allow.",
    example="nri-policy-validator --idx 95 --policy /etc/nri-inject/policy.yaml",
)
