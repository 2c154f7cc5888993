"""The rules for names that Linux and NRI have; a reason follows the name in a sentence."""

from __future__ import annotations

import re
from typing import Final

_PLUGIN: Final = re.compile(r"[A-Za-z0-9._+-]+")
_INDEX: Final = re.compile(r"[0-9]{2}")


def is_plugin_name(text: str) -> bool:
    """Tell whether a text is a plugin's name by the rule of NRI 0.12.0."""
    return _PLUGIN.fullmatch(text) is not None


def is_plugin_index(text: str) -> bool:
    """Tell whether a text is a plugin's index: two ASCII digits."""
    return _INDEX.fullmatch(text) is not None


def split_plugin(text: str) -> tuple[str, str]:
    """Return index and name of `NN-name`, cut at the first dash; ("", text) for another form.

    What follows the dash may be anything, even nothing.
    """
    index, dash, name = text.partition("-")
    return (index, name) if dash and is_plugin_index(index) else ("", text)


REMOVES: Final = "begins with '-', which NRI reads as a removal"
"""Why a key of an adjustment cannot be set."""

_MAX_INTERFACE: Final = 15  # bytes; IFNAMSIZ of Linux, without the final zero


def interface_fault(name: str) -> str:
    """Return why a network interface cannot have this name, or "" (dev_valid_name() of Linux)."""
    if not 1 <= len(name.encode("utf-8", "replace")) <= _MAX_INTERFACE:
        return f"must have 1 to {_MAX_INTERFACE} bytes"
    if name in (".", "..") or any(letter in "/:" or letter.isspace() for letter in name):
        return "is not a name that a network interface can have"
    return ""


_SYSCTL: Final = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_.\-/]*")


def sysctl_fault(name: str) -> str:
    """Return why a sysctl cannot have this name, or ""; the name is a path below /proc/sys."""
    if name.startswith("-"):
        return REMOVES
    if not _SYSCTL.fullmatch(name) or ".." in name:
        return "is not a name that a sysctl can have"
    return ""


def mount_option_fault(option: str) -> str:
    """Return why a mount cannot have this option, or ""."""
    if option.split() != [option]:
        return "contains white space; an option must not"
    if "," in option:
        return "contains a comma; list each option as a separate item"
    if not {*'"\\'}.isdisjoint(option):
        # The kernel would look for the end of the option elsewhere than the policy does.
        return "contains a quote or a backslash; an option must not"
    return ""


LIMITS: Final = (
    *("AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE"),
    *("NPROC", "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK"),
)
"""The limits of Linux (getrlimit(2)), without the RLIMIT_ in front."""


UNLIMITED: Final = 2**64 - 1
"""RLIM_INFINITY of Linux: the value of a limit that there is not."""


def limit_type(text: str) -> str:
    """Return a limit's name as OCI has it, `RLIMIT_NOFILE` for `nofile`; "" if there is none."""
    # Not all letters whose capitals are ASCII are: the dotless i has I.
    name = text.upper().removeprefix("RLIMIT_")
    return f"RLIMIT_{name}" if name in LIMITS and text.isascii() else ""


# Four digits are enough for each node and processor of Linux (MAX_NUMNODES is 1024, NR_CPUS 8192).
_NUMBER_LIST: Final = re.compile(r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*")


def is_number_list(text: str) -> bool:
    """Tell whether a text is a list of NUMA nodes or processors such as 0-3,7 (cpuset(7))."""
    if not _NUMBER_LIST.fullmatch(text):
        return False
    ranges = (part.partition("-") for part in text.split(","))
    return all(int(first) <= int(last or first) for first, _, last in ranges)


NAMESPACES: Final = ("network", "pid", "mount", "ipc", "uts", "user", "cgroup", "time")
"""The kinds of namespaces of the OCI runtime specification."""
