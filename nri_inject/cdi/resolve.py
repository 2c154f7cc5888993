"""Turn names of CDI devices into what NRI can carry of their edits.

Pure: a snapshot of the specs, the host's device nodes and the container come in, an adjustment
goes out. What the runtime makes of an adjustment is as in NRI 0.12 and runc 1.1; it takes one
path, destination or variable from a plugin once only, so the last of several wins here, as it
does when CDI itself edits a container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, NamedTuple

from nri_inject import api, capabilities
from nri_inject.api import Adjustment, Container
from nri_inject.capabilities import NEWEST, Runtime
from nri_inject.cdi import names
from nri_inject.cdi import records as specs
from nri_inject.cdi.records import Edits, Hook, IntelRdt, Mount
from nri_inject.cdi.registry import CdiDevice, Snapshot
from nri_inject.errors import RequestError
from nri_inject.host import access, user_namespace
from nri_inject.host.hook_environment import environment
from nri_inject.host.model import DeviceNode, NotADevice, HostPath, ProcLinkError
from nri_inject.text.names import interface_fault
from nri_inject.text.paths import clean
from nri_inject.text.words import listed, meant, plain, quoted


@dataclass(frozen=True, slots=True)
class NodeFault:
    """Why a device node cannot be made.

    `code` is host-device-missing, not-a-device or type-mismatch, `path` the one in the
    container, `host_path` the one that was looked at; the types are set for a mismatch.
    """

    code: str
    path: str
    host_path: str
    sentence: str
    spec_type: str = ""
    host_type: str = ""


class CdiError(RequestError):
    """Say why devices cannot be given: which names are unknown, or which nodes are wrong."""

    def __init__(
        self,
        faults: Iterable[str],
        *,
        unresolved: Sequence[str] = (),
        nodes: Sequence[NodeFault] = (),
    ) -> None:
        super().__init__(faults)
        self.unresolved = tuple(unresolved)
        self.nodes = tuple(nodes)


# --- names --------------------------------------------------------------------------------------

# A hint compares a name with many known ones, a tenth of a millisecond each.
_MAX_HINTS: Final = 3
_MAX_COMPARED: Final = 100
_MAX_LISTED: Final = 8


def anything(_name: str) -> bool:
    """Show every device to the reader of an error: the node's admin, or a test."""
    return True


def look_up(
    wanted: Iterable[str], snapshot: Snapshot, is_shown: Callable[[str], bool] = anything
) -> list[CdiDevice]:
    """Return the devices of these names, each once; CdiError names all that are unknown.

    `is_shown` tells whether the reader of an error may learn that the node has a device.
    """
    asked = [*wanted]
    devices = snapshot.devices
    unknown = [name for name in asked if name not in devices]
    if not unknown:
        return [devices[name] for name in dict.fromkeys(asked)]
    shown = cache(is_shown)
    hints = (_hint(name, snapshot, shown) for name in dict.fromkeys(unknown))
    sentences = [
        f"no CDI device {quoted(name)}{next(hints) if number < _MAX_HINTS else ''}"
        for number, name in enumerate(dict.fromkeys(unknown))
    ]
    raise CdiError(sentences, unresolved=unknown)


def _hint(name: str, snapshot: Snapshot, is_shown: Callable[[str], bool]) -> str:
    """Say what may have been meant, and what may be the cause."""
    if name in snapshot.conflicts:
        files = " and ".join(map(plain, snapshot.conflicts[name]))
        return f": {files} both define it, so neither counts"
    if "," in name:
        return "; make each name an item of its own"
    parts = names.split(name)
    if not parts.vendor:
        return "; a name looks like vendor.com/class=name"
    clauses = [_near(parts, snapshot, is_shown), *_causes(parts, snapshot)]
    return "".join(f"; {clause}" for clause in clauses if clause)


