"""Warnings of `nri-inject cdi validate` about specs that are dangerous with other readers.

The plugin reads such a spec without a warning, because it makes up for what the spec lacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nri_inject.cdi.records import Edits, Spec
from nri_inject.host import hook_environment
from nri_inject.text.fields import Problem
from nri_inject.text.yamltext import Path

_NO_ENV: Final = (
    f"the hook has no env, so nri-inject passes only {hook_environment.PATH}; a runtime"
    " that reads this file itself, as in mode native, may pass the"
    " container's variables, such as LD_PRELOAD"
)


def warnings(spec: Spec) -> Iterator[Problem]:
    """Return a warning for each hook without `env` or with an empty one."""
    yield from _of_edits(spec.edits, ())
    for number, device in enumerate(spec.devices):
        yield from _of_edits(device.edits, ("devices", number))


def _of_edits(edits: Edits, place: Path) -> Iterator[Problem]:
    for number, hook in enumerate(edits.hooks):
        if not hook.env:
            path = (*place, "containerEdits", "hooks", number)
            yield Problem("hook-without-env", path, _NO_ENV, warning=True)
