"""The merge of several plugins' answers to one request, as NRI's adaptation does it.

Where the rules here look odd (a removal that gets lost, a claim that outlives its update), runtimes
behave so, and a plugin that is tried here has to see it. `owners` has the claims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message

from nri_inject import api
from nri_inject.capabilities import NEWEST, RDT_FIELDS, RESOURCE_FIELDS, Version
from nri_inject.errors import NriError
from nri_inject.runtime.owners import MARK, Conflict, Owners, unmarked

Request = api.CreateContainerRequest | api.UpdateContainerRequest | api.StopContainerRequest
Response = api.CreateContainerResponse | api.UpdateContainerResponse | api.StopContainerResponse


@dataclass(frozen=True, slots=True)
class Merged:
    """The result for the runtime.

    `adjust` is empty unless a container is being created. `own` is the update of the container that
    an UpdateContainer request is for; None means that no plugin changed the request, which then
    applies as it came.
    """

    adjust: api.Adjustment
    updates: tuple[api.ContainerUpdate, ...]
    own: api.ContainerUpdate | None


class Merge:
    """The answers to one request, gathered plugin by plugin.

    For each plugin in turn: send it `request_for_next()`, and pass its answer to `add`. After an
    error the object is of no further use, since the runtime fails the request.

    `nri` is the version whose rules apply. Since 0.10.0 only the plugin that cleared a field may
    set it; before 0.7.0 the removal of a mount is lost unless another plugin had added it.
    """

    def __init__(self, request: Request, nri: Version = NEWEST.nri) -> None:
        self._request = api.copy_of(request)
        _fill(self._request)
        self._pristine = api.copy_of(self._request)
        self._owners = Owners(remembers_removals=nri >= (0, 10, 0))
        self._loses_marks = nri < (0, 7, 0)
        self._adjust = api.Adjustment()
        self._updates: dict[str, api.ContainerUpdate] = {}
        if isinstance(request, api.CreateContainerRequest):
            self._adjust.hooks.SetInParent()
            _fill_resources(self._adjust.linux.resources)

    @property
    def owners(self) -> api.OwningPlugins:
        """The owners so far."""
        return api.copy_of(self._owners.message)

    def request_for_next(self) -> Request:
        """Give the request as the plugins so far have changed it."""
        return api.copy_of(self._request)

    def add(self, plugin: str, response: Response) -> None:
        """Add a plugin's answer, or raise Conflict or another NriError.

        `plugin` is named as runtimes do it, index and name: `10-logger`. Evictions are passed
        over, as by every runtime.
        """
        if isinstance(response, api.CreateContainerResponse) and response.HasField("adjust"):
            self._take_adjustment(plugin, response.adjust)
        for update in response.update:
            self._take_update(plugin, update)

    def result(self) -> Merged:
        """Give what all answers together come to."""
        updates = {name: api.copy_of(update) for name, update in self._updates.items()}
        updated = isinstance(self._request, api.UpdateContainerRequest)
        own = updates.pop(self._request.container.id, None) if updated else None
        adjust = api.copy_of(self._adjust)
        if self._loses_marks:
            marks = [mount.destination for mount in adjust.mounts if unmarked(mount.destination)[0]]
            _discarded(adjust.mounts, marks, attrgetter("destination"))
        return Merged(adjust, tuple(updates.values()), own)

    def validation(
        self, plugins: Iterable[api.PluginInstance]
    ) -> api.ValidateContainerAdjustmentRequest:
        """Make the request for validators, of a container as it was before all plugins."""
        return api.ValidateContainerAdjustmentRequest(
            pod=self._pristine.pod,
            container=self._pristine.container,
            adjust=self._adjust,
            update=self._updates.values(),
            owners=self._owners.message,
            plugins=plugins,
        )

    def _take_adjustment(self, plugin: str, asked: api.Adjustment) -> None:
        state = _Merging(plugin, asked, self._adjust, self._request.container, self._owners)
        for take in _ADJUSTMENT:
            take(state)

    def _take_update(self, plugin: str, asked: api.ContainerUpdate) -> None:
        name = asked.container_id
        if self._is_created(name):
            raise NriError(f'plugin "{plugin}" asked update of "{name}" during creation')
        update = self._update_of(asked)
        if not asked.linux.HasField("resources"):
            return
        requested = self._requested(name)
        draft = api.copy_of(update.linux.resources if requested is None else requested)
        try:
            _update_resources(partial(self._owners.claim, name, plugin), asked, draft)
        except Conflict:
            if not asked.ignore_failure:
                raise
            return  # all of this update is dropped; what it claimed on the way stays claimed
        update.linux.resources.CopyFrom(draft)
        if requested is not None:
            requested.CopyFrom(draft)

    def _is_created(self, container: str) -> bool:
        creates = isinstance(self._request, api.CreateContainerRequest)
        return creates and container == self._request.container.id

    def _requested(self, container: str) -> api.LinuxResources | None:
        """Give the resources of the request itself, if it is an update of that container."""
        request = self._request
        if isinstance(request, api.UpdateContainerRequest) and container == request.container.id:
            return request.linux_resources
        return None

    def _update_of(self, asked: api.ContainerUpdate) -> api.ContainerUpdate:
        """Give the one update of that container; the first mention decides its place."""
        name, ignored = asked.container_id, asked.ignore_failure
        if name not in self._updates:
            update = api.ContainerUpdate(container_id=name, ignore_failure=ignored)
            _fill_resources(update.linux.resources)
            self._updates[name] = update
        update = self._updates[name]
        update.ignore_failure = update.ignore_failure and ignored
        return update


@dataclass(frozen=True, slots=True)
class _Merging:
    """One plugin's adjustment, and what it is to be merged into."""

    plugin: str
    asked: api.Adjustment
    adjust: api.Adjustment
    container: api.Container
    owners: Owners

    def claim(self, field: int, key: str | None = None) -> None:
        self.owners.claim(self.container.id, self.plugin, field, key)

    def clear(self, field: int, key: str | None = None) -> None:
        self.owners.clear(self.container.id, self.plugin, field, key)


