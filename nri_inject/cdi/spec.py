"""Read one CDI spec: from bytes to records, with everything that is wrong in it.

Keys, versions and rules are those of CDI 0.3.0 to 1.1.0, and of the Go library's `none` for
permissions, which came after 1.1.0. Errors take a file out of use, as in Go; warnings tell of
what runtimes accept and what was hardly meant. Files and directories are not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from nri_inject import jsontext, yamltext
from nri_inject.annotations import described, quoted, suggestion
from nri_inject.cdi import names
from nri_inject.yamltext import Path, Value, as_integer, as_text

VERSIONS: Final = (
    "0.1.0",
    "0.2.0",
    "0.3.0",
    "0.4.0",
    "0.5.0",
    "0.6.0",
    "0.7.0",
    "0.8.0",
    "1.0.0",
    "1.1.0",
)
"""The versions that CDI has released; the first two are known, but no file can have them."""

_ORDER: Final = {version: number for number, version in enumerate(VERSIONS)}
_MOUNT_TYPE: Final = _ORDER["0.4.0"]
_HOST_PATH: Final = _ORDER["0.5.0"]
_DIGIT_FIRST: Final = _ORDER["0.5.0"]
_ANNOTATIONS: Final = _ORDER["0.6.0"]
_DOT_IN_CLASS: Final = _ORDER["0.6.0"]
_RDT: Final = _ORDER["0.7.0"]
_GIDS: Final = _ORDER["0.7.0"]
_NET_DEVICES: Final = _ORDER["1.1.0"]
_SCHEMATA: Final = _ORDER["1.1.0"]

HOOK_NAMES: Final = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
"""The stages of an OCI hook, as CDI spells them."""


# --- records ------------------------------------------------------------------------------------

# Named tuples, because a node may have ten thousand devices and a dataclass that is frozen takes
# three times as long to make. Texts that are absent are empty, numbers are None.


class DeviceNode(NamedTuple):
    """An entry of deviceNodes; `host_path` empty means `path`."""

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class NetDevice(NamedTuple):
    """An entry of netDevices (CDI 1.1.0)."""

    host_interface_name: str
    name: str


class Mount(NamedTuple):
    """An entry of mounts."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


class Hook(NamedTuple):
    """An entry of hooks; `timeout` in seconds."""

    hook_name: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class IntelRdt(NamedTuple):
    """The object intelRdt (CDI 0.7.0); `schemata` of None differs from an empty list."""

    clos_id: str = ""
    l3_cache_schema: str = ""
    mem_bw_schema: str = ""
    schemata: tuple[str, ...] | None = None
    enable_monitoring: bool = False


