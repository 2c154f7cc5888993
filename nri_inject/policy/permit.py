"""What a policy grants one container: everything that it requests is held against the rules.

A permit belongs to one request. It notes every decision, for the audit to write down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from nri_inject.api import Adjustment, Container, Pod
from nri_inject.errors import RequestError
from nri_inject.host import user_namespace
from nri_inject.host.model import HostPath
from nri_inject.policy.evaluation import Evaluation, HostView
from nri_inject.policy.items import items_of
from nri_inject.policy.lent import GuardedDevices, GuardedFiles
from nri_inject.policy.naming import as_yaml, named
from nri_inject.policy.rules import Decision, Item, Policy, Reach, Rule, Verdict
from nri_inject.policy.settle import with_real_sources, without
from nri_inject.policy.who import Subject
from nri_inject.text.annotations import container_name, image_name, where
from nri_inject.text.budget import UNLIMITED, Budget, Counted
from nri_inject.text.glob import MAX_PARTS
from nri_inject.text.paths import above, clean
from nri_inject.text.words import plain

_NO_ORIGINS: Final[Mapping[str, str]] = {}


def _lasting(item: Item[object]) -> str:
    """Return the entry that is suggested for an item, with the name that outlasts a replug.

    That is the name which was asked for, if the host has it for this device, else a link that udev
    made. The kernel's own name may be another device tomorrow.
    """
    if item.kind != "devices" or not item.names:
        return item.suggestion
    links = (name for place in _LINKS for name in item.names if place in name)
    name = item.key if item.key in item.names else next(links, item.names[0])
    return item.suggestion.replace(as_yaml(item.names[0]), as_yaml(name), 1)


_LINKS: Final = ("/by-id/", "/by-uuid/", "/by-path/")


def subject_of(pod: Pod, container: Container, plugin: str) -> Subject:
    """Return a container as the rules see it, and the plugin `NN-name` that requests for it."""
    name = container_name(container)
    image = image_name(container)
    return Subject(pod.namespace, pod.labels, pod.runtime_handler, name, plugin, pod.name, image)


class Permit:
    """The policy for one container; `plugin` is the plugin that makes the requests.

    Its decisions count against the request's budget; OverBudget fails the container, whatever the
    policy's mode.
    """

    def __init__(
        self,
        policy: Policy,
        pod: Pod,
        container: Container,
        plugin: str,
        budget: Budget = UNLIMITED,
    ) -> None:
        self.decisions: list[Decision] = []
        self.plugin = plugin
        self.policy = policy
        self._budget = budget
        self._rules = policy.local(pod.namespace)
        self._known_reach: dict[str, Reach] = {}
        self._pod = pod
        self._container = container
        self._subject = subject_of(pod, container, plugin)

    def filter(
        self, adjustment: Adjustment, host: HostView, origins: Mapping[str, str] = _NO_ORIGINS
    ) -> Adjustment:
        """Return what of an adjustment the container may have, with the paths that were judged.

        `origins` has the annotation that asked, by kind. Raises RequestError with everything
        that is denied, where the policy is to fail the container.
        """
        decisions = [self.decide(item) for item in items_of(adjustment, self.evaluation(host))]
        self._refuse(decisions, origins)
        settled = with_real_sources(adjustment, (decision.item for decision in decisions))
        skipped = [decision.item for decision in decisions if decision.verdict == "skip"]
        return without(settled, skipped) if skipped else settled

    def filter_names(
        self, kind: str, names: Iterable[str], noun: str, origins: Mapping[str, str] = _NO_ORIGINS
    ) -> list[str]:
        """Return the names that the container may have, of items identified by their names.

        Raises RequestError as `filter` does.
        """
        return self._granted((self._decided(named(kind, name, noun)) for name in names), origins)

    def filter_admin_names(self, kind: str, names: Iterable[str], noun: str) -> list[str]:
        """Do the same for items of the node's admin, which only a `deny` forbids."""
        return self._granted(self._tolerate(named(kind, name, noun)) for name in names)

    def filter_unrequested_names(self, kind: str, names: Iterable[str], noun: str) -> list[str]:
        """Return the names that no rule denies, of what the admin adds and nobody requests.

        A `deny` leaves such a thing out, and the container is created without it. Raises
        RequestError where no rule could be consulted: the admin's hook must not be lost then.
        """
        tolerated = (self._tolerate(named(kind, name, noun)) for name in names)
        return self._granted(map(self._left_out, tolerated))

    def _granted(
        self, decisions: Iterable[Decision], origins: Mapping[str, str] = _NO_ORIGINS
    ) -> list[str]:
        """Note decisions about names, and return the names that the container gets."""
        before = len(self.decisions)
        self.decisions.extend(decisions)  # one by one: those before an error stay noted
        made = self.decisions[before:]
        self._refuse(made, origins)
        return [d.item.names[0] for d in made if d.verdict in ("allow", "warn")]

    def _left_out(self, decision: Decision) -> Decision:
        if decision.verdict in ("allow", "warn"):
            return decision
        return dataclasses.replace(decision, verdict="deny" if decision.rule is None else "skip")

    def could_have(self, kind: str, name: str) -> bool:
        """Tell whether the container may have a thing of that name; that is no decision."""
        return self._decided(named(kind, name, "")).verdict in ("allow", "warn")

    def decide(self, item: Item[object]) -> Decision:
        """Return what becomes of an item, and note it."""
        decision = self._decided(item)
        self.decisions.append(decision)
        return decision

    def _decided(self, item: Item[object]) -> Decision:
        candidates = self._rules.candidates(item)
        steps = self.policy.steps(item, max(len(candidates), self._rules.lookups))
        self._budget.spend(f"comparing it with the rules of {self.policy.origin}", steps)
        return self.policy.decide(self._subject, item, candidates)

    def _tolerate(self, item: Item[object]) -> Decision:
        decision = self._decided(item)
        if decision.rule is None and not (self.policy.trouble or decision.item.trouble):
            decision = Decision(item, "allow", None, "the node's own files add it")
        return decision

    def _refuse(self, decisions: Iterable[Decision], origins: Mapping[str, str]) -> None:
        faults = [
            self.sentence(decision, origins.get(decision.item.kind, ""))
            for decision in decisions
            if decision.verdict == "deny"
        ]
        if faults:
            raise RequestError(faults, where=where(self._pod, self._container), denied=True)

    def sentence(self, decision: Decision, origin: str = "") -> str:
        """Say what is denied and why, and which rule would allow it."""
        item = decision.item
        place = f"annotation {plain(origin)}: " if origin else ""
        could = decision.rule is None and not (item.trouble or self.policy.trouble)
        advice = ""
        if self.policy.newer_fault:
            advice = f"; a newer version of the policy is not in force: {self.policy.newer_fault}"
        elif could and item.suggestion and self._subject.namespace:
            advice = f"; a rule that allows it: {self._rule_for(item)}"
        return f"{place}{item.asked}: {decision.reason}{advice}"

    def _rule_for(self, item: Item[object]) -> str:
        namespace, entry = as_yaml(self._subject.namespace), _lasting(item)
        return f"{{who: {{namespaces: [{namespace}]}}, allow: {{{item.kind}: [{entry}]}}}}"

    # --- what rules give ---

    def giving_rules(self) -> list[Rule]:
        """Return the rules that give something to this container, in order."""
        candidates = self.policy.givers.candidates(self._subject)
        self._budget.spend("finding the rules that give it something", 1 + 3 * len(candidates))
        return [rule for rule in candidates if rule.who.includes(self._subject)]

    def giving(self, rule: Rule) -> GivingPermit:
        """Return the permit for what a rule gives, with decisions of its own."""
        return self._giving(rule.name, GIVEN, "deny" if rule.required else "skip")

    def granting(self, profile: str, rule: str | None) -> GivingPermit:
        """Return the permit for what is in a profile that a rule allows, None in mode warn."""
        denied: Verdict = "deny" if self.policy.on_deny == "fail" else "skip"
        return self._giving(rule, f"of profile {profile!r}", denied)

    def _giving(self, rule: str | None, reason: str, denied: Verdict) -> GivingPermit:
        return GivingPermit(
            *(self.policy, self._pod, self._container, self.plugin, self._budget),
            rule=rule,
            reason=reason,
            denied=denied,
        )

    # --- the paths of the host that may be read, and those that are trusted ---

    def evaluation(self, host: HostView) -> Evaluation:
        """Return what a container's items are looked up in."""
        guarded = self.guarded(host)
        return Evaluation(guarded, self._container, self.reaches_device, self.reaches_source)

    def guarded(self, host: HostView) -> HostView:
        """Return the host, with doubts about what containers could have written."""
        if not self.policy.lent:
            return host
        lent = self.policy.lent.on(host.views)
        mounts = user_namespace.is_in_one(self._container)
        nodes = Counted(host.devices, self._budget, self._steps_of_guarding(host))
        devices = GuardedDevices(nodes, host.numbers, lent, mounts=mounts)
        files = GuardedFiles(self._counted(host), lent)
        return dataclasses.replace(host, devices=devices, files=files)

    def guarded_nodes(self, host: HostView) -> Mapping[str, HostPath]:
        """Return the same of its files, for device nodes that only their number is taken of."""
        if not self.policy.lent:
            return host.files
        lent = self.policy.lent.on(host.views)
        return GuardedFiles(self._counted(host), lent, self.guarded(host).devices)

    def _counted(self, host: HostView) -> Mapping[str, HostPath]:
        return Counted(host.files, self._budget, self._steps_of_guarding(host))

    def _steps_of_guarding(self, host: HostView) -> Callable[[str], int]:
        """Return what it costs to hold a path against all that containers may write."""
        return lambda _: self.policy.lent.wildcards + len(host.views()) // 4

    def reaches_device(self, path: str) -> bool:
        """Tell whether a device's path may be read.

        Reading can reveal files, wait for a network file system or mount something; so a path that
        no rule could allow is never read.
        """
        if path.count("/") > MAX_PARTS:
            return False
        reach, places = self._reach("devices"), [*above(clean(path))]
        return (
            self.policy.mode == "warn"
            or not reach.directories.isdisjoint(places)
            # Whatever a rule allows, a link in /dev may lead to it.
            or (reach.allows and "/dev" in places)
        )

    def reaches_source(self, path: str) -> bool:
        """Tell whether a mount's source, a clean path, may be read."""
        return not self._reach("mounts").directories.isdisjoint(above(path))

    def _reach(self, kind: str) -> Reach:
        if kind not in self._known_reach:
            self._known_reach[kind] = self._rules.reach(kind, self._subject)
        return self._known_reach[kind]


