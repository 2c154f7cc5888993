"""Turn names of CDI devices into an adjustment with the edits that NRI can carry.

Pure: it gets a snapshot of the specs, the host's device nodes and the container, and returns an
adjustment. The runtime's part is as in NRI 0.12 and runc 1.1; a runtime accepts one path,
destination or variable from a plugin once only, so the last of several wins here, as it does when
CDI itself edits a container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi import lint
from nri_inject.cdi.lookup import CdiError, anything, collect, look_up
from nri_inject.cdi.nodes import Completed, NodeFault, complete
from nri_inject.cdi.origins import OriginFault, Origins
from nri_inject.cdi.records import Edits, Hook, IntelRdt, Mount
from nri_inject.cdi.registry import Snapshot
from nri_inject.host import access, user_namespace
from nri_inject.host.hook_environment import environment
from nri_inject.host.model import (
    MAX_MAJOR,
    MAX_MINOR,
    DeviceNode,
    HostPath,
    Number,
    ProcLinkError,
)
from nri_inject.text.names import interface_fault
from nri_inject.text.paths import clean
from nri_inject.text.words import plain, quoted

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resolution:
    """The adjustment for some devices.

    `unsupported` are sentences on edits that are missing in it, because NRI or this runtime cannot
    carry them; `warnings` are about parts of it that an admin should check.
    """

    adjust: Adjustment
    unsupported: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Access:
    """The letters that a device has by NRI's own rule, and those that the spec wants."""

    has: set[str] = field(default_factory=set)
    wants: set[str] = field(default_factory=set)

    def add(self, has: Iterable[str], wants: Iterable[str]) -> None:
        self.has.update(has)
        self.wants.update(wants)