def _near(parts: names.QualifiedName, snapshot: Snapshot, is_shown: Callable[[str], bool]) -> str:
    kind = f"{parts.vendor}/{parts.class_}"
    siblings = sorted(known for known in snapshot.devices if known.startswith(f"{kind}="))
    shown = filter(is_shown, siblings[:_MAX_COMPARED])
    stems = [sibling.partition("=")[2] for sibling in shown]
    if stems:
        near = meant(parts.device, stems)
        if near:
            return f"did you mean {kind + '=' + near!r}?"
        return f"known of {plain(kind)}: {listed(stems, _MAX_LISTED)}"
    if not snapshot.devices:
        return "no device is known at all"
    # One device of each kind is asked for: there can be ten thousand.
    one_of = {known.partition("=")[0]: known for known in sorted(snapshot.devices, reverse=True)}
    kinds = [one for one in sorted(one_of)[:_MAX_COMPARED] if is_shown(one_of[one])]
    near = meant(kind, kinds)
    if near:
        return f"did you mean {near + '=' + parts.device!r}?"
    return f"known kinds: {listed(kinds, _MAX_LISTED)}" if kinds else ""


def _causes(parts: names.QualifiedName, snapshot: Snapshot) -> Iterator[str]:
    """Name the files that might have the device if they were sound, and directories likewise."""
    kind = f"{parts.vendor}/{parts.class_}"
    for file in snapshot.files:
        errors = file.errors
        if errors and file.kind in ("", kind):
            yield f"{plain(file.path)} is in error: {errors[0]}"
    for directory in snapshot.priorities:
        if directory in snapshot.errors:
            yield f"{plain(directory)} {snapshot.errors[directory][0]}"
        elif directory in snapshot.missing:
            yield f"{plain(directory)} does not exist"


# --- edits --------------------------------------------------------------------------------------


def collect(devices: Iterable[CdiDevice]) -> Edits:
    """Join the edits of devices: those of a file once, before its first device.

    Of several intelRdt objects the last counts, as a whole.
    """
    parts: list[Edits] = []
    files: set[str] = set()
    for device in devices:
        if device.file not in files:
            files.add(device.file)
            parts.append(device.spec_edits)
        parts.append(device.edits)
    rdt = [part.intel_rdt for part in parts if part.intel_rdt is not None]
    return Edits(
        env=tuple(entry for part in parts for entry in part.env),
        device_nodes=tuple(node for part in parts for node in part.device_nodes),
        net_devices=tuple(device for part in parts for device in part.net_devices),
        mounts=tuple(mount for part in parts for mount in part.mounts),
        hooks=tuple(hook for part in parts for hook in part.hooks),
        intel_rdt=rdt[-1] if rdt else None,
        additional_gids=tuple(gid for part in parts for gid in part.additional_gids),
    )


class Node(NamedTuple):
    """A device node with all that the host had to tell; `source` is its path there.

    `host` is the node there, if the host has one. `access` has letters of rwm, in the spec's order.
    """

    path: str
    source: str
    type: str
    major: int
    minor: int
    file_mode: int | None
    uid: int | None
    gid: int | None
    access: str
    host: DeviceNode | None


def complete(
    node: specs.DeviceNode, devices: Mapping[str, DeviceNode]
) -> tuple[Node | None, NodeFault | None, str]:
    """Return a node with what the host adds to it, or why not; and a warning or nothing.

    The host is asked each time: what stood there yesterday is not remembered. A major number of
    0 counts as absent. Type and numbers that are given stay, even if the host has others.
    """
    source = node.host_path or node.path
    given = node.type
    whole = given == "p" or bool(given and node.major)
    fault: NodeFault | None = None
    host: DeviceNode | None = None
    try:
        host = devices[source]
    except NotADevice as error:
        sentence = f"device node {quoted(node.path)}: {quoted(source)} {plain(error.why)}"
        fault = NodeFault("not-a-device", node.path, source, sentence)
    except KeyError:
        sentence = f"device node {quoted(node.path)}: the host has no {quoted(source)}"
        fault = NodeFault("host-device-missing", node.path, source, sentence)
    if host is None:
        return (_made(node, source, None), None, "") if whole else (None, fault, "")
    # `u` is a character device without a buffer, which Linux does not tell from others.
    if given and host.type != given.replace("u", "c") and not whole:
        sentence = (
            f"device node {quoted(node.path)}: the spec has type {given},"
            f" but {quoted(source)} on the host has {host.type}"
        )
        return (
            None,
            NodeFault("type-mismatch", node.path, source, sentence, given, host.type),
            "",
        )
    return _made(node, source, host), None, _difference(node, source, host)