GIVEN: Final = "given, not requested"


class GivingPermit(Permit):
    """The policy for what a rule gives: a `deny` forbids it, and it needs no `allow`.

    `rule` and `reason` are those of all that is allowed, and `denied` is the verdict otherwise.
    """

    def __init__(
        self,
        policy: Policy,
        pod: Pod,
        container: Container,
        plugin: str,
        budget: Budget,
        *,
        rule: str | None,
        reason: str,
        denied: Verdict,
    ) -> None:
        super().__init__(policy, pod, container, plugin, budget)
        self.rule: Final = rule
        self.reason: Final = reason
        self._denied: Final = denied

    def _decided(self, item: Item[object]) -> Decision:
        decision = super()._decided(item)
        is_free = decision.rule is None and not (item.trouble or self.policy.trouble)
        if decision.verdict == "allow" or is_free:
            return Decision(item, "allow", self.rule, self.reason)
        if decision.verdict == "warn":
            return decision
        return dataclasses.replace(decision, verdict=self._denied)

    def could_have(self, kind: str, name: str) -> bool:
        """Tell whether the container may request a thing: an error names no other."""
        return super()._decided(named(kind, name, "")).verdict in ("allow", "warn")

    def bars(self, profile: str) -> bool:
        """Tell whether a rule denies a profile; that is no decision."""
        return self._decided(named("profiles", profile, "")).verdict in ("deny", "skip")

    def reaches_device(self, path: str) -> bool:
        """Tell that a device may be looked at: the admin named it."""
        return path.count("/") <= MAX_PARTS

    def reaches_source(self, path: str) -> bool:
        """Tell the same of a mount's source."""
        return path.count("/") <= MAX_PARTS