@dataclass(slots=True)
class _Work:
    """A resolution in the making."""

    devices: Mapping[str, DeviceNode]
    container: Container
    runtime: Runtime
    in_user_namespace: bool
    files: Mapping[str, HostPath]
    node_files: Mapping[str, HostPath]
    unsafe: bool
    adjust: Adjustment = field(default_factory=Adjustment)
    entry: object = None
    """The entry of the edits that is being translated."""
    faults: list[OriginFault] = field(default_factory=list)
    nodes: list[NodeFault] = field(default_factory=list)
    unsupported: list[OriginFault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    binds: dict[str, Mount] = field(default_factory=dict)
    access: dict[Number, _Access] = field(default_factory=dict)

    def fault(self, sentence: str) -> None:
        """Note what fails the container."""
        self.faults.append((sentence, self.entry))

    def drop(self, sentence: str) -> None:
        """Note an edit that cannot be carried."""
        self.unsupported.append((sentence, self.entry))

    def lacks(self, part: str) -> str:
        """Return a sentence on a part that the runtime would drop, or nothing."""
        loss = capabilities.unsupported(part, self.runtime)
        return capabilities.sentence(loss, self.runtime) if loss else ""


_NO_CONTAINER: Final = Container()
_NO_FILES: Final[Mapping[str, HostPath]] = {}


def resolve(
    wanted: Iterable[str],
    snapshot: Snapshot,
    devices: Mapping[str, DeviceNode],
    *,
    files: Mapping[str, HostPath] = _NO_FILES,
    node_files: Mapping[str, HostPath] | None = None,
    unsafe: bool = False,
    container: Container = _NO_CONTAINER,
    runtime: Runtime = NEWEST,
    is_shown: Callable[[str], bool] = anything,
) -> Resolution:
    """Return what these names mean for a container.

    `container` tells its user, namespaces and hooks. `files` are the host's: a path of a spec that
    does not exist is an error, and one that other users than root could redirect, unless `unsafe`,
    and so is a link on procfs; `node_files` are the same for device nodes, if it takes something
    else to redirect those. CdiError has
    everything that is wrong; edits that cannot be carried are not wrong, but listed: whether they
    may be left out is the caller's to say. `is_shown` tells which devices an error may name beside
    those that are requested.
    """
    found = look_up(wanted, snapshot, is_shown)
    edits = collect(found)
    work = _Work(
        devices,
        container,
        runtime,
        user_namespace.is_in_one(container),
        files,
        files if node_files is None else node_files,
        unsafe,
    )
    origins = Origins(found)
    for file in dict.fromkeys(device.file for device in found):
        _check_owners(file, f"CDI spec {quoted(file)}", work, files, runs=True)
    for translate in (_env, _nodes, _mounts, _hooks, _net_devices, _rdt):
        work.entry = None
        translate(edits, work)
    _gids(origins, work)
    if work.faults:
        raise CdiError(origins.named(work.faults), nodes=work.nodes)
    unsupported = tuple(origins.named(work.unsupported))
    return Resolution(work.adjust, unsupported, tuple(work.warnings))


def _removes(text: str, what: str, work: _Work) -> bool:
    """Note a text that NRI would take for a mark of removal."""
    if not text.startswith("-"):
        return False
    work.fault(f"{what} {quoted(text)} begins with '-', which NRI reads as a removal")
    return True


def _is_path(text: str, what: str, work: _Work) -> bool:
    if _removes(text, what, work):
        return False
    if not text.startswith("/") or "\0" in text:
        work.fault(f"{what} {quoted(text)} is not an absolute path")
        return False
    return True


def _by_place(given: Iterable[tuple[str, T]], what: str, work: _Work) -> dict[str, T]:
    """Return things by their paths in the container, in order; of several at one the last."""
    by_place: dict[str, T] = {}
    for path, thing in given:
        work.entry = thing
        if _is_path(path, what, work):
            place = clean(path)
            by_place.pop(place, None)
            by_place[place] = thing
    return by_place


def _check_owners(
    path: str, what: str, work: _Work, files: Mapping[str, HostPath], *, runs: bool = False
) -> None:
    """Note that other users than root could change where a path of a spec leads.

    The path keeps its text, and may be one that only the runtime can see. A program (`runs`) must
    not be theirs to write either.
    """
    if work.unsafe:
        return
    try:
        place = files[path]
    except ProcLinkError as error:
        work.fault(f"{what}: {error.args[0]}, which differs for each process")
        return
    except KeyError:
        return
    if place.doubt is not None:
        work.fault(f"{what}: others can redirect {quoted(path)}: {place.doubt}")
    elif runs and place.writable_by is not None:
        work.fault(f"{what}: others can change {quoted(path)}: {place.writable_by}")


def _check_presence(path: str, front: str, work: _Work) -> None:
    """Note a path that the host does not have: runc would fail the container, in words of its own.

    A path that the plugin cannot see may be there for the runtime.
    """
    if why := lint.absent_file(path, work.files):
        work.fault(f"{front} {why}")


def _env(edits: Edits, work: _Work) -> None:
    values: dict[str, str] = {}
    for entry in edits.env:
        name, _, value = entry.partition("=")
        if not _removes(name, "variable", work):
            values[name] = value
    work.adjust.env.extend(api.KeyValue(key=name, value=value) for name, value in values.items())


# --- device nodes -------------------------------------------------------------------------------


def _nodes(edits: Edits, work: _Work) -> None:
    nodes = _by_place(((node.path, node) for node in edits.device_nodes), "device node", work)
    for place, given in nodes.items():
        work.entry = given
        node = complete(given, work.devices)
        if isinstance(node, NodeFault):
            work.fault(node.sentence)
            work.nodes.append(node)
            continue
        if node.warning:
            work.warnings.append(node.warning)
        if node.host is not None:
            _check_owners(node.source, f"device node {quoted(node.path)}", work, work.node_files)
        _node(node if node.path == place else node._replace(path=place), work)
    work.entry = None
    _set_access(work)


def _node(node: Completed, work: _Work) -> None:
    """Add a node, as a device or as a mount of the host's, and note the access it is to have."""
    kind = node.type.replace("u", "c")
    if kind == "p":
        # The runtime makes a cgroup rule for any device, and runc refuses one for a fifo.
        if node.host is not None:
            _bind(node, work)
        else:
            work.fault(
                f"device node {quoted(node.path)}: a fifo must be mounted from the host,"
                f" which has no {quoted(node.source)}"
            )
        return
    if not 0 <= node.major <= MAX_MAJOR or not 0 <= node.minor <= MAX_MINOR:
        work.fault(
            f"device node {quoted(node.path)}: no device has number {node.major}:{node.minor}"
        )
        return
    number = (kind, node.major, node.minor)
    if work.in_user_namespace:
        if not _is_as_on_host(node, number, work):
            return
        if clean(node.source) != node.path:
            _bind(node, work)
            work.access.setdefault(number, _Access()).add("", node.access)
            return
    device = api.LinuxDevice(path=node.path, type=kind, major=node.major, minor=node.minor)
    if node.file_mode is not None:
        device.file_mode.value = node.file_mode
    for name in ("uid", "gid"):
        owner = _owner(node, name, work.container)
        if owner is not None:
            getattr(device, name).value = owner
    work.adjust.linux.devices.append(device)
    work.access.setdefault(number, _Access()).add(access.AUTOMATIC[kind], node.access)


def _is_as_on_host(node: Completed, number: Number, work: _Work) -> bool:
    """Tell whether a node is the host's own in a user namespace; note the fault if it is not."""
    host, front = node.host, f"device node {quoted(node.path)}: "
    if host is None:
        why = user_namespace.not_the_hosts(f"the host has no {quoted(node.source)}")
        work.fault(front + why)
        return False
    other = user_namespace.other_device(node.source, number, host)
    if other:
        work.fault(front + other)
        return False
    changes = [user_namespace.other_mode("fileMode", node.file_mode, host)]
    changes += [
        user_namespace.other_owner(name)
        for name in ("uid", "gid")
        if getattr(node, name) not in (None, getattr(host, name))
    ]
    for change in filter(None, changes):
        work.drop(front + change)
    if warning := user_namespace.closed(node.source, node.access, host):
        work.warnings.append(warning)
    return True


def _owner(node: Completed, name: str, container: Container) -> int | None:
    """Return the spec's owner, or else the container's user if that is not root."""
    given: int | None = getattr(node, name)
    return given if given is not None else getattr(container.user, name) or None


def _bind(node: Completed, work: _Work) -> None:
    work.binds[node.path] = Mount(node.source, node.path, ("bind",), "bind")


def _set_access(work: _Work) -> None:
    """Make the access to each device what its spec says.

    NRI's own rule allows rw, for block devices rwm. Two nodes of one device have the access of
    both.
    """
    loss = work.lacks("device rules")
    for number, letters in work.access.items():
        why = access.refusal(number, letters.wants)
        # Making nodes (m) is what runc and crun allow any container, for each device there is.
        if loss and (letters.has - letters.wants or letters.wants - letters.has - {"m"}):
            why = loss
        if why:
            kind, major, minor = number
            allowed = access.letters(letters.wants) or "none"
            work.drop(f"access {allowed} to {kind} {major}:{minor}: {why}")
        elif not loss:
            rules_of = access.rules(number, letters.has, letters.wants)
            work.adjust.linux.resources.devices.extend(rules_of)


# --- mounts -------------------------------------------------------------------------------------

_PROPAGATIONS: Final = frozenset({"rprivate", "rshared", "rslave"})


def _mounts(edits: Edits, work: _Work) -> None:
    given = (*work.binds.values(), *edits.mounts)
    by_place = _by_place(((mount.container_path, mount) for mount in given), "mount to", work)
    mounts = [_mount(place, mount, work) for place, mount in by_place.items()]
    # NRI 0.12 takes the propagation of one mount for that of the ones after it that have none.
    mounts.sort(key=lambda mount: not _PROPAGATIONS.isdisjoint(mount.options))
    work.adjust.mounts.extend(mounts)


def _mount(place: str, mount: Mount, work: _Work) -> api.Mount:
    work.entry = mount
    options = [*mount.options]
    bound = [option for option in options if option in ("bind", "rbind")]
    if not bound and mount.type in ("", "bind", "none"):
        # Only a bind mount is left, and runc needs the option.
        options.append("bind")
        bound = ["bind"]
    if bound:
        if _is_path(mount.host_path, "mount from", work):
            what = f"mount to {quoted(place)}"
            _check_owners(mount.host_path, what, work, work.files)
            _check_presence(mount.host_path, f"{what}:", work)
        # devtmpfs, where device nodes are, cannot be mapped.
        is_node = mount is work.binds.get(place)
        if work.in_user_namespace and not is_node and not {"idmap", "ridmap"} & {*options}:
            options.append("ridmap" if bound[-1] == "rbind" else "idmap")
    return api.Mount(source=mount.host_path, destination=place, type=mount.type, options=options)


# --- hooks, network devices and the rest --------------------------------------------------------

_HOOK_FIELDS: Final = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}