class Edits(NamedTuple):
    """What a device, or a whole file, changes in a container; `env` has `NAME=value`."""

    env: tuple[str, ...] = ()
    device_nodes: tuple[DeviceNode, ...] = ()
    net_devices: tuple[NetDevice, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    intel_rdt: IntelRdt | None = None
    additional_gids: tuple[int, ...] = ()


NO_EDITS: Final = Edits()
_NO_ANNOTATIONS: Final[Mapping[str, str]] = {}


class Device(NamedTuple):
    """An entry of devices; `name` is the part after the equals sign."""

    name: str
    edits: Edits
    annotations: Mapping[str, str] = _NO_ANNOTATIONS


class Spec(NamedTuple):
    """A sound spec. `minimum` is the lowest version that has all that it uses."""

    version: str
    kind: str
    devices: tuple[Device, ...]
    edits: Edits
    annotations: Mapping[str, str]
    minimum: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    `code` is a word of ours for it, `path` its place in the document, `details` the values that
    the sentence has. A warning leaves the spec in use.
    """

    code: str
    path: Path
    sentence: str
    details: Mapping[str, str] = field(default_factory=dict)
    warning: bool = False
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        position = f"line {self.line}, column {self.column}: " if self.line else ""
        place = f"{dotted(self.path)}: " if self.path else ""
        return f"{position}{place}{self.sentence}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came of a text: a spec unless one of the problems is an error.

    `kind` is what it would be the spec of, as far as that could be read; `minimum` the version
    that what could be read needs.
    """

    spec: Spec | None
    problems: tuple[Problem, ...]
    kind: str
    minimum: str

    @property
    def errors(self) -> list[Problem]:
        """The problems that take the spec out of use."""
        return [problem for problem in self.problems if not problem.warning]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that do not."""
        return [problem for problem in self.problems if problem.warning]


def dotted(path: Path) -> str:
    """Write a place in a document, as in `devices[0].name`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{quoted_key(step)}"
    return text.removeprefix(".")


def quoted_key(key: str) -> str:
    """Write a key; quoted unless it looks like one."""
    return key if re.fullmatch("[A-Za-z0-9_-]{1,40}", key) else quoted(key)


# --- from bytes to a value ----------------------------------------------------------------------

_JSON_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{")
_DUPLICATE_KEY: Final = "duplicate key "


def load(data: bytes) -> Value:
    """Return the value of a spec's text, the same for JSON as YAML has it; YamlError if none.

    Most files are JSON, which the json module reads some twenty times faster than a YAML parser.
    """
    if _JSON_START.match(data) and len(data) <= yamltext.SPEC_FILE.size:
        try:
            return jsontext.load_as_yaml(data)
        except jsontext.Unsure:
            pass
    return yamltext.load(data, yamltext.SPEC_FILE)


def parse(data: bytes) -> Parsed:
    """Read the text of a spec, JSON or YAML; never raises, whatever is in it.

    The problems have no line and column; `located` adds them.
    """
    try:
        value = load(data)
    except yamltext.YamlError as error:
        return Parsed(None, (_unreadable(error),), "", VERSIONS[2])
    return check(value)


def _unreadable(error: yamltext.YamlError) -> Problem:
    key = error.problem.removeprefix(_DUPLICATE_KEY)
    if key == error.problem:
        return Problem("syntax", (), error.problem, {}, False, error.line, error.column)
    details = {"key": key[1:-1]}
    return Problem("duplicate-key", (), error.problem, details, False, error.line, error.column)


def located(data: bytes, parsed: Parsed) -> tuple[Problem, ...]:
    """Return the problems of a text with line and column, in that order, and one more kind.

    That is a further document, which is not read. Takes longer than `parse`.
    """
    try:
        _, marks = yamltext.load_marked(data, yamltext.SPEC_FILE)
    except yamltext.YamlError:
        return parsed.problems
    problems = [_at(problem, marks) for problem in parsed.problems]
    if marks.second:
        sentence = "a second document begins here, which runtimes do not read"
        problems.append(Problem("further-document", (), sentence, {}, True, *marks.second))
    return tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))


def _at(problem: Problem, marks: yamltext.Marks) -> Problem:
    path = problem.path
    while path and path not in marks:
        path = path[:-1]
    line, column = (problem.line, problem.column) if problem.line else marks.get(path, (1, 1))
    return Problem(
        problem.code,
        problem.path,
        problem.sentence,
        problem.details,
        problem.warning,
        line,
        column,
    )


# --- from a value to records --------------------------------------------------------------------


class _Reading:
    """What has been found in one document so far."""

    __slots__ = ("dropped", "errors", "minimum", "problems")

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.errors = 0
        self.minimum = _ORDER["0.3.0"]
        self.dropped: list[tuple[Path, str]] = []

    def error(self, code: str, path: Path, sentence: str, **details: str) -> None:
        self.errors += 1
        self.problems.append(Problem(code, path, sentence, details))

    def warn(self, code: str, path: Path, sentence: str) -> None:
        self.problems.append(Problem(code, path, sentence, warning=True))

    def need(self, version: int) -> None:
        if version > self.minimum:
            self.minimum = version

    def wrong_type(self, path: Path, value: Value, wanted: str, within: Path | None = None) -> None:
        dots = ".".join(step for step in (within or path) if isinstance(step, str))
        details = {"field": dots} if dots else {}
        self.error("wrong-type", path, f"{described(value)} instead of {wanted}", **details)


# A reader returns what a value means, or None after it has noted an error.
_Reader: TypeAlias = Callable[[Value, Path, _Reading], Any]