def _made(node: specs.DeviceNode, source: str, host: DeviceNode | None) -> Node:
    kind = node.type or (host.type if host else "")
    major, minor = node.major, node.minor
    if host and not major and kind != "p":
        major, minor = host.major, host.minor
    mode = node.file_mode if node.file_mode is not None or host is None else host.mode
    access = "" if node.permissions == "none" else node.permissions or "rwm"
    uid, gid = node.uid, node.gid
    return Node(node.path, source, kind, major, minor, mode, uid, gid, access, host)


def _difference(node: specs.DeviceNode, source: str, host: DeviceNode) -> str:
    """Warn of a node that is another device than the host's of that path."""
    if not node.major or node.type == "p":
        return ""
    kind = (node.type or host.type).replace("u", "c")
    if (kind, node.major, node.minor) == (host.type, host.major, host.minor):
        return ""
    return (
        f"device node {quoted(node.path)} is {kind} {node.major}:{node.minor}, but"
        f" {quoted(source)} on the host is {host.type} {host.major}:{host.minor}"
    )


# --- the adjustment -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resolution:
    """What devices become.

    `unsupported` are sentences on edits that the adjustment does not have, because NRI or this
    runtime cannot carry them; `warnings` on what it has and somebody should look at.
    """

    adjust: Adjustment
    unsupported: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Work:
    """A resolution in the making."""

    devices: Mapping[str, DeviceNode]
    container: Container
    runtime: Runtime
    in_user_namespace: bool
    files: Mapping[str, HostPath]
    node_files: Mapping[str, HostPath]
    adjust: Adjustment = field(default_factory=Adjustment)
    faults: list[str] = field(default_factory=list)
    nodes: list[NodeFault] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    binds: dict[str, Mount] = field(default_factory=dict)

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
    container: Container = _NO_CONTAINER,
    runtime: Runtime = NEWEST,
    is_shown: Callable[[str], bool] = anything,
) -> Resolution:
    """Return what these names mean for a container.

    `container` tells its user, namespaces and hooks. `files` are the host's: a path of a spec that
    other users than root could redirect is an error, and so is a link on procfs; `node_files` are
    the same for device nodes, if it takes something else to redirect those. CdiError has
    everything that is wrong; edits that cannot be carried are not wrong, but listed: whether they
    may be left out is the caller's to say. `is_shown` tells which devices an error may name beside
    those that are asked for.
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
    )
    for file in dict.fromkeys(device.file for device in found):
        _check_owners(file, f"CDI spec {quoted(file)}", work, files, runs=True)
    for translate in (_env, _nodes, _mounts, _hooks, _net_devices, _rdt, _gids):
        translate(edits, work)
    if work.faults:
        raise CdiError(work.faults, nodes=work.nodes)
    return Resolution(work.adjust, tuple(work.unsupported), tuple(work.warnings))


def _removes(text: str, what: str, work: _Work) -> bool:
    """Note a text that NRI would take for a mark of removal."""
    if not text.startswith("-"):
        return False
    work.faults.append(f"{what} {quoted(text)} begins with '-', which asks NRI for a removal")
    return True


def _is_path(text: str, what: str, work: _Work) -> bool:
    if _removes(text, what, work):
        return False
    if not text.startswith("/") or "\0" in text:
        work.faults.append(f"{what} {quoted(text)} is not an absolute path")
        return False
    return True


def _check_owners(
    path: str, what: str, work: _Work, files: Mapping[str, HostPath], *, runs: bool = False
) -> None:
    """Note that other users than root could change where a path of a spec leads.

    The path keeps its text, and may be one that only the runtime can see. A program (`runs`) must
    not be theirs to write either.
    """
    try:
        place = files[path]
    except ProcLinkError as error:
        work.faults.append(f"{what}: {error.args[0]}, which leads each process elsewhere")
        return
    except KeyError:
        return
    if place.doubt is not None:
        work.faults.append(f"{what}: others could lead {quoted(path)} elsewhere: {place.doubt}")
    elif runs and place.writable_by is not None:
        work.faults.append(f"{what}: others could rewrite {quoted(path)}: {place.writable_by}")


def _env(edits: Edits, work: _Work) -> None:
    values: dict[str, str] = {}
    for entry in edits.env:
        name, _, value = entry.partition("=")
        if not _removes(name, "variable", work):
            values[name] = value
    work.adjust.env.extend(api.KeyValue(key=name, value=value) for name, value in values.items())


# --- device nodes -------------------------------------------------------------------------------


def _nodes(edits: Edits, work: _Work) -> None:
    last: dict[str, specs.DeviceNode] = {}
    for given in edits.device_nodes:
        if _is_path(given.path, "device node", work):
            place = clean(given.path)
            last.pop(place, None)
            last[place] = given
    rules: dict[access.Number, list[tuple[str, str]]] = {}
    for place, given in last.items():
        node, fault, warning = complete(given, work.devices)
        if fault is not None:
            work.faults.append(fault.sentence)
            work.nodes.append(fault)
        if warning:
            work.warnings.append(warning)
        if node is not None and node.host is not None:
            _check_owners(node.source, f"device node {quoted(node.path)}", work, work.node_files)
        if node is not None:
            _node(node if node.path == place else node._replace(path=place), work, rules)
    _access(rules, work)


def _node(node: Node, work: _Work, rules: dict[access.Number, list[tuple[str, str]]]) -> None:
    """Add a node, as a device or as a mount of the host's, and note the access it is to have."""
    kind = node.type.replace("u", "c")
    if kind == "p":
        # The runtime makes a cgroup rule for any device, and runc refuses one for a fifo.
        if node.host is not None:
            _bind(node, work)
        else:
            work.faults.append(
                f"device node {quoted(node.path)}: a fifo has to be mounted from the host,"
                f" which has no {quoted(node.source)}"
            )
        return
    if not 0 <= node.major < 2**12 or not 0 <= node.minor < 2**20:
        work.faults.append(
            f"device node {quoted(node.path)}: no device has number {node.major}:{node.minor}"
        )
        return
    number = (kind, node.major, node.minor)
    if work.in_user_namespace:
        if not _is_as_on_host(node, number, work):
            return
        if clean(node.source) != node.path:
            _bind(node, work)
            rules.setdefault(number, []).append(("", node.access))
            return
    device = api.LinuxDevice(path=node.path, type=kind, major=node.major, minor=node.minor)
    if node.file_mode is not None:
        device.file_mode.value = node.file_mode
    for name in ("uid", "gid"):
        owner = _owner(node, name, work.container)
        if owner is not None:
            getattr(device, name).value = owner
    work.adjust.linux.devices.append(device)
    rules.setdefault(number, []).append((access.letters(access.AUTOMATIC[kind]), node.access))