def _hooks(edits: Edits, work: _Work) -> None:
    for given in edits.hooks:
        work.entry = given
        if not _is_path(given.path, f"{given.hook_name} hook", work):
            continue
        stage = _HOOK_FIELDS[given.hook_name]
        if given.hook_name != "startContainer":  # which runs in the container's own file tree
            what = f"{given.hook_name} hook"
            _check_owners(given.path, what, work, work.files, runs=True)
            _check_presence(given.path, f"{what}: program", work)
        hook = _hook(given, environment(given.env))
        # The runtime may have resolved the same device for an annotation that it reads itself. All
        # other edits then replace themselves. It leaves a hook without `env` as it is.
        present = getattr(work.container.hooks, stage)
        if hook not in present and _hook(given, given.env) not in present:
            getattr(work.adjust.hooks, stage).append(hook)


def _hook(given: Hook, env: Sequence[str]) -> api.Hook:
    hook = api.Hook(path=given.path, args=given.args, env=env)
    if given.timeout is not None:
        hook.timeout.value = given.timeout
    return hook


def _net_devices(edits: Edits, work: _Work) -> None:
    inside: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for device in edits.net_devices:
        host, name = device.host_interface_name, device.name
        if pairs.setdefault(host, name) != name:
            both = f"{quoted(pairs[host])} and {quoted(name)}"
            work.fault(f"network device {quoted(host)} would be both {both}")
    for host, name in pairs.items():
        for text in (host, name):
            if not _removes(text, "network device", work) and (fault := interface_fault(text)):
                work.fault(f"network device: {quoted(text)} {fault}")
        if name in inside:
            both = f"{quoted(inside[name])} and {quoted(host)}"
            work.fault(f"network devices {both} would both be {quoted(name)}")
        inside[name] = host
    loss = work.lacks("net_devices") if pairs else ""
    if loss:
        work.drop(f"network devices {', '.join(map(plain, pairs))}: {loss}")
        return
    for host, name in pairs.items():
        work.adjust.linux.net_devices[host].name = name


