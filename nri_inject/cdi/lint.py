"""Warnings of `nri-inject cdi validate` about specs that are dangerous with other readers.

The plugin reads such a spec without a warning, because it makes up for what the spec lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nri_inject.cdi.records import Edits, Spec
from nri_inject.host import hook_environment
from nri_inject.text import modes
from nri_inject.text.fields import Problem
from nri_inject.text.flow import flow
from nri_inject.text.yamltext import Path

_NO_ENV: Final = (
    f"the hook has no env, so nri-inject passes only {hook_environment.PATH}; a runtime"
    " that reads this file itself, as in mode native, may pass the"
    " container's variables, such as LD_PRELOAD"
)


def warnings(spec: Spec) -> Iterator[Problem]:
    """Return a warning for each hook without `env`, and each mode in decimal meant in octal."""
    yield from _of_edits(spec.edits, ())
    for number, device in enumerate(spec.devices):
        yield from _of_edits(device.edits, ("devices", number))


def _of_edits(edits: Edits, place: Path) -> Iterator[Problem]:
    for number, hook in enumerate(edits.hooks):
        if not hook.env:
            path = (*place, "containerEdits", "hooks", number)
            yield Problem("hook-without-env", path, _NO_ENV, warning=True)
    for number, node in enumerate(edits.device_nodes):
        meant = None if node.file_mode is None else modes.decimal_mode(node.file_mode)
        if meant is not None:
            path = (*place, "containerEdits", "deviceNodes", number, "fileMode")
            wanted = f"{flow(meant)} in YAML, {int(meant)} in JSON"
            sentence = f"{node.file_mode} is decimal (0{node.file_mode:o}); write {wanted}"
            yield Problem("decimal-mode", path, sentence, warning=True)