def _is_as_on_host(node: Node, number: access.Number, work: _Work) -> bool:
    """Note what keeps a node from being the host's own in a user namespace; tell if it is."""
    host, front = node.host, f"device node {quoted(node.path)}: "
    if host is None:
        why = user_namespace.not_the_hosts(f"the host has no {quoted(node.source)}")
        work.faults.append(front + why)
        return False
    other = user_namespace.other_device(node.source, number, host)
    if other:
        work.faults.append(front + other)
        return False
    changes = [user_namespace.other_mode("fileMode", node.file_mode, host)]
    changes += [
        user_namespace.other_owner(name)
        for name in ("uid", "gid")
        if getattr(node, name) not in (None, getattr(host, name))
    ]
    work.unsupported += [front + change for change in changes if change]
    if warning := user_namespace.closed(node.source, node.access, host):
        work.warnings.append(warning)
    return True


def _owner(node: Node, name: str, container: Container) -> int | None:
    """Return the spec's owner, or else the container's user if that is not root."""
    given: int | None = getattr(node, name)
    return given if given is not None else getattr(container.user, name) or None


def _bind(node: Node, work: _Work) -> None:
    work.binds[node.path] = Mount(node.source, node.path, ("bind",), "bind")


def _access(rules: Mapping[access.Number, list[tuple[str, str]]], work: _Work) -> None:
    """Make the access to each device what its spec says.

    NRI's own rule allows rw, for block devices rwm. Two nodes of one device have the access of
    both.
    """
    loss = work.lacks("device rules")
    for number, pairs in rules.items():
        automatic = set().union(*(has for has, _ in pairs))
        wanted = set().union(*(wants for _, wants in pairs))
        why = access.refusal(number, wanted)
        # Making nodes (m) is what runc and crun allow any container, for each device there is.
        if loss and (automatic - wanted or wanted - automatic - {"m"}):
            why = loss
        if why:
            kind, major, minor = number
            allowed = access.letters(wanted) or "none"
            work.unsupported.append(f"access {allowed} to {kind} {major}:{minor}: {why}")
        elif not loss:
            rules_of = access.rules(number, automatic, wanted)
            work.adjust.linux.resources.devices.extend(rules_of)