_Take = Callable[[_Merging], None]
_Claim = Callable[..., None]  # of a field, and a key where the field has keys


@dataclass(frozen=True, slots=True)
class _Mapping:
    """A mapping whose keys are claimed. Later plugins see additions, but no removals."""

    field: int
    path: str

    def __call__(self, state: _Merging) -> None:
        at = attrgetter(self.path)
        asked, collected, shown = at(state.asked), at(state.adjust), at(state.container)
        removed = {key for marked, key in map(unmarked, asked) if marked}
        added = {key for key in asked if not unmarked(key)[0]}
        for key in sorted(added):  # Go takes them in random order
            if key in removed:
                state.clear(self.field, key)
            state.claim(self.field, key)
            _put(collected, key, asked[key])
            _put(shown, key, asked[key])
        for key in removed:
            _put(collected, MARK + key, type(asked[MARK + key])())


@dataclass(frozen=True, slots=True)
class _List:
    """A list whose entries have a key that is claimed, where a mark removes an entry.

    All removals of one answer act before its additions, whatever their order.
    """

    field: int
    path: str
    key: str
    keeps_marks: bool = False
    shown_key: Callable[[Any], str] | None = None
    shown: Callable[[Any], Any] = lambda entry: entry

    def __call__(self, state: _Merging) -> None:
        at, key_of = attrgetter(self.path), attrgetter(self.key)
        asked, collected, shown = at(state.asked), at(state.adjust), at(state.container)
        removed = [key for marked, key in map(unmarked, map(key_of, asked)) if marked]
        added = {key_of(entry): entry for entry in asked if not unmarked(key_of(entry))[0]}
        for entry in _discarded(collected, removed, key_of):
            state.clear(self.field, key_of(entry))
        _discarded(shown, {*removed, *added}, self.shown_key or key_of)
        if self.keeps_marks:
            for key in dict.fromkeys(removed):
                if key not in added:
                    collected.add(**{self.key: MARK + key})
        for entry in asked:
            if not unmarked(key_of(entry))[0]:
                state.claim(self.field, key_of(entry))
                collected.append(entry)
                shown.append(self.shown(entry))


