"""The files of a report: what a maintainer asks for of a node, with masks in place of secrets.

Each file is bounded, and no log is read through a link: a report leaves the node.
"""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import PurePosixPath
from typing import Any, Final

from nri_inject.capabilities import dotted
from nri_inject.errors import ConfigError
from nri_inject.host import trust
from nri_inject.host.walk import steps
from nri_inject.node import files, texts
from nri_inject.node.doctor import Finding
from nri_inject.node.gather import Gathered, read_configuration
from nri_inject.policy import document as policies
from nri_inject.stub import NRI_VERSION
from nri_inject.text import yamltext
from nri_inject.text.masks import MASK, masked, masked_log, masked_text
from nri_inject.text.yamltext import Value
from nri_inject.version import VERSION

MAX_FILE: Final = 256 << 10
"""How many bytes a report has of one file; of a log the last, of all others the first."""
MAX_FILES: Final = 64
MAX_JOURNAL: Final = 2000
"""How many lines a report has of systemd's journal."""

_TOP: Final = "nri-inject-report"
_JOURNAL_SECONDS: Final = 10.0
_PACKAGES: Final = ("protobuf", "click", "PyYAML", "google-re2", "pyudev", "jsonschema")
_OS_RELEASE: Final = "/etc/os-release"
_OS_KEYS: Final = ("ID", "VERSION_ID", "PRETTY_NAME")

_README: Final = """\
A report of a node with nri-inject. Read it before you send it.

versions.json, doctor.json, status.json, node.json and installed.json are what the programs say of
this node. configuration/ and policy/ have the files of the plugins without their comments, and
logs/ has the ends of their logs.

"(masked)" is in place of a value whose key or whose shape is that of a secret. A secret that looks
like any other word is not found. The names of pods, containers and paths are in the report. The
runtime's configuration, CDI specs, hook files, containers' environments and the name of the host
are not.
"""