def check(value: Value) -> Parsed:
    """Return what the value of a document is as a spec, and its problems without lines."""
    reading = _Reading()
    if value is None:
        reading.error("no-document", (), "there is no document in the file")
        return Parsed(None, tuple(reading.problems), "", VERSIONS[reading.minimum])
    read = _SPEC(value, (), reading)
    kind = _given(value, "kind") if isinstance(value, dict) else ""
    version = _given(value, "cdiVersion") if isinstance(value, dict) else ""
    if isinstance(value, dict):
        _check_version(version, reading)
    minimum = VERSIONS[reading.minimum]
    spec = None if reading.errors or read is None else read._replace(minimum=minimum)
    return Parsed(spec, tuple(reading.problems), kind, minimum)


def _given(value: Mapping[str, Value], key: str) -> str:
    """Return the text of a top-level key, in whatever letter case it is written."""
    found = value.get(key)
    if found is None:
        others = [item for name, item in value.items() if name.casefold() == key.casefold()]
        found = next((item for item in others if item is not None), None)
    return as_text(found) if isinstance(found, bool | int | float | str) else ""


def _check_version(given: str, reading: _Reading) -> None:
    version = given.removeprefix("v")
    order = _ORDER.get(version)
    minimum = VERSIONS[reading.minimum]
    path: Path = ("cdiVersion",)
    if order is None:
        sentence = f"{quoted(given)} is not a version of CDI; {_version_hint(given)}"
        reading.error("invalid-version", path, sentence, version=given)
    elif order < reading.minimum:
        sentence = f"{quoted(given)} is too low for what the spec uses; raise it to {minimum}"
        reading.error("version-too-low", path, sentence, minimum=minimum)
    for place, key in reading.dropped:
        # CDI 1.1.0 took these out; files of the versions that had them are still about.
        if version in ("0.7.0", "0.8.0", "1.0.0"):
            reading.warn("dropped-key", (*place, key), f"{key} is ignored since CDI 1.1.0")
        else:
            _unknown(key, place, reading, _RDT_KEYS)


def _version_hint(given: str) -> str:
    numbers = re.fullmatch(r"v?([0-9]{1,6})\.([0-9]{1,6})\.([0-9]{1,6})", given)
    newest = tuple(map(int, VERSIONS[-1].split(".")))
    if numbers and tuple(map(int, numbers.groups())) > newest:
        return f"newer than {VERSIONS[-1]}, the newest known here; try that one"
    for version in VERSIONS:
        if given and version.startswith(f"{given}."):
            return f"did you mean '{version}', in quotes?"
    return f"known: {', '.join(VERSIONS[2:])}"


# --- readers of scalars -------------------------------------------------------------------------


def _text(value: Value, path: Path, reading: _Reading) -> str | None:
    if type(value) is str:
        return value
    if value is None or isinstance(value, list | dict):
        reading.wrong_type(path, value, "text")
        return None
    text = as_text(value)
    reading.warn("unquoted", path, f"not in quotes, so it is read as {quoted(text)}")
    return text


def _number(least: int, greatest: int) -> _Reader:
    def read(value: Value, path: Path, reading: _Reading) -> int | None:
        number = value if type(value) is int else as_integer(value)
        if number is not None and least <= number <= greatest:
            return number
        wanted = f"a whole number from {least} to {greatest}"
        reading.wrong_type(path, value, wanted)
        return None

    return read


_UINT32: Final = _number(0, 2**32 - 1)
_INT64: Final = _number(-(2**63), 2**63 - 1)


def _boolean(value: Value, path: Path, reading: _Reading) -> bool | None:
    if type(value) is bool:
        return value
    reading.wrong_type(path, value, "true or false")
    return None


# --- readers of lists and maps ------------------------------------------------------------------


def _texts(value: Value, path: Path, reading: _Reading) -> tuple[str, ...] | None:
    """Read a list of texts; null among them is the empty text, as in Go."""
    if type(value) is not list:
        reading.wrong_type(path, value, "a list")
        return None
    for item in value:
        if type(item) is not str:
            break
    else:
        return tuple(value)  # type: ignore[arg-type]  # each has been looked at
    items: list[str] = []
    for index, item in enumerate(value):
        place = (*path, index)
        if item is None:
            reading.warn("null-text", place, "nothing is read as empty text")
        items.append("" if item is None else _text(item, place, reading) or "")
    return tuple(items)


