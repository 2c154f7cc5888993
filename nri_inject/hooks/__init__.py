"""OCI hook files: read, kept current, matched with containers and put in order.

`definition` and `hook_file` read one file, `index` narrows the definitions for a container, `match`
decides, `registry` keeps the directories current. Injectors and the command line import this room.
"""

from nri_inject.hooks.definition import (
    STAGES,
    Annotation,
    Definition,
    FaultKind,
    HookFault,
    HookReading,
    When,
    in_order,
)
from nri_inject.hooks.hook_file import read
from nri_inject.hooks.index import HookIndex
from nri_inject.hooks.match import (
    AS_GO,
    Choices,
    HookDecision,
    HookSubject,
    Injection,
    Match,
    NoCommand,
    decide,
    injection,
    injection_of,
    matches,
    message,
    order,
)
from nri_inject.text.regex import BadPattern, Regex, compiled

__all__ = [
    "AS_GO",
    "STAGES",
    "Annotation",
    "BadPattern",
    "Choices",
    "Definition",
    "FaultKind",
    "HookDecision",
    "HookFault",
    "HookIndex",
    "HookReading",
    "HookSubject",
    "Injection",
    "Match",
    "NoCommand",
    "Regex",
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
