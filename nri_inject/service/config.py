"""A plugin's configuration: one YAML document, the same for every plugin of the suite.

A runtime hands it over as drop-in text; started by hand a plugin reads it from a file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from nri_inject.api import FailurePolicy
from nri_inject.errors import Faulty
from nri_inject.text import cpulist, yamltext
from nri_inject.text.cpulist import Cpus
from nri_inject.text.fields import (
    Fault,
    Field,
    Reader,
    integer,
    list_of,
    map_of,
    not_one_of,
    one_of,
    read_flag,
    wrong_type,
)
from nri_inject.text.glob import Pattern, pattern
from nri_inject.text.yamltext import Value

if TYPE_CHECKING:  # read only where rules stand in the configuration itself
    from nri_inject.policy.rules import Policy
    from nri_inject.policy.who import Subject, Who

Section = TypeVar("Section", "LoggerConfig", "DifferConfig")

UNRESTRICTED: Final = "unrestricted"


# --- what a value may be ------------------------------------------------------------------------


def _read_line(value: Value) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise wrong_type(value, "text of one line")
    return value


def _read_path(value: Value) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise wrong_type(value, "an absolute path")
    return value


def _read_address(value: Value) -> str:
    text = str(value) if type(value) is int or isinstance(value, str) else ""
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 1 << 16
    if not is_port or (":" in host and host[0] + host[-1] != "[]"):
        raise wrong_type(
            value, "a port, as in 9464, or an address and a port, as in 127.0.0.1:9464 and :9464"
        )
    return text


def _read_cpus(value: Value) -> Cpus:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong_type(value, "a list of CPUs, as in 0-1,8")
    try:
        return cpulist.read(str(value))
    except ValueError as error:
        raise Fault(str(error)) from error


def _read_grace(value: Value) -> int:
    return integer(0, MAX_GRACE)(value)


def _read_namespaces(value: Value) -> tuple[Pattern, ...]:
    from nri_inject.policy import impossible

    return tuple(list_of(impossible.checked(impossible.check_namespace))(value))


def _read_budget(value: Value) -> int:
    return integer(1, MAX_RESTARTS_PER_HOUR)(value)


MAX_GRACE: Final = 3600
"""How many seconds a container may have to end."""

MAX_RESTARTS_PER_HOUR: Final = 100
"""How many restarts an hour the budget of a pod may allow."""


# The type of a field says what its values may be; where it cannot, it names the reader.
AbsolutePath: TypeAlias = Annotated[str, _read_path]


@dataclass(frozen=True, slots=True)
class Cdi:
    """The settings of CDI devices.

    `mode` says where names are resolved: in the plugin, or in the runtime, which gets the names as
    they are. `dirs` are directories of spec files in rising priority, the standard's if empty.
    `container_annotations` says whether names that only the container's annotations have are judged
    by the policy like a pod's request, or trusted as the kubelet's.
    """

    mode: Literal["resolve", "native"] = "resolve"
    dirs: tuple[AbsolutePath, ...] = ()
    container_annotations: Literal["judge", "trust"] = "judge"


@dataclass(frozen=True, slots=True)
class AnnotationsConfig:
    """Whose annotations are read beside ours, with the same policy and the same audit.

    `crio` are devices.crio.io and io.kubernetes.cri-o.Devices, `gke` devices.gke.io/container.NAME,
    `nvidia` nvidia.cdi.k8s.io/container.NAME, and `cdi` the keys cdi.k8s.io/... of the pod.
    """

    crio: bool = False
    gke: bool = False
    nvidia: bool = False
    cdi: bool = True

    @property
    def adopted(self) -> frozenset[str]:
        """The words of those that are read."""
        return frozenset(each.name for each in dataclasses.fields(self) if getattr(self, each.name))


@dataclass(frozen=True, slots=True)
class Hooks:
    """How OCI hooks are had; the words are explained where they act, in hooks.match.

    `dirs` are directories of hook files in rising priority, the standard's if empty; `host_root`
    is where the host's files are seen, for a plugin that runs in a container.
    """

    dirs: tuple[AbsolutePath, ...] = ()
    host_root: AbsolutePath = "/"
    bind_mounts: Literal["real", "any"] = "real"
    empty_command: Literal["no-match", "fail"] = "no-match"
    unusable_program: Literal["skip", "fail"] = "skip"
    present: Literal["drop", "keep"] = "drop"


@dataclass(frozen=True, slots=True)
class Validator:
    """What the policy validator asks beside the policy.

    A required plugin is given as `name` or as `NN-name`; a pod's annotation of the key
    `tolerate_missing_plugins_annotation` lets it do without.
    """

    required_plugins: tuple[str, ...] = ()
    tolerate_missing_plugins_annotation: str = ""


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file of the node, by its path."""

    path: str