def _gid(value: Value, path: Path, reading: _Reading) -> int | None:
    """Read a group; null is 0, as in Go, which no container is given."""
    if value is None:
        reading.warn("null-group", path, "nothing is read as 0, which is left out")
        return 0
    number: int | None = _UINT32(value, path, reading)
    return number


def _list(read: _Reader) -> _Reader:
    def read_list(value: Value, path: Path, reading: _Reading) -> tuple[Any, ...] | None:
        if type(value) is not list:
            reading.wrong_type(path, value, "a list")
            return None
        return tuple([read(item, (*path, index), reading) for index, item in enumerate(value)])

    return read_list


_LONGEST_ANNOTATIONS: Final = 256 * 1024  # in bytes, keys and values together (Kubernetes)
_ANNOTATION: Final = re.compile(
    r"(?:(?=[^/]{1,253}/)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
    r"(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*/)?"
    r"(?=[^/]{1,63}\Z)[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?"
)


def _annotations(value: Value, path: Path, reading: _Reading) -> Mapping[str, str] | None:
    if type(value) is not dict:
        reading.wrong_type(path, value, "a map of text to text")
        return None
    if value:
        reading.need(_ANNOTATIONS)
    result: dict[str, str] = {}
    size = 0
    for key, item in value.items():
        place = (*path, key)
        if isinstance(item, list | dict):
            reading.wrong_type(place, item, "text", within=path)
            continue
        result[key] = "" if item is None else _text(item, place, reading) or ""
        size += len(key.encode("utf-8", "replace")) + len(result[key].encode("utf-8", "replace"))
        if not _ANNOTATION.fullmatch(key.lower()):
            reading.warn("annotation-key", place, "is not a key that an annotation can have")
    if size > _LONGEST_ANNOTATIONS:
        reading.warn("annotations-size", path, f"more than {_LONGEST_ANNOTATIONS} bytes")
    return result


