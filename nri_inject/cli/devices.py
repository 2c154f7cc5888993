"""`nri-inject devices`: the host's device nodes, and which of them a selector means."""

from __future__ import annotations

import grp
import json
import pwd
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import click

from nri_inject.cli import device_features
from nri_inject.cli.generated import root_option
from nri_inject.cli.group import Group
from nri_inject.host.devices import inventory
from nri_inject.host.devices.device import Device
from nri_inject.host.devices.inventory import Inventory
from nri_inject.host.devices.naming import classes, stable_selector
from nri_inject.host.devices.node import way_out
from nri_inject.host.devices.selectors import Miss, Selector, misses, parse
from nri_inject.host.model import DeviceNode, NotADevice
from nri_inject.host.nodes import HostDevices
from nri_inject.service import terminal
from nri_inject.service.command import FAILED
from nri_inject.service.options import format_option, show
from nri_inject.text.fields import Fault
from nri_inject.text.words import plain

KEY: Final = "devices.noderesource.dev/container.NAME"
_MAX_NEAR: Final = 3


@click.group("devices", cls=Group, epilog="Example: nri-inject devices list class:serial")
def command() -> None:
    """List the host's devices, and show which devices a selector matches."""


command.add_command(device_features.command)


@command.command("list", epilog="Example: nri-inject devices list class:video '/dev/ttyUSB*'")
@click.argument("selectors", nargs=-1, metavar="[SELECTOR]...")
@root_option
@format_option
def list_(*, selectors: tuple[str, ...], root: str, output: str) -> int:
    """List device nodes with numbers, mode, owner and stable names; all, or those selected.

    Each device has an annotation that requests it by its most stable selector. Ends with status 1
    if a selector matches no device.
    """
    wanted = [_parsed(text) for text in selectors]
    with terminal.progress("reading the devices"):
        found = inventory.read(root)
    nodes = HostDevices(root)
    picked = {selector.text: _selected(selector, found, nodes) for selector in wanted}
    devices = _distinct(picked.values()) if wanted else found.devices
    rows = [_row(device, found, nodes) for device in devices]
    show(output, {"devices": rows}, (line for row in rows for line in _lines(row)))
    empty = [text for text, meant in picked.items() if not meant]
    for text in empty:
        terminal.show_error(f"{plain(text)} matches no device; see nri-inject devices explain")
    return FAILED if empty else 0


@command.command(epilog="Example: nri-inject devices explain usb:1a86:7523")
@click.argument("selector")
@root_option
@format_option
def explain(*, selector: str, root: str, output: str) -> int:
    """Show the nodes that a selector matches, or the nearest ones; and the reasons.

    Ends with status 1 if it matches none.
    """
    wanted = _parsed(selector)
    with terminal.progress("reading the devices"):
        found = inventory.read(root)
    nodes = HostDevices(root)
    meant = _selected(wanted, found, nodes)
    near = [] if meant else misses(wanted, found.devices, _MAX_NEAR)
    document = {
        "selector": wanted.text,
        "devices": [{**_row(d, found, nodes), "because": _because(wanted, d)} for d in meant],
        "nearest": [{**_row(m.device, found, nodes), "unmet": _unmet(m)} for m in near],
    }
    if not meant and (why := _why(wanted, nodes)):
        document["why"] = why
    show(output, document, _explanation(document, len(found.devices)))
    return 0 if meant else FAILED


def _why(selector: Selector, nodes: HostDevices) -> str:
    """Say why a path means no device, if that is more than that nothing is there."""
    try:
        nodes[selector.path or ""]
    except NotADevice as error:
        return f"{plain(error.why)}{way_out(selector.path or '', error.why)}"
    except KeyError:
        return ""
    return ""


def _parsed(text: str) -> Selector:
    try:
        return parse(text)
    except Fault as fault:
        raise click.UsageError("; ".join(fault.sentences)) from fault


def _selected(selector: Selector, found: Inventory, nodes: HostDevices) -> list[Device]:
    """Return what is meant; a path may also lead to a node from outside of /dev."""
    meant = selector.select(found)
    if meant or selector.path is None:
        return meant
    node = nodes.get(selector.path)
    if node is None or node.type == "p":
        return []
    known = found.of_number(node.type, node.major, node.minor)
    return [known or Device(node.path, node.type, node.major, node.minor)]


def _distinct(picked: Iterable[Sequence[Device]]) -> list[Device]:
    return [*{device.number: device for devices in picked for device in devices}.values()]


def _row(device: Device, found: Inventory, nodes: HostDevices) -> dict[str, Any]:
    node = nodes.get(device.path)
    selector = stable_selector(device, found)
    return {
        "path": device.path,
        "type": device.type,
        "major": device.major,
        "minor": device.minor,
        **_owner(node),
        "subsystem": device.subsystem,
        "classes": classes(device),
        "links": [*device.links],
        "selector": selector,
        "annotation": {KEY: f"- device: {_yaml(selector)}\n"},
    }


def _owner(node: DeviceNode | None) -> dict[str, Any]:
    if node is None:
        return {"mode": None, "uid": None, "gid": None}
    return {"mode": f"{node.mode:04o}", "uid": node.uid, "gid": node.gid}


def _yaml(selector: str) -> str:
    """Write a selector as YAML, which is JSON where it has more than the usual characters."""
    usual = all(c.isalnum() or c in "/:,=._-+@{}" for c in selector) and ": " not in selector
    return selector if usual and selector.isascii() else json.dumps(selector)


def _because(selector: Selector, device: Device) -> list[dict[str, Any]]:
    return [{"condition": c.says, "is": c.shows(device)} for c in selector.conditions]


def _unmet(miss: Miss) -> list[dict[str, Any]]:
    return [{"condition": says, "is": shows} for says, shows in miss.unmet]


# --- text ---------------------------------------------------------------------------------------


def _lines(row: dict[str, Any]) -> Iterator[str]:
    yield _head(row)
    for link in row["links"]:
        yield f"  also {plain(link)}"
    yield from (
        f"  ask  {key}: {json.dumps(text.strip())}" for key, text in row["annotation"].items()
    )


def _head(row: dict[str, Any]) -> str:
    numbers = f"{row['type']} {row['major']}:{row['minor']}"
    if row["mode"] is None:
        return f"{plain(row['path'])}  {numbers}  no node in /dev"
    owner = f"{_name(pwd.getpwuid, row['uid'])}:{_name(grp.getgrgid, row['gid'])}"
    kinds = f"  {', '.join(row['classes'])}" if row["classes"] else ""
    return f"{plain(row['path'])}  {numbers}  {row['mode']} {owner}{kinds}"


def _name(of: Callable[[int], Sequence[object]], number: int) -> str:
    try:
        return str(of(number)[0])
    except KeyError:
        return str(number)


def _explanation(document: dict[str, Any], count: int) -> Iterator[str]:
    selector, meant = plain(document["selector"]), document["devices"]
    if not meant:
        why = f": it {document['why']}" if "why" in document else ""
        yield f"{selector} matches none of {count} devices{why}"
        for row in document["nearest"]:
            yield f"near: {_head(row)}"
            yield from (f"  but {_fact(fact)}" for fact in row["unmet"])
        return
    many = "" if len(meant) == 1 else "; an annotation needs `count`, or a narrower selector"
    yield f"{selector} matches {len(meant)} device{'s'[: len(meant) != 1]}{many}"
    for row in meant:
        yield from _lines(row)
        yield from (f"  for  {_fact(fact)}" for fact in row["because"])


def _fact(fact: dict[str, Any]) -> str:
    return f"{plain(fact['condition'])} (it is {plain(fact['is'])})"