@dataclass(frozen=True, slots=True)
class PolicyPath(NodeFile):
    """A file with the policy.

    `on_fault` says what a process does that starts with a file that cannot be used: it denies
    everything, or keeps to the last good version.
    """

    on_fault: Literal["deny", "keep"] = "deny"


RestartAction: TypeAlias = Literal["report", "requested", "restart"]
"""What is done about a container: it is reported, restarted if its annotation requests it, or
restarted."""


@dataclass(frozen=True, slots=True)
class RestartRule:
    """What is done about the containers that a rule applies to."""

    who: Who
    action: RestartAction


@dataclass(frozen=True, slots=True)
class RestartConfig:
    """How a container is restarted: the runtime stops it, and the kubelet creates it anew.

    `cri_socket` is the runtime's socket for the kubelet. A container has `grace_seconds` to end
    after SIGTERM. `per_hour` is the budget of a pod. `excluded_namespaces` are patterns; nothing
    there is ever restarted.
    """

    cri_socket: AbsolutePath = ""
    grace_seconds: Annotated[int, _read_grace] = 30
    per_hour: Annotated[int, _read_budget] = 5
    excluded_namespaces: Annotated[tuple[Pattern, ...], _read_namespaces] = (
        pattern("kube-system"),
    )


@dataclass(frozen=True, slots=True)
class LoggerConfig:
    """What the event logger writes; the words are explained in plugins.logger.

    `log_file` empty means standard output; `namespaces` and `pods` are patterns, none for all.
    """

    events: tuple[str, ...] = ("all",)
    format: Literal["yaml", "json"] = "yaml"
    log_file: AbsolutePath = ""
    namespaces: tuple[str, ...] = ()
    pods: tuple[str, ...] = ()
    add_annotation: str = ""
    set_annotation: str = ""
    add_env: str = ""
    set_env: str = ""


