"""Rules of a policy that never decide anything, because of the rules before them. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, Final

from nri_inject.policy.device_entries import DeviceEntry
from nri_inject.policy.rules import Entry, Policy, Rule
from nri_inject.policy.who import Who

_DISKS: Final = re.compile(
    r"/dev/(sd|vd|xvd|hd|nvme[0-9*?]+n|loop|dm-|md|mmcblk|sr|zram|mapper/|disk/)"
)


def warnings(policy: Policy) -> Iterator[str]:
    """Yield what of a policy can never decide anything, as far as it shows without a node."""
    for number, rule in enumerate(policy.rules):
        for kind, entries in rule.what.items():
            for entry in entries:
                if kind == "devices" and _is_disk(entry):
                    yield (
                        f"rule {rule.name!r}: {_shown(entry)} is a disk, and the rule is for"
                        f" character devices; write {{path: {_shown(entry)}, type: b}}"
                    )
                before = _first_that_hides(policy.rules[:number], rule, kind, entry)
                if before is not None:
                    yield (
                        f"rule {rule.name!r}: {kind}: {_shown(entry)} never decides, since rule"
                        f" {before.name!r} comes first"
                    )


def _shown(entry: Entry[Any]) -> str:
    return entry.pattern.text if entry.pattern is not None else "an entry"


def _is_disk(entry: Entry[Any]) -> bool:
    pattern = entry.pattern
    return (
        isinstance(entry, DeviceEntry)
        and entry.type is None
        and pattern is not None
        and bool(_DISKS.match(pattern.text))
    )


def _first_that_hides(
    before: tuple[Rule, ...], rule: Rule, kind: str, entry: Entry[Any]
) -> Rule | None:
    """Return the first rule that decides whatever this entry could decide."""
    for one in before:
        if one.who in (Who(), rule.who) and any(
            _hides(other, entry) for other in one.what.get(kind, ())
        ):
            return one
    return None


def _hides(before: Entry[Any], entry: Entry[Any]) -> bool:
    if before.pattern is None or entry.pattern is None:
        return False
    if dataclasses.replace(before, pattern=entry.pattern) != entry:
        return False
    return before.pattern.text in (entry.pattern.text, "**") or (
        before.pattern.text == "/**" and entry.pattern.text.startswith("/")
    )