@dataclass(slots=True)
class Report:
    """The content of a report's files by name, and why others are not in it, by path."""

    content: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    """Paths of files whose faults are not in it either, since a fault quotes its file."""

    def add(self, name: str, text: str) -> None:
        """Add a file, whose text is cut if it is too long."""
        if len(self.content) >= MAX_FILES:
            self.left_out[name] = f"the report has {MAX_FILES} files"
            return
        data = text.encode("utf-8", "backslashreplace")
        if len(data) > MAX_FILE:
            self.left_out[name] = f"only its first {MAX_FILE} bytes are in the report"
        self.content[name] = data[:MAX_FILE].decode("utf-8", "ignore")

    def add_document(self, name: str, document: Any) -> None:
        """Add a document as JSON, with masks."""
        self.add(
            f"{name}.json", json.dumps(masked(self._cut(document)), indent=1, default=str) + "\n"
        )

    def _cut(self, value: Any) -> Any:
        """Return a document in which a sentence ends at the path of a hidden file."""
        if isinstance(value, str):
            for path in self.hidden:
                before, path_found, _ = value.partition(f"{path}: ")
                value = f"{before}{path_found}{MASK}" if path_found else before
            return value
        if isinstance(value, Mapping):
            return {key: self._cut(one) for key, one in value.items()}
        return [*map(self._cut, value)] if isinstance(value, list | tuple) else value

    def archive(self) -> bytes:
        """Return the report as a tar file, compressed with gzip."""
        left_out = (f"\nLeft out: {path}: {why}" for path, why in self.left_out.items())
        readme = _README + "".join(map(masked_text, left_out))
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as tar:
            for name, text in {"README.txt": readme + "\n", **self.content}.items():
                data = text.encode("utf-8", "backslashreplace")
                entry = tarfile.TarInfo(f"{_TOP}/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                tar.addfile(entry, io.BytesIO(data))
        return made.getvalue()


def collect(
    root: str,
    statuses: Mapping[str, Any],
    seen: Gathered | None,
    findings: Sequence[Finding] | str,
) -> Report:
    """Return the report of the node below `root`.

    `seen` and `findings` are what doctor looks at and finds; where it cannot look, its sentence.
    """
    documents = _alone(root) if seen is None else seen.documents
    policies_of = {path: _policy_file(document) for path, document in documents.items()}
    report = Report()
    report.left_out = {
        path: why
        for path in (*documents, *filter(None, policies_of.values()))
        if (why := _kept_back(root, path))
    }
    report.hidden = frozenset(report.left_out)
    report.add_document("versions", _versions(root, seen))
    report.add_document("status", statuses)
    if isinstance(findings, str):
        report.add_document("doctor", {"error": findings})
    else:
        report.add_document("doctor", [asdict(finding) for finding in findings])
    if seen is not None:
        report.add_document("installed", [asdict(entry) for entry in seen.installed])
        report.add_document("node", _node(seen))
    for path, document in documents.items():
        if isinstance(document, str):
            report.left_out.setdefault(path, document)
        elif path not in report.hidden:
            report.add_document(f"configuration/{_flat(path)}", document)
    for file in dict.fromkeys(filter(None, policies_of.values())):
        if file not in report.hidden:
            _add_policy(report, root, file)
    for path in _logs(documents.values()):
        _add_log(report, root, path)
    if not root.rstrip("/"):
        _add_journal(report)
    return report


# --- versions and what doctor sees --------------------------------------------------------------


def _versions(root: str, seen: Gathered | None) -> dict[str, Any]:
    kernel = os.uname()
    runtime: dict[str, Any] = {}
    if seen is not None:
        release = seen.node.release
        distribution = seen.node.distribution
        runtime = {
            "distribution": distribution.name,
            "runtime": distribution.runtime,
            "release": None if release is None else dotted(release),
        }
    return {
        "nri-inject": VERSION,
        "nri": NRI_VERSION,
        "python": platform.python_version(),
        "program": sys.executable,
        "self-contained": bool(getattr(sys, "frozen", False)),
        "packages": {name: _package(name) for name in _PACKAGES},
        "kernel": f"{kernel.sysname} {kernel.release} {kernel.version} {kernel.machine}",
        "system": _system(root),
        "user": os.geteuid(),
        **runtime,
    }


def _package(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # the self-contained build has none of this
        return None


def _system(root: str) -> dict[str, str]:
    """Return what os-release(5) says of the distribution."""
    with suppress(OSError, ConfigError):
        lines = files.read(root, _OS_RELEASE).decode(errors="replace").splitlines()
        pairs = (line.partition("=") for line in lines)
        return {key: value.strip("\"'") for key, _, value in pairs if key in _OS_KEYS}
    return {}


def _node(seen: Gathered) -> dict[str, Any]:
    nri = asdict(seen.node.nri)
    return {
        "nri": nri,
        "plugins": [asdict(plugin) for plugin in seen.plugins],
        "starters": seen.starters,
        "cdi_errors": seen.cdi_errors,
        "cdi_absent": seen.cdi_absent,
        "hook_errors": seen.hook_errors,
        "unread": seen.unread,
        "unsafe": seen.unsafe,
        "socket": seen.socket,
    }


# --- configuration and policy -------------------------------------------------------------------


def _alone(root: str) -> dict[str, Mapping[str, Value] | str]:
    """Return the configuration of a service beside a runtime that is not seen, as in a pod."""
    if not files.resolve(root, texts.CONFIG_FILE).exists():
        return {}
    return {texts.CONFIG_FILE: read_configuration(root, texts.CONFIG_FILE)}


def _policy_file(document: Mapping[str, Value] | str) -> str:
    """Return the policy file that a configuration names; empty text if it names none."""
    policy = None if isinstance(document, str) else document.get("policy")
    file = policy.get("file") if isinstance(policy, dict) else None
    return file if isinstance(file, str) else ""


def _add_policy(report: Report, root: str, path: str) -> None:
    try:
        document = yamltext.load(files.read(root, path), policies.LIMITS)
    except (ConfigError, OSError, yamltext.YamlError) as error:
        report.left_out[path] = str(error)
    else:
        report.add_document(f"policy/{_flat(path)}", document)


def _kept_back(root: str, path: str) -> str:
    """Say why a file is not in a report; empty text if it may be.

    A link may lead to a file beside itself, as those of ConfigMaps do.
    """
    try:
        where = files.resolve(root, path)
        if not where.is_relative_to(files.resolve(root, str(PurePosixPath(path).parent))):
            return "a link leads to another directory"
    except ConfigError as error:
        return str(error)
    return _untrusted(root, path)


def _untrusted(root: str, path: str) -> str:
    """Name the user besides root who could have written a file; empty text if none.

    The directory of a ConfigMap is everybody's, but for this process it is mounted read-only.
    """
    try:
        walked = list(steps(path, root))
    except (OSError, ValueError) as error:
        return trust.unreachable(path, error, root)
    return trust.trouble(walked if root.rstrip("/") else trust.unsealed(walked)) or ""


def _flat(path: str) -> str:
    """Return the name in a report of a file of the node."""
    return path.strip("/").replace("/", "_")[-200:]


# --- logs ---------------------------------------------------------------------------------------


def _logs(documents: Iterable[Mapping[str, Value] | str]) -> Iterator[str]:
    """Yield the paths of the logs and audits that configurations name, each once."""
    targets = [
        target["file"]
        for document in documents
        if not isinstance(document, str)
        for key in ("log", "audit")
        if isinstance(target := document.get(key), dict) and isinstance(target.get("file"), str)
    ]
    for path in dict.fromkeys(map(str, targets)):
        yield from (path, f"{path}.1")


def _add_log(report: Report, root: str, path: str) -> None:
    try:
        text = _tail(root, path)
    except FileNotFoundError:
        return
    except (OSError, ConfigError) as error:
        report.left_out[path] = str(error.strerror if isinstance(error, OSError) else error)
        return
    report.add(f"logs/{_flat(path)}", masked_log(text)[-MAX_FILE:])


def _tail(root: str, path: str) -> str:
    """Return the last whole lines of a regular file; ConfigError for what is no log of root's."""
    where = files.resolve_parent(root, path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY
    descriptor = os.open(where, flags)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError("it is not a regular file")
        if why := _untrusted(root, path):
            raise ConfigError(why)
        start = max(0, status.st_size - MAX_FILE)
        file.seek(start)
        data = file.read(MAX_FILE)
    whole = data.partition(b"\n")[2] if start else data
    return whole.decode("utf-8", "backslashreplace")


def _add_journal(report: Report) -> None:
    """Add the last lines that plugins wrote to systemd's journal, if this node has one."""
    program = shutil.which("journalctl", path="/usr/bin:/bin")
    if program is None:
        return
    what = ("--identifier=nri-inject", f"--lines={MAX_JOURNAL}")
    how = ("--no-pager", "--quiet", "--no-hostname", "--output=short-iso")
    try:
        done = subprocess.run(  # noqa: S603  # a program of the system, with our own arguments
            [program, *what, *how],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_JOURNAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        report.left_out["journal"] = str(error)
        return
    text = done.stdout[-MAX_FILE:].decode("utf-8", "backslashreplace")
    if text:
        report.add("logs/journal", masked_log(text)[-MAX_FILE:])
    elif done.returncode:
        report.left_out["journal"] = done.stderr.decode("utf-8", "replace").strip()