@dataclass(frozen=True, slots=True)
class DifferConfig:
    """What the container differ writes.

    `indices` are the places in the order of plugins where it looks; `log_file` empty means
    standard output; `unchanged` that unchanged containers are shown, too.
    """

    indices: tuple[str, ...] = ("00", "99")
    format: Literal["text", "json"] = "text"
    log_file: AbsolutePath = ""
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class AssignerConfig:
    """The settings of the resource assigner.

    `reserved` are the CPUs of the pool for containers in `reserved_namespaces`; without any, those
    containers share with all others. With `whole_cpus`, containers of Guaranteed pods that
    request whole CPUs get them for themselves. An annotation may request no more CPUs than the
    container requests, unless its namespace is in `beyond_requests`. `memory_nodes` is whether
    memory is to come from near the CPUs. Namespaces are patterns, * and ? understood.
    """

    reserved: Annotated[Cpus, _read_cpus] = frozenset()
    reserved_namespaces: tuple[str, ...] = ("kube-system",)
    whole_cpus: bool = True
    beyond_requests: tuple[str, ...] = ()
    memory_nodes: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of an admin.

    `policy` is the policy: rules, a file of them, or the word "unrestricted", which allows every
    request; None means that it is not set, and denies everything. `log` is the target of the log:
    standard error, systemd's journal, or a file. `audit` is the target of each
    decision's record: the log, a file, or none. `on_unsupported` is for a container with a request
    that its runtime would drop in silence: it fails, or it starts without and a warning is logged.
    `on_no_answer` is for a request that the plugin does not answer: it fails, or goes on without
    the plugin. The logger and the differ never fail one. `missed` is for a container that was
    created without the plugin: it is reported, or restarted as `restart` says; of several rules the
    first that applies decides. `stale` is the same for a container whose device has changed; it may
    also be restarted if its annotation requests that. `unsafe_files` skips the check of owners
    and modes of the configuration, policy, CDI and hook files. `host_root` is the directory with
    the host's device nodes and hook programs, for a plugin that runs in a container.
    `http_address` is the address of the probes and metrics: `HOST:PORT`, `:PORT` for all addresses,
    `PORT` for the loopback address, empty for none.
    """

    policy: Annotated[Literal["unrestricted"] | PolicyPath | Policy | None, _read_policy] = None
    log: Annotated[Literal["stderr", "journal"] | NodeFile, _read_log] = "stderr"
    audit: Annotated[Literal["log", "off"] | NodeFile, _read_audit] = "log"
    on_unsupported: Literal["fail", "warn"] = "fail"
    on_no_answer: Literal["fail", "pass"] = "fail"
    missed: Annotated[RestartAction | tuple[RestartRule, ...], _read_missed] = "report"
    stale: Annotated[RestartAction | tuple[RestartRule, ...], _read_stale] = "report"
    restart: RestartConfig = RestartConfig()
    unsafe_files: bool = False
    host_root: AbsolutePath = "/"
    http_address: Annotated[str, _read_address] = ""
    cdi: Cdi = Cdi()
    annotations: AnnotationsConfig = AnnotationsConfig()
    hooks: Hooks = Hooks()
    validator: Validator = Validator()
    logger: LoggerConfig = LoggerConfig()
    differ: DifferConfig = DifferConfig()
    resource_assigner: AssignerConfig = AssignerConfig()

    @property
    def log_target(self) -> str:
        """Where the log goes, as `logs.send_to` takes it."""
        return self.log.path if isinstance(self.log, NodeFile) else self.log

    @property
    def failure_policy(self) -> FailurePolicy | None:
        """What `on_no_answer` is to a runtime; None for what runtimes do by themselves.

        A plugin that was too late once stays connected: without it later containers would start
        without what they request.
        """
        if self.on_no_answer == "pass":
            return None
        return FailurePolicy(fail_request=True, keep_connected=True)

    @property
    def has_restarts(self) -> bool:
        """Whether some missed container may be restarted."""
        return _may_restart(self.missed)

    def restarts_missed(self, subject: Subject) -> bool:
        """Tell whether this container is to be restarted if it was missed."""
        return _action(self.missed, subject) == "restart"

    def stale_action(self, subject: Subject) -> RestartAction:
        """Return what is done about this container if a device of it has changed."""
        return _action(self.stale, subject)


def _may_restart(rules: RestartAction | tuple[RestartRule, ...]) -> bool:
    actions = [rules] if isinstance(rules, str) else [rule.action for rule in rules]
    return any(action != "report" for action in actions)


def _action(rules: RestartAction | tuple[RestartRule, ...], subject: Subject) -> RestartAction:
    if isinstance(rules, str):
        return rules
    actions = (rule.action for rule in rules if rule.who.applies_to(subject))
    return next(actions, "report")


# --- from values to records ---------------------------------------------------------------------


def _read_policy(value: Value) -> Literal["unrestricted"] | PolicyPath | Policy:
    if value == UNRESTRICTED:
        return UNRESTRICTED
    if isinstance(value, dict) and "file" in value:
        return PolicyPath(**_POLICY_FILE(value))
    if not isinstance(value, dict):
        raise Fault(
            not_one_of(value, (UNRESTRICTED, _A_FILE, "rules as in docs/allow-a-device.md"))
        )
    from nri_inject.injectors.giving import read_gifts
    from nri_inject.policy import document

    return document.read_rules(value, "this node's policy", read_gifts)


def _read_audit(value: Value) -> Literal["log", "off"] | NodeFile:
    if value == "log":
        return "log"
    if value == "off" or value is False:  # YAML makes false of the word
        return "off"
    if isinstance(value, dict):
        return NodeFile(**_FILE(value))
    raise Fault(not_one_of(value, ("log", "off", _A_FILE)))


def _read_log(value: Value) -> Literal["stderr", "journal"] | NodeFile:
    if value == "stderr":
        return "stderr"
    if value == "journal":
        return "journal"
    if isinstance(value, dict):
        return NodeFile(**_FILE(value))
    raise Fault(not_one_of(value, ("stderr", "journal", _A_FILE)))


def _read_missed(value: Value) -> RestartAction | tuple[RestartRule, ...]:
    return _read_restarts(value, ("report", "restart"))


def _read_stale(value: Value) -> RestartAction | tuple[RestartRule, ...]:
    return _read_restarts(value, ("report", "requested", "restart"))


def _read_restarts(
    value: Value, actions: Sequence[RestartAction]
) -> RestartAction | tuple[RestartRule, ...]:
    if value in actions:
        return actions[actions.index(value)]
    if not isinstance(value, list):
        raise Fault(not_one_of(value, (*actions, "a list of {who: ..., action: ...}")))
    from nri_inject.policy import document

    who = Field("who", document.read_who, required=True)
    action = Field("action", one_of(*actions), required=True)
    read = map_of([who, action], strict=True)
    return tuple(list_of(lambda rule: RestartRule(**read(rule)))(value))


_A_FILE: Final = "{file: PATH}"
_PATH: Final = Field("file", _read_path, required=True, to="path")
_FILE: Final = map_of([_PATH], strict=True)
_POLICY_FILE: Final = map_of([_PATH, Field("on_fault", one_of("deny", "keep"))], strict=True)


@cache
def _reader_of(hint: Any) -> Reader[Any]:
    """Return the reader of values of a type: that of an annotation, else what the type says."""
    if get_origin(hint) is Annotated:
        read: Reader[Any] = hint.__metadata__[0]
        return read
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    if get_origin(hint) is tuple:
        read_all = list_of(_reader_of(get_args(hint)[0]))
        return lambda value: tuple(read_all(value))
    if dataclasses.is_dataclass(hint):
        return _record_of(hint)
    return read_flag if hint is bool else _read_line


def _record_of(record: Any) -> Reader[Any]:
    """Return the reader of a map whose keys are the fields of a dataclass."""
    hints = get_type_hints(record, localns={"Policy": object}, include_extras=True)
    read = map_of([Field(name, _reader_of(hint)) for name, hint in hints.items()], strict=True)
    return lambda value: record(**read(value))


# --- reading ------------------------------------------------------------------------------------


def read(text: str | bytes, source: str) -> Config:
    """Read a configuration's text; an empty one is the default.

    Raises Faulty, with all faults, for a text that is no YAML mapping, a key that no
    plugin of the suite knows, and a value that the key cannot have. `source` names the text.
    """
    return checked(read_document(text, source), source)


def read_document(text: str | bytes, source: str) -> dict[str, Value]:
    """Return the mapping that a text is, none of its values checked; Faulty if it is none."""
    try:
        document = yamltext.load(text, yamltext.OUR_FILE)
    except yamltext.YamlError as error:
        raise Faulty(f"{source}: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        wanted = f"a map of keys to values, as in `policy: {UNRESTRICTED}`"
        raise Faulty(f"{source}: {wrong_type(document, wanted)}")
    return document


def checked(document: Mapping[str, Value], source: str) -> Config:
    """Return the configuration that a document is; Faulty with everything wrong in it."""
    try:
        config: Config = _reader_of(Config)(dict(document))
    except Fault as fault:
        raise Faulty(f"{source}: {'; '.join(fault.sentences)}") from fault
    for key, rules in (("missed", config.missed), ("stale", config.stale)):
        if _may_restart(rules) and not config.restart.cri_socket:
            raise Faulty(
                f"{source}: restarts of {key} containers need the runtime's CRI socket; add it,"
                " as in restart: {cri_socket: /run/containerd/containerd.sock}"
            )
    return config


def policy_of(text: str) -> Literal["unrestricted"] | PolicyPath:
    """Return the policy that a command line names: a file, or the literal word."""
    return UNRESTRICTED if text == UNRESTRICTED else PolicyPath(text)


def with_options(section: Section, own: Mapping[str, Any]) -> Section:
    """Let options that were given on the command line count before the configuration's."""
    return dataclasses.replace(section, **{name: value for name, value in own.items() if value})
