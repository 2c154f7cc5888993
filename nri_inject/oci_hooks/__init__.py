"""OCI hook definitions: from text to values, and from a container to its hooks; no I/O."""

from nri_inject.oci_hooks.definition import (
    STAGES,
    Annotation,
    Definition,
    Fault,
    Kind,
    Reading,
    When,
    in_order,
)
from nri_inject.oci_hooks.hook_file import read
from nri_inject.oci_hooks.match import (
    AS_GO,
    Choices,
    Decision,
    Injection,
    Match,
    NoCommand,
    Subject,
    decide,
    injection,
    injection_of,
    matches,
    message,
    order,
)
from nri_inject.oci_hooks.narrow import Definitions
from nri_inject.oci_hooks.patterns import BadPattern, Pattern, compiled

__all__ = [
    "AS_GO",
    "STAGES",
    "Annotation",
    "BadPattern",
    "Choices",
    "Decision",
    "Definition",
    "Definitions",
    "Fault",
    "Injection",
    "Kind",
    "Match",
    "NoCommand",
    "Pattern",
    "Reading",
    "Subject",
    "When",
    "compiled",
    "decide",
    "in_order",
    "injection",
    "injection_of",
    "matches",
    "message",
    "order",
    "read",
]
