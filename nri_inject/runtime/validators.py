"""What the validators of a runtime say about one adjustment: the built-in one, and plugins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nri_inject.api import (
    PluginInstance,
    ValidateContainerAdjustmentRequest,
    ValidateContainerAdjustmentResponse,
)
from nri_inject.errors import NriError
from nri_inject.runtime.peer import Pending
from nri_inject.runtime.validate import Rejection, Rules, validate

BUILT_IN: Final = PluginInstance(index="00", name="default-validator")
"""How the built-in validator appears among the plugins that validators are told of."""


def reasons(
    rules: Rules | None, request: ValidateContainerAdjustmentRequest, asked: Sequence[Pending]
) -> list[str]:
    """Return every reason against an adjustment; `asked` are the ended calls of the validators.

    A validator that fails is a reason, whatever its failure policy.
    """
    return [
        *_reasons_of_rules(rules, request),
        *(reason for pending in asked if (reason := _reason(pending))),
    ]


def _reasons_of_rules(
    rules: Rules | None, request: ValidateContainerAdjustmentRequest
) -> list[str]:
    try:
        if rules is not None:
            validate(rules, request)
    except Rejection as rejection:
        return [_rejected(f"{BUILT_IN.index}-{BUILT_IN.name}", str(rejection))]
    return []


def _reason(pending: Pending) -> str:
    """Return why a validator is against the container: any error is a reason, too."""
    title = pending.peer.title
    try:
        verdict = pending.result(ValidateContainerAdjustmentResponse)
    except NriError as error:
        return f'validator "{title}" failed: {error.reason}'
    if not verdict.reject:
        return ""
    return _rejected(title, verdict.reason or "unknown rejection reason")


def _rejected(title: str, reason: str) -> str:
    return f'validator "{title}" rejected container adjustment, reason: {reason}'
