"""Read the value of a CDI spec's text into records, and note everything that is wrong in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nri_inject.cdi import names
from nri_inject.cdi.records import (
    NO_ANNOTATIONS,
    NO_EDITS,
    VERSIONS,
    Edits,
    Hook,
    IntelRdt,
    Mount,
    NetDevice,
    Spec,
    SpecDevice,
    SpecNode,
)
from nri_inject.host.model import MAX_MAJOR, MAX_MINOR
from nri_inject.text.fields import (
    Fault,
    Field,
    Findings,
    Map,
    Reader,
    Values,
    integer,
    not_one_of,
    number_text,
    read_flag,
    wrong_type,
)
from nri_inject.text.names import interface_fault
from nri_inject.text.words import quoted
from nri_inject.text.yamlscalars import as_text
from nri_inject.text.yamltext import Value

ORDER: Final = {version: number for number, version in enumerate(VERSIONS)}
"""The place of each version in their order."""
_MOUNT_TYPE: Final = ORDER["0.4.0"]
_HOST_PATH: Final = ORDER["0.5.0"]
_DIGIT_FIRST: Final = ORDER["0.5.0"]
_ANNOTATIONS: Final = ORDER["0.6.0"]
_DOT_IN_CLASS: Final = ORDER["0.6.0"]
_RDT: Final = ORDER["0.7.0"]
_GIDS: Final = ORDER["0.7.0"]
_NET_DEVICES: Final = ORDER["1.1.0"]
_SCHEMATA: Final = ORDER["1.1.0"]

HOOK_NAMES: Final = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
"""The stages of an OCI hook, as CDI spells them."""

DROPPED: Final = ("enableCMT", "enableMBM")
"""Keys of intelRdt that CDI 0.7.0 brought and CDI 1.1.0 took out."""

_UINT32: Final = integer(0, 2**32 - 1)
_INT64: Final = integer(-(2**63), 2**63 - 1)

_PERMISSIONS: Final = re.compile("[rwm]*|none").fullmatch
_TYPES: Final = ("b", "c", "u", "p")
_MAX_CLOS_ID: Final = 4095  # bytes; the Go library's limit
_MAX_FILE_NAME: Final = 255  # bytes
_MAX_ANNOTATIONS: Final = 256 * 1024  # bytes, keys and values together (Kubernetes)
_ANNOTATION: Final = re.compile(
    r"(?:(?=[^/]{1,253}/)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
    r"(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*/)?"
    r"(?=[^/]{1,63}\Z)[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?"
)


class SpecReader:
    """Reads one document.

    `found` has what is wrong, each with its place. `minimum` is the lowest version, as its place
    in the order of versions, that has all that the document uses.
    """

    def __init__(self) -> None:
        self.found: Final = Findings()
        self.minimum = ORDER["0.3.0"]

    def read(self, value: Value) -> Spec | None:
        """Return the spec, whose `minimum` is not set yet, or None if anything is wrong."""
        try:
            spec: Spec | None = self._spec()(value)
        except Fault as fault:
            self.found.add(*fault.problems)
            return None
        return spec

    def need(self, version: int) -> None:
        """Note that the document uses what a version brought."""
        self.minimum = max(self.minimum, version)

    # --- the keys --------------------------------------------------------------------------------

    def _record(
        self, make: Callable[..., Any], check: Callable[[Values], None], *fields: Field
    ) -> Reader[Any]:
        """Return a reader of maps that makes a record if there is no error in it.

        `check` looks at the values together, some of which are None: they are wrong.
        """
        keys = Map(fields)
        found = self.found

        def read(value: Value) -> Any:
            before = found.errors
            values = keys.read(value, found)
            check(values)
            return make(**values) if found.errors == before else None

        return read

    def _spec(self) -> Reader[Any]:
        edits = self._edits()
        device = self._record(
            SpecDevice,
            self._check_device,
            Field("name", self._text, others=("id", "device")),
            Field("annotations", self._annotations),
            Field(
                "containerEdits",
                edits,
                to="edits",
                others=("edits", "containeredit", "devicenodes", "env", "mounts", "hooks"),
            ),
        )
        # A null device is one without a name, as in Go.
        devices = self._list(lambda item: device({} if item is None else item))
        return self._record(
            Spec,
            self._check_spec,
            Field("cdiVersion", self._text, to="version", others=("version", "apiversion")),
            Field("kind", self._text, others=("vendor", "class")),
            Field("annotations", self._annotations),
            Field("devices", devices, others=("device",)),
            Field(
                "containerEdits",
                edits,
                to="edits",
                others=("edits", "containeredit", "env", "mounts", "hooks"),
            ),
        )

    def _edits(self) -> Reader[Any]:
        return self._record(
            Edits,
            self._check_edits,
            Field("env", self._texts, others=("environment", "envs")),
            Field(
                "deviceNodes",
                self._list(self._node()),
                to="device_nodes",
                others=("devices", "nodes", "device"),
            ),
            Field("netDevices", self._list(self._net_device()), to="net_devices"),
            Field("mounts", self._list(self._mount()), to="mounts", others=("volumes", "binds")),
            Field("hooks", self._list(self._hook()), to="hooks", others=("ocihooks",)),
            Field("intelRdt", self._rdt(), to="intel_rdt"),
            Field(
                "additionalGids",
                self._list(self._gid),
                to="additional_gids",
                others=("gids", "groups", "groupadd", "supplementalgroups"),
            ),
        )

    def _node(self) -> Reader[Any]:
        return self._record(
            SpecNode,
            self._check_node,
            Field("path", self._text, others=("containerpath", "pathincontainer", "target")),
            Field(
                "hostPath", self._text, to="host_path", others=("pathonhost", "source", "device")
            ),
            Field("type", self._text, others=("devtype", "kind")),
            Field("major", _INT64),
            Field("minor", _INT64),
            Field("fileMode", _UINT32, to="file_mode", others=("mode",)),
            Field("permissions", self._text, others=("permission", "cgrouppermissions", "access")),
            Field("uid", _UINT32, others=("user", "owner")),
            Field("gid", _UINT32, others=("group",)),
        )

    def _net_device(self) -> Reader[Any]:
        return self._record(
            NetDevice,
            self._check_net_device,
            Field("hostInterfaceName", self._text, to="host_interface_name"),
            Field("name", self._text),
        )

    def _mount(self) -> Reader[Any]:
        return self._record(
            Mount,
            self._check_mount,
            Field("hostPath", self._text, to="host_path", others=("source", "src", "from")),
            Field(
                "containerPath",
                self._text,
                to="container_path",
                others=("path", "destination", "dst", "target", "mountpath", "to"),
            ),
            Field("options", self._texts, others=("option", "flags", "mode")),
            Field("type", self._text, others=("fstype",)),
        )

    def _hook(self) -> Reader[Any]:
        return self._record(
            Hook,
            self._check_hook,
            Field(
                "hookName", self._text, to="hook_name", others=("name", "stage", "stages", "hook")
            ),
            Field("path", self._text, others=("command", "cmd", "program")),
            Field("args", self._texts, others=("arguments", "argv")),
            Field("env", self._texts, others=("environment",)),
            Field("timeout", _INT64),
        )

    def _rdt(self) -> Reader[Any]:
        return self._record(
            IntelRdt,
            self._check_rdt,
            Field("closID", self._text, to="clos_id"),
            Field("l3CacheSchema", self._text, to="l3_cache_schema"),
            Field("memBwSchema", self._text, to="mem_bw_schema"),
            Field("schemata", self._texts),
            Field("enableMonitoring", read_flag, to="enable_monitoring"),
            *(Field(key, read_flag) for key in DROPPED),
        )

    # --- values ----------------------------------------------------------------------------------

    def _text(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        if value is None or isinstance(value, list | dict):
            raise wrong_type(value, "text")
        text = number_text(value) if isinstance(value, float) else as_text(value)
        self.found.warn("unquoted", f"not in quotes, so it is read as {quoted(text)}")
        return text

    def _texts(self, value: Value) -> tuple[str, ...]:
        """Read a list of texts; null among them is the empty text, as in Go."""
        if isinstance(value, list) and all(type(item) is str for item in value):
            return tuple(value)  # type: ignore[arg-type]  # each has been looked at
        return tuple(text or "" for text in self.found.read_list(self._text_or_null, value))

    def _text_or_null(self, value: Value) -> str:
        if value is None:
            self.found.warn("null-text", "null is read as empty text")
            return ""
        return self._text(value)

    def _gid(self, value: Value) -> int:
        """Read a group; null is 0, as in Go, which no container is given."""
        if value is None:
            self.found.warn("null-group", "null is read as 0, which is left out")
            return 0
        return _UINT32(value)

    def _list(self, read: Reader[Any]) -> Reader[tuple[Any, ...]]:
        return lambda value: tuple(self.found.read_list(read, value))

    def _annotations(self, value: Value) -> Mapping[str, str]:
        if not isinstance(value, dict):
            raise wrong_type(value, "a map of text to text")
        if value:
            self.need(_ANNOTATIONS)
        result: dict[str, str] = {}
        size = 0
        for key, item in value.items():
            text = "" if item is None else self.found.read(key, self._text, item) or ""
            result[key] = text
            size += _size(key) + _size(text)
            if not _ANNOTATION.fullmatch(key.lower()):
                self.found.warn("annotation-key", "this key is not a valid annotation key", key)
        if size > _MAX_ANNOTATIONS:
            self.found.warn("annotations-size", f"more than {_MAX_ANNOTATIONS} bytes")
        return result

    # --- what must hold for values together ------------------------------------------------------

    def _check_spec(self, values: Values) -> None:
        defaults = {"version": "", "kind": "", "annotations": NO_ANNOTATIONS, "edits": NO_EDITS}
        for name, default in defaults.items():
            values.setdefault(name, default)
        values["minimum"] = ""
        if values["kind"] is not None:
            self._check_kind(values["kind"])
        devices = values.setdefault("devices", ())
        if devices == ():
            self.found.error("no-devices", "no devices; a spec must have at least one", "devices")
        seen: set[str] = set()
        for index, device in enumerate(devices or ()):
            if device is not None and device.name in seen:
                self.found.error(
                    "duplicate-device",
                    f"device {quoted(device.name)} is defined twice",
                    "devices",
                    index,
                    "name",
                    device=device.name,
                )
            elif device is not None:
                seen.add(device.name)

    def _check_kind(self, kind: str) -> None:
        if "." in kind.partition("/")[2]:
            self.need(_DOT_IN_CLASS)
        vendor, class_ = names.split_kind(kind)
        if not names.is_vendor(vendor):
            what = f"vendor {quoted(vendor)}" if vendor else f"{quoted(kind)}, not vendor/class,"
            self.found.error("invalid-vendor", f"{what} cannot be the kind's vendor", "kind")
        elif not names.is_class(class_):
            sentence = f"class {quoted(class_)} cannot be the kind's class"
            self.found.error("invalid-class", sentence, "kind")
        else:
            for sentence in names.unusual(vendor, class_):
                self.found.warn("unusual-kind", sentence, "kind")

    def _check_device(self, values: Values) -> None:
        name = values.get("name", "")
        if name is not None:
            if name[:1].isascii() and name[:1].isdigit():
                self.need(_DIGIT_FIRST)
            if not names.is_device(name):
                sentence = f"{quoted(name)} cannot be the name of a device"
                self.found.error("invalid-device-name", sentence, "name")
        edits = values.setdefault("edits", NO_EDITS)
        if edits is not None and not _is_edit(edits):
            sentence = "no edits; a device must have at least one"
            self.found.error("empty-device-edits", sentence, "containerEdits")

    def _check_edits(self, values: Values) -> None:
        self._check_env(values.get("env"), "invalid-env")
        if values.get("additional_gids"):
            self.need(_GIDS)
        if values.get("net_devices"):
            self.need(_NET_DEVICES)
            known = [device for device in values["net_devices"] if device is not None]
            hosts = [device.host_interface_name for device in known]
            self._check_distinct(hosts, "duplicate-net-host-name")
            self._check_distinct([device.name for device in known], "duplicate-net-name")

    def _check_distinct(self, texts: Sequence[str], code: str) -> None:
        for text in sorted({text for text in texts if texts.count(text) > 1}):
            self.found.error(code, f"{quoted(text)} appears twice", "netDevices")

    def _check_env(self, entries: Sequence[str] | None, code: str) -> None:
        for index, entry in enumerate(entries or ()):
            if entry.find("=") < 1:
                self.found.error(
                    code, f"{quoted(entry)} is not of the form NAME=value", "env", index
                )
            elif "\0" in entry:
                # It would end the text in the kernel's eyes, and the container would not start.
                self.found.error(code, f"{quoted(entry)} contains a zero byte", "env", index)

    def _check_node(self, values: Values) -> None:
        self._require(values, "path", "path", "empty-device-path")
        self._check_absolute(values.get("path"), "path")
        if values.get("host_path"):
            self.need(_HOST_PATH)
            self._check_absolute(values["host_path"], "hostPath")
        if values.get("type") and values["type"] not in _TYPES:
            self.found.error("invalid-device-type", not_one_of(values["type"], _TYPES), "type")
        permissions = values.get("permissions")
        if permissions and not _PERMISSIONS(permissions):
            sentence = f"{quoted(permissions)} must be letters of rwm, or none"
            self.found.error("invalid-permissions", sentence, "permissions")
        for key, greatest in (("major", MAX_MAJOR), ("minor", MAX_MINOR)):
            number = values.get(key)
            if number and not 0 <= number <= greatest:
                sentence = f"{number} is not between 0 and {greatest}"
                self.found.warn("device-number", sentence, key)
        if (values.get("file_mode") or 0) > 0o7777:
            self.found.warn("file-mode", "sets bits that are not permission bits", "fileMode")

    def _check_net_device(self, values: Values) -> None:
        for name, key, code in (
            ("host_interface_name", "hostInterfaceName", "empty-net-host-name"),
            ("name", "name", "empty-net-name"),
        ):
            self._require(values, name, key, code)
            text = values.get(name)
            if text and (fault := interface_fault(text)):
                self.found.warn("interface-name", f"{quoted(text)} {fault}", key)

    def _check_mount(self, values: Values) -> None:
        self._require(values, "host_path", "hostPath", "empty-mount-host-path")
        self._require(values, "container_path", "containerPath", "empty-mount-container-path")
        self._check_absolute(values.get("container_path"), "containerPath")
        if values.get("type"):
            self.need(_MOUNT_TYPE)

    def _check_hook(self, values: Values) -> None:
        stage = values.get("hook_name", "")
        if stage is not None and stage not in HOOK_NAMES:
            self.found.error("invalid-hook-name", not_one_of(stage, HOOK_NAMES), "hookName")
        self._require(values, "path", "path", "empty-hook-path")
        self._check_absolute(values.get("path"), "path")
        self._check_env(values.get("env"), "invalid-hook-env")
        timeout = values.get("timeout")
        if timeout is not None and timeout <= 0:
            self.found.warn("timeout", f"{timeout} must be more than 0 seconds", "timeout")

    def _check_rdt(self, values: Values) -> None:
        self.need(_RDT)
        for key in DROPPED:
            if values.pop(key, None) is not None:
                self.found.warn("dropped-key", f"{key} is ignored since CDI 1.1.0", key)
        if values.get("schemata") is not None or values.get("enable_monitoring"):
            self.need(_SCHEMATA)
        clos = values.get("clos_id") or ""
        size = _size(clos)
        if clos == "/":
            return
        if clos in (".", "..") or "/" in clos or "\n" in clos or size > _MAX_CLOS_ID:
            sentence = f"{quoted(clos)} cannot be the name of a class"
            self.found.error("invalid-clos-id", sentence, "closID")
        elif size > _MAX_FILE_NAME:
            self.found.warn("clos-id-length", f"more than {_MAX_FILE_NAME} bytes", "closID")

    def _require(self, values: Values, name: str, key: str, code: str) -> None:
        """Note a text that is missing or empty; one of a wrong type has been noted."""
        if name not in values:
            self.found.error(code, f"{key} is missing")
        elif values[name] == "":
            self.found.error(code, f"{key} is empty")

    def _check_absolute(self, text: str | None, key: str) -> None:
        if text and text[0] != "/":
            self.found.warn("relative-path", f"{quoted(text)} is not an absolute path", key)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _is_edit(edits: Edits) -> bool:
    # An intelRdt object counts even if it is empty.
    return any(edits[:5]) or edits.intel_rdt is not None or bool(edits.additional_gids)