class _Object:
    """Read a map with known keys into a record.

    `fields` maps a key to the record's field and its reader; `check` looks at all the values
    together. A record is made if there was no error inside.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        fields: Mapping[str, tuple[str, _Reader]],
        check: Callable[[dict[str, Any], Path, _Reading], None],
    ) -> None:
        self._make = make
        self._fields = fields
        self._folded = {key.casefold(): key for key in fields}
        self._check = check

    def __call__(self, value: Value, path: Path, reading: _Reading) -> Any:
        if type(value) is not dict:
            self._no_map(value, path, reading)
            return None
        before = reading.errors
        values: dict[str, Any] = {}
        fields = self._fields
        for key, item in value.items():
            known = fields.get(key)
            if known is None:
                known = self._other_case(key, value, path, reading)
            if known is None or item is None:
                continue
            name, read = known
            if read is _text and type(item) is str:
                values[name] = item
            else:
                values[name] = read(item, (*path, key), reading)
        self._check(values, path, reading)
        return self._make(**values) if reading.errors == before else None

    def _no_map(self, value: Value, path: Path, reading: _Reading) -> None:
        if value is None and path:
            # Go crashes here, and a runtime that watches the directory with it.
            reading.error("null-item", path, f"nothing instead of a map with {self._keys()}")
        else:
            reading.wrong_type(path, value, f"a map with {self._keys()}")

    def _keys(self) -> str:
        return ", ".join(key for key in self._fields if key not in _DROPPED)

    def _other_case(
        self, key: str, value: Mapping[str, Value], path: Path, reading: _Reading
    ) -> tuple[str, _Reader] | None:
        right = self._folded.get(key.casefold())
        if right is None:
            _unknown(key, path, reading, self._fields)
            return None
        spellings = [other for other in value if other.casefold() == key.casefold()]
        if len(spellings) > 1:
            sentence = f"is given twice, as {' and '.join(map(quoted, spellings))}"
            reading.error("duplicate-key", (*path, key), sentence, key=right)
            return None
        reading.warn("key-case", (*path, key), f"is read as {right}, which is how to write it")
        return self._fields[right]


def _unknown(key: str, path: Path, reading: _Reading, known: Mapping[str, Any]) -> None:
    choices = [name for name in known if name not in _DROPPED]
    hint = suggestion(key[:80], choices)
    reading.error("unknown-field", (*path, key), f"is an unknown key; {hint}", field=key)


# --- what is checked ----------------------------------------------------------------------------


def _check_env(entries: Sequence[str], path: Path, reading: _Reading, code: str) -> None:
    for index, entry in enumerate(entries):
        if entry.find("=") < 1:
            sentence = f"{quoted(entry)} is not of the form NAME=value"
            reading.error(code, (*path, index), sentence)
        elif "\0" in entry:
            # It would end the text in the kernel's eyes, and the container would not start.
            reading.error(code, (*path, index), f"{quoted(entry)} has a zero byte")


def _required(
    values: Mapping[str, Any], name: str, key: str, code: str, path: Path, reading: _Reading
) -> str:
    """Return a text that must not be empty, noting an error if it is."""
    if name in values and values[name] is None:
        return ""  # of a wrong type, which has been noted
    text: str = values.get(name, "")
    if not text:
        reading.error(code, path, f"{key} is missing" if name not in values else f"{key} is empty")
    return text


def _absolute(text: str, key: str, path: Path, reading: _Reading) -> None:
    if text and text[0] != "/":
        reading.warn("relative-path", (*path, key), f"{quoted(text)} is not an absolute path")


_PERMISSIONS: Final = re.compile("[rwm]*|none").fullmatch
_TYPES: Final = ("b", "c", "u", "p")
_GREATEST_MAJOR: Final = 2**12 - 1  # MINORBITS in Linux's kdev_t.h leaves 12 bits
_GREATEST_MINOR: Final = 2**20 - 1


def _check_node(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    node = _required(values, "path", "path", "empty-device-path", path, reading)
    _absolute(node, "path", path, reading)
    if values.get("host_path"):
        reading.need(_HOST_PATH)
        _absolute(values["host_path"], "hostPath", path, reading)
    kind = values.get("type")
    if kind and kind not in _TYPES:
        sentence = f"{quoted(kind)} is none of: {', '.join(_TYPES)}"
        reading.error("invalid-device-type", (*path, "type"), sentence)
    permissions = values.get("permissions")
    if permissions and not _PERMISSIONS(permissions):
        sentence = f"{quoted(permissions)} is neither letters of rwm nor none"
        reading.error("invalid-permissions", (*path, "permissions"), sentence)
    for key, greatest in (("major", _GREATEST_MAJOR), ("minor", _GREATEST_MINOR)):
        number = values.get(key)
        if number and not 0 <= number <= greatest:
            reading.warn("device-number", (*path, key), f"{number} is not from 0 to {greatest}")
    if (values.get("file_mode") or 0) > 0o7777:
        reading.warn("file-mode", (*path, "fileMode"), "has bits that are no permissions")


def _check_mount(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    _required(values, "host_path", "hostPath", "empty-mount-host-path", path, reading)
    inside = _required(
        values, "container_path", "containerPath", "empty-mount-container-path", path, reading
    )
    _absolute(inside, "containerPath", path, reading)
    if values.get("type"):
        reading.need(_MOUNT_TYPE)


def _check_hook(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    stage = values.get("hook_name", "")
    if stage is not None and stage not in HOOK_NAMES:
        sentence = f"{quoted(stage)} is not a stage; {suggestion(stage[:40], HOOK_NAMES)}"
        reading.error("invalid-hook-name", (*path, "hookName"), sentence)
    program = _required(values, "path", "path", "empty-hook-path", path, reading)
    _absolute(program, "path", path, reading)
    _check_env(values.get("env") or (), (*path, "env"), reading, "invalid-hook-env")
    timeout = values.get("timeout")
    if timeout is not None and timeout <= 0:
        reading.warn("timeout", (*path, "timeout"), f"{timeout} is not more than 0 seconds")


_LONGEST_CLOS_ID: Final = 4095  # the Go library's limit
_LONGEST_FILE_NAME: Final = 255


def _check_rdt(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    reading.need(_RDT)
    for name, key in (("cmt", "enableCMT"), ("mbm", "enableMBM")):
        if values.pop(name, None) is not None:
            reading.dropped.append((path, key))
    if values.get("schemata") is not None or values.get("enable_monitoring"):
        reading.need(_SCHEMATA)
    clos = values.get("clos_id") or ""
    size = len(clos.encode("utf-8", "replace"))
    if clos == "/":
        return
    if clos in (".", "..") or "/" in clos or "\n" in clos or size > _LONGEST_CLOS_ID:
        sentence = f"{quoted(clos)} cannot be the name of a class"
        reading.error("invalid-clos-id", (*path, "closID"), sentence)
    elif size > _LONGEST_FILE_NAME:
        reading.warn("clos-id-length", (*path, "closID"), f"more than {_LONGEST_FILE_NAME} bytes")


def _check_net(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    for name, key, code in (
        ("host_interface_name", "hostInterfaceName", "empty-net-host-name"),
        ("name", "name", "empty-net-name"),
    ):
        text = _required(values, name, key, code, path, reading)
        if text and not is_interface(text):
            reading.warn("interface-name", (*path, key), f"{quoted(text)} {NO_INTERFACE}")


NO_INTERFACE: Final = "is not a name that a network interface can have"
_LONGEST_INTERFACE: Final = 15  # IFNAMSIZ of Linux, without the final zero


def is_interface(text: str) -> bool:
    """Tell whether Linux lets a network interface have this name (dev_valid_name)."""
    return (
        1 <= len(text.encode("utf-8", "replace")) <= _LONGEST_INTERFACE
        and text not in (".", "..")
        and not any(letter in "/:" or letter.isspace() for letter in text)
    )


def _check_edits(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    env = values.get("env")
    if env:
        _check_env(env, (*path, "env"), reading, "invalid-env")
    if values.get("additional_gids"):
        reading.need(_GIDS)
    devices = values.get("net_devices")
    if devices:
        reading.need(_NET_DEVICES)
        place = (*path, "netDevices")
        known = [device for device in devices if device is not None]
        hosts = [device.host_interface_name for device in known]
        _check_distinct(hosts, place, "duplicate-net-host-name", reading)
        _check_distinct([device.name for device in known], place, "duplicate-net-name", reading)


def _check_distinct(texts: Sequence[str], path: Path, code: str, reading: _Reading) -> None:
    for text in sorted({text for text in texts if texts.count(text) > 1}):
        reading.error(code, path, f"{quoted(text)} is given twice")


def _check_device(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    name = values.get("name", "")
    if name is not None:
        if name[:1].isascii() and name[:1].isdigit():
            reading.need(_DIGIT_FIRST)
        if not names.is_device(name):
            sentence = f"{quoted(name)} cannot be the name of a device"
            reading.error("invalid-device-name", (*path, "name"), sentence)
    edits = values.setdefault("edits", NO_EDITS)
    if edits is not None and not _is_edit(edits):
        place = (*path, "containerEdits")
        reading.error("empty-device-edits", place, "there is no edit, and a device needs one")


def _is_edit(edits: Edits) -> bool:
    # An intelRdt object counts even if it is empty.
    return any(edits[:5]) or edits.intel_rdt is not None or bool(edits.additional_gids)


def _check_spec(values: dict[str, Any], path: Path, reading: _Reading) -> None:
    for key in ("version", "annotations", "edits"):
        values.setdefault(key, _SPEC_DEFAULTS[key])
    kind = values.setdefault("kind", "")
    if kind is not None:
        _check_kind(kind, reading)
    devices = values.setdefault("devices", ())
    if devices is None:
        return
    if not devices:
        reading.error("no-devices", ("devices",), "there is no device, and a spec needs one")
    seen: set[str] = set()
    for index, device in enumerate(devices):
        if device is None:
            continue
        if device.name in seen:
            sentence = f"device {quoted(device.name)} is there already"
            place = (*path, "devices", index, "name")
            reading.error("duplicate-device", place, sentence, device=device.name)
        seen.add(device.name)


_SPEC_DEFAULTS: Final[Mapping[str, Any]] = {
    "version": "",
    "annotations": _NO_ANNOTATIONS,
    "edits": NO_EDITS,
}


def _check_kind(kind: str, reading: _Reading) -> None:
    if "." in kind.partition("/")[2]:
        reading.need(_DOT_IN_CLASS)
    vendor, class_ = names.split_kind(kind)
    if not names.is_vendor(vendor):
        what = f"vendor {quoted(vendor)}" if vendor else f"{quoted(kind)}, not vendor/class,"
        reading.error("invalid-vendor", ("kind",), f"{what} cannot be the kind's vendor")
        return
    if not names.is_class(class_):
        sentence = f"class {quoted(class_)} cannot be the kind's class"
        reading.error("invalid-class", ("kind",), sentence)
        return
    for sentence in names.unusual(vendor, class_):
        reading.warn("unusual-kind", ("kind",), sentence)


# --- the keys -----------------------------------------------------------------------------------

_DROPPED: Final = frozenset({"enableCMT", "enableMBM"})

_NODE: Final = _Object(
    DeviceNode,
    {
        "path": ("path", _text),
        "hostPath": ("host_path", _text),
        "type": ("type", _text),
        "major": ("major", _INT64),
        "minor": ("minor", _INT64),
        "fileMode": ("file_mode", _UINT32),
        "permissions": ("permissions", _text),
        "uid": ("uid", _UINT32),
        "gid": ("gid", _UINT32),
    },
    _check_node,
)
_NET: Final = _Object(
    NetDevice,
    {"hostInterfaceName": ("host_interface_name", _text), "name": ("name", _text)},
    _check_net,
)
_MOUNT: Final = _Object(
    Mount,
    {
        "hostPath": ("host_path", _text),
        "containerPath": ("container_path", _text),
        "options": ("options", _texts),
        "type": ("type", _text),
    },
    _check_mount,
)
_HOOK: Final = _Object(
    Hook,
    {
        "hookName": ("hook_name", _text),
        "path": ("path", _text),
        "args": ("args", _texts),
        "env": ("env", _texts),
        "timeout": ("timeout", _INT64),
    },
    _check_hook,
)
_RDT_KEYS: Final[Mapping[str, tuple[str, _Reader]]] = {
    "closID": ("clos_id", _text),
    "l3CacheSchema": ("l3_cache_schema", _text),
    "memBwSchema": ("mem_bw_schema", _text),
    "schemata": ("schemata", _texts),
    "enableMonitoring": ("enable_monitoring", _boolean),
    "enableCMT": ("cmt", _boolean),
    "enableMBM": ("mbm", _boolean),
}
_EDITS: Final = _Object(
    Edits,
    {
        "env": ("env", _texts),
        "deviceNodes": ("device_nodes", _list(_NODE)),
        "netDevices": ("net_devices", _list(_NET)),
        "mounts": ("mounts", _list(_MOUNT)),
        "hooks": ("hooks", _list(_HOOK)),
        "intelRdt": ("intel_rdt", _Object(IntelRdt, _RDT_KEYS, _check_rdt)),
        "additionalGids": ("additional_gids", _list(_gid)),
    },
    _check_edits,
)
_DEVICE: Final = _Object(
    Device,
    {
        "name": ("name", _text),
        "annotations": ("annotations", _annotations),
        "containerEdits": ("edits", _EDITS),
    },
    _check_device,
)


def _devices(value: Value, path: Path, reading: _Reading) -> tuple[Device | None, ...] | None:
    """Read the list of devices; a null one is a device without a name, as in Go."""
    if type(value) is not list:
        reading.wrong_type(path, value, "a list")
        return None
    found = enumerate(value)
    return tuple(
        [_DEVICE({} if item is None else item, (*path, index), reading) for index, item in found]
    )


_SPEC: Final = _Object(
    lambda **values: Spec(**values, minimum=""),
    {
        "cdiVersion": ("version", _text),
        "kind": ("kind", _text),
        "annotations": ("annotations", _annotations),
        "devices": ("devices", _devices),
        "containerEdits": ("edits", _EDITS),
    },
    _check_spec,
)