def _rdt(edits: Edits, work: _Work) -> None:
    rdt = edits.intel_rdt
    if rdt is None:
        return
    lines = _schemata(rdt)
    loss = work.lacks("rdt")
    if not loss:
        # CDI replaces the container's object; NRI sets field by field what is not removed first.
        carried = work.adjust.linux.rdt
        carried.remove = True
        if rdt.clos_id:
            carried.clos_id.value = rdt.clos_id
        if lines is not None:
            carried.schemata.value.extend(lines)
            carried.schemata.SetInParent()
        if rdt.enable_monitoring:
            carried.enable_monitoring.value = True
    elif rdt.clos_id and not lines and not rdt.enable_monitoring:
        work.adjust.linux.resources.rdt_class.value = rdt.clos_id
    else:
        work.drop(f"intelRdt: {loss}")


def _schemata(rdt: IntelRdt) -> list[str] | None:
    """Return all lines for one file: in OCI, too, the three keys are parts of it."""
    own = [text for text in (rdt.l3_cache_schema, rdt.mem_bw_schema) if text]
    lines = [line for text in own for line in text.splitlines()]
    if rdt.schemata is None and not lines:
        return None
    return [*lines, *(rdt.schemata or ())]


def _gids(origins: Origins, work: _Work) -> None:
    """Note the groups that the container's user lacks, since NRI cannot add them.

    Root needs none to open a device. A runtime with NRI before 0.11 does not tell the user, and
    many a container of it is root: such a container starts, and the log has a warning.
    """
    knows_user = work.container.HasField("user") and work.runtime.nri >= _TELLS_USER
    if knows_user and work.container.user.uid == 0:
        return
    has = {0, work.container.user.gid, *work.container.user.additional_gids}
    for _, edits in origins.parts:
        gids = [*dict.fromkeys(gid for gid in edits.additional_gids if gid not in has)]
        work.entry = edits
        front = f"additionalGids {', '.join(map(str, gids))}: NRI cannot add groups to a container"
        if gids and (knows_user or work.container is _NO_CONTAINER):
            native = "" if work.lacks("CDI_devices") else " or cdi.mode: native"
            work.drop(
                f"{front}; add {lint.supplemental(gids)} to the pod's securityContext, or set"
                f" on_unsupported: warn{native} in the plugin's configuration"
            )
        elif gids:
            work.warnings += origins.named(
                [(f"{front}; one that is not root lacks them, unless its pod has them", edits)]
            )


_TELLS_USER: Final[capabilities.Version] = (0, 11, 0)
"""The first NRI that has the container's user; containerd fills it in from 2.3.0 on."""