@dataclass(frozen=True, slots=True)
class _Appended:
    """A list whose entries have a key that is claimed, without a way to remove one."""

    field: int
    path: str
    key: str
    is_shown: bool = True

    def __call__(self, state: _Merging) -> None:
        at = attrgetter(self.path)
        for entry in at(state.asked):
            state.claim(self.field, getattr(entry, self.key))
            at(state.adjust).append(entry)
            if self.is_shown:
                at(state.container).append(entry)


@dataclass(frozen=True, slots=True)
class _Simple:
    """A field of the linux part that one plugin may set."""

    field: int
    name: str
    is_shown: bool = True

    def __call__(self, state: _Merging) -> None:
        if _is_set(state.asked.linux, self.name):
            state.claim(self.field)
            _set(state.adjust.linux, self.name, state.asked.linux)
            if self.is_shown:
                _set(state.container.linux, self.name, state.asked.linux)


def _take_args(state: _Merging) -> None:
    args = list(state.asked.args)
    if not args:
        return
    if args[0] == "":
        state.clear(api.Field.Args)
        args = args[1:]
    state.claim(api.Field.Args)
    if args:
        state.adjust.args[:] = args
        state.container.args[:] = args


def _take_hooks(state: _Merging) -> None:
    if state.asked.hooks.ListFields():
        state.owners.join(state.container.id, state.plugin, api.Field.OciHooks)
        state.adjust.hooks.MergeFrom(state.asked.hooks)  # which appends, stage by stage
        state.container.hooks.MergeFrom(state.asked.hooks)


def _take_resources(state: _Merging) -> None:
    asked, collected = state.asked.linux.resources, state.adjust.linux.resources
    shown = state.container.linux.resources
    for target in (collected, shown):
        target.devices.extend(asked.devices)
    _claim_resources(state.claim, asked, (collected, shown))
    _claim_simple(state.claim, _PIDS, asked, (collected, shown))


def _take_namespaces(state: _Merging) -> None:
    """Claim the type of each namespace; a mark claims like any other."""
    shown = state.container.linux.namespaces
    for namespace in state.asked.linux.namespaces:
        marked, kind = unmarked(namespace.type)
        state.claim(api.Field.Namespace, kind)
        state.adjust.linux.namespaces.append(namespace)
        _discarded(shown, {kind}, attrgetter("type"))
        if not marked:
            shown.append(namespace)


def _take_rdt(state: _Merging) -> None:
    if not state.asked.HasField("linux"):
        return
    asked, collected = state.asked.linux.rdt, state.adjust.linux.rdt
    collected.SetInParent()
    if asked.remove:
        for field in RDT_FIELDS.values():
            state.clear(field)
        collected.CopyFrom(api.LinuxRdt(remove=True))
    for name, field in RDT_FIELDS.items():
        if _is_set(asked, name):
            state.claim(field)
            _set(collected, name, asked)
            collected.remove = False


_ADJUSTMENT: tuple[_Take, ...] = (
    _Mapping(api.Field.Annotations, "annotations"),
    _List(api.Field.Mounts, "mounts", "destination", keeps_marks=True),
    _List(
        api.Field.Env,
        "env",
        "key",
        shown_key=lambda entry: entry.partition("=")[0],
        shown=lambda entry: f"{entry.key}={entry.value}",
    ),
    _take_args,
    _take_hooks,
    _List(api.Field.Devices, "linux.devices", "path"),
    _take_resources,
    _Simple(api.Field.CgroupsPath, "cgroups_path"),
    _Simple(api.Field.OomScoreAdj, "oom_score_adj"),
    _Simple(api.Field.IoPriority, "io_priority"),
    _Simple(api.Field.SeccompPolicy, "seccomp_policy"),
    _take_namespaces,
    _Mapping(api.Field.Sysctl, "linux.sysctl"),
    _Mapping(api.Field.LinuxNetDevices, "linux.net_devices"),
    _Simple(api.Field.LinuxSched, "scheduler"),
    _take_rdt,
    _Simple(api.Field.MemoryPolicy, "memory_policy", is_shown=False),
    _Appended(api.Field.Rlimits, "rlimits", "type"),
    _Appended(api.Field.CdiDevices, "CDI_devices", "name", is_shown=False),
)
"""How each part of an adjustment is merged, in the order in which conflicts are looked for."""