# --- mounts -------------------------------------------------------------------------------------

_PROPAGATIONS: Final = frozenset({"rprivate", "rshared", "rslave"})


def _mounts(edits: Edits, work: _Work) -> None:
    last = dict(work.binds)
    for given in edits.mounts:
        if _is_path(given.container_path, "mount to", work):
            place = clean(given.container_path)
            last.pop(place, None)
            last[place] = given
    mounts = [_mount(place, mount, work) for place, mount in last.items()]
    # NRI 0.12 takes the propagation of one mount for that of the ones after it that have none.
    mounts.sort(key=lambda mount: not _PROPAGATIONS.isdisjoint(mount.options))
    work.adjust.mounts.extend(mounts)


def _mount(place: str, mount: Mount, work: _Work) -> api.Mount:
    options = [*mount.options]
    bound = [option for option in options if option in ("bind", "rbind")]
    if not bound and mount.type in ("", "bind", "none"):
        # Nothing but a bind mount is left that this can be, and runc wants to be told.
        options.append("bind")
        bound = ["bind"]
    if bound:
        if _is_path(mount.host_path, "mount from", work):
            _check_owners(mount.host_path, f"mount to {quoted(place)}", work, work.files)
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
        if not _is_path(given.path, f"{given.hook_name} hook", work):
            continue
        stage = _HOOK_FIELDS[given.hook_name]
        if given.hook_name != "startContainer":  # which runs in the container's own file tree
            _check_owners(given.path, f"{given.hook_name} hook", work, work.files, runs=True)
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
            work.faults.append(f"network device {quoted(host)} would be both {both}")
    for host, name in pairs.items():
        for text in (host, name):
            if not _removes(text, "network device", work) and (fault := interface_fault(text)):
                work.faults.append(f"network device: {quoted(text)} {fault}")
        if name in inside:
            both = f"{quoted(inside[name])} and {quoted(host)}"
            work.faults.append(f"network devices {both} would both be {quoted(name)}")
        inside[name] = host
    loss = work.lacks("net_devices") if pairs else ""
    if loss:
        work.unsupported.append(f"network devices {', '.join(map(plain, pairs))}: {loss}")
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
        work.unsupported.append(f"intelRdt: {loss}")


def _schemata(rdt: IntelRdt) -> list[str] | None:
    """Return all lines for one file: in OCI, too, the three keys are parts of it."""
    own = [text for text in (rdt.l3_cache_schema, rdt.mem_bw_schema) if text]
    lines = [line for text in own for line in text.splitlines()]
    if rdt.schemata is None and not lines:
        return None
    return [*lines, *(rdt.schemata or ())]


def _gids(edits: Edits, work: _Work) -> None:
    gids = dict.fromkeys(gid for gid in edits.additional_gids if gid)
    if gids:
        listed = ", ".join(map(str, gids))
        work.unsupported.append(f"additionalGids {listed}: NRI cannot add groups to a container")