_MEMORY_AND_CPU = {path: field for path, field in RESOURCE_FIELDS.items() if "." in path}
_CLASSES = {path: RESOURCE_FIELDS[path] for path in ("blockio_class", "rdt_class")}
_PIDS = {"pids": RESOURCE_FIELDS["pids"]}


def _update_resources(claim: _Claim, asked: api.ContainerUpdate, draft: api.LinuxResources) -> None:
    _claim_resources(claim, asked.linux.resources, (draft,))
    # A pids limit is taken from the draft, so from the UpdateContainer request, never from the
    # plugin: one in an update is lost, and one in the request makes a second update a conflict.
    _claim_simple(claim, _PIDS, draft, ())


def _claim_resources(
    claim: _Claim, asked: api.LinuxResources, targets: tuple[api.LinuxResources, ...]
) -> None:
    """Copy what can be set at creation and in an update as well."""
    _claim_simple(claim, _MEMORY_AND_CPU, asked, targets)
    for limit in asked.hugepage_limits:
        claim(api.Field.HugepageLimits, limit.page_size)
        for target in targets:
            target.hugepage_limits.append(limit)
    for key in sorted(asked.unified):
        claim(api.Field.CgroupsUnified, key)
        for target in targets:
            target.unified[key] = asked.unified[key]
    _claim_simple(claim, _CLASSES, asked, targets)


def _claim_simple(
    claim: _Claim,
    fields: Mapping[str, int],
    asked: api.LinuxResources,
    targets: tuple[api.LinuxResources, ...],
) -> None:
    for path, field in fields.items():
        parent, _, name = path.rpartition(".")
        of: Callable[[Any], Any] = attrgetter(parent) if parent else lambda whole: whole
        if _is_set(of(asked), name):
            claim(field)
            for target in targets:
                _set(of(target), name, of(asked))


def _is_set(message: Message, name: str) -> bool:
    """Tell whether a plugin gave the field: a zero in a wrapper counts, an empty text does not."""
    return any(field.name == name for field, _ in message.ListFields())


def _set(target: Message, name: str, source: Message) -> None:
    value = getattr(source, name)
    if isinstance(value, Message):
        getattr(target, name).CopyFrom(value)
        getattr(target, name).SetInParent()
    else:
        setattr(target, name, value)


def _put(mapping: Any, key: str, value: Any) -> None:
    if isinstance(value, Message):
        mapping[key].CopyFrom(value)
    else:
        mapping[key] = value


def _discarded(entries: Any, keys: Collection[str], key_of: Callable[[Any], str]) -> list[Any]:
    """Take the entries with these keys out of a repeated field, and give them."""
    found = [number for number, entry in enumerate(entries) if key_of(entry) in keys]
    return [entries.pop(number) for number in reversed(found)]


def _fill(request: Request) -> None:
    """Add the empty parts that the adaptation adds before it asks the first plugin."""
    if isinstance(request, api.CreateContainerRequest):
        request.container.hooks.SetInParent()
        _fill_resources(request.container.linux.resources)
    elif isinstance(request, api.UpdateContainerRequest):
        _fill_resources(request.linux_resources)


def _fill_resources(resources: api.LinuxResources) -> None:
    resources.memory.SetInParent()
    resources.cpu.SetInParent()
