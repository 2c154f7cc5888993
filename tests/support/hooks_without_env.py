"""The vectors that we overrule because they expect a hook without an environment.

A vector records what the Go library makes of a hook without `env`: one without `env`. runc before
1.3 then may run it as root with the variables of the pod (CVE-2025-23266), so here it gets root's
PATH (`nri_inject.host.hook_environment`). Everything else in these vectors still holds, and each of
them is here by name: a test fails if one has no such hook, or if another one has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nri_inject.host.hook_environment import PATH

_BY_GROUP: Mapping[str, str] = {
    "conflicts": "same-kind-in-two-files",
    "dirs": """
        base-broken-override-good broken-override dangling-override directory-order-matters
        disable-by-always-false empty-override later-replaces-earlier missing-directory-first
        missing-directory-last names-differ-in-case one-error-hides-nothing
        order-ignores-directories other-version-overrides two-directories
    """,
    "fields": """
        args-empty args-empty-strings args-unicode args-without-program-name timeout-negative
        timeout-null timeout-one timeout-zero
    """,
    "files": """
        broken-next-to-good dangling-link directory-named-json double-suffix hidden link-to-file
        missing-program-next-to-good other-suffixes
    """,
    "hooks": """
        all-six-stages appended-after-own-hooks global-and-device-hooks order-within-stage
        relative-path timeout-negative
    """,
    "injection": """
        global-before-device global-once-for-two-devices two-specs-interleaved
    """,
    "json": """
        annotation-keys-keep-case bind-mounts-lower-case duplicate-key-last-wins
        duplicate-version escaped-control-character keys-any-case trailing-newlines
    """,
    "order": """
        case-insensitive digits-and-letters many numeric-prefixes only-case-differs
        prefix-of-another spaces suffix-counts umlauts underscore-between-cases
        upper-case-suffix-part
    """,
    "plugin": """
        any-mount-counts both-kinds-needed command container-annotation pod-annotation pod-wins
    """,
    "regex": """
        begin-of-text case-flag case-flag-group case-flag-mid-pattern class-bracket-first
        dollar-multiline-flag end-of-text-z escaped-punctuation group-count hex-two named-group
        plain-brace posix-class posix-class-negated quoted-text repeat-limit repeat-open-lower
        ungreedy-flag unicode-class-short
    """,
    "reload": """
        add-change-remove breaks-and-recovers chmod directory-replaced link-swap
        override-and-back override-breaks program-goes rename-away-and-back rename-over
        subdirectory unrelated-file written-in-pieces
    """,
    "stages": """
        all-six only-createContainer only-createRuntime only-poststart only-poststop
        only-prestart only-startContainer prestart-and-create-runtime-order repeated-stage
        same-hook-two-files three-files-many-stages
    """,
    "v0": """
        annotation-any-key annotations-any-of annotations-empty-list arguments arguments-empty
        bind-mounts-camel-case bind-mounts-true canonical cmds-second-entry
        env-and-timeout-ignored mixed-with-v1 no-version or-annotation-matches
        or-bind-mounts-match or-command-matches plural-keys singular-keys stage-null-and-stages
    """,
    "v1": """
        args-null-and-env-null hook-path-directory hook-path-link hook-path-not-executable
        hook-path-relative hook-path-world-writable minimal unknown-keys-ignored
    """,
    "when": """
        always-true annotation-empty-patterns annotation-empty-value annotation-entries-and
        annotation-exact annotation-key-searched annotation-unicode annotation-value-searched
        bind-mounts-true-yes command-anchored command-and-annotation command-any-of
        command-empty-pattern command-path commands-empty-list four-conditions-all-hold
        no-args-without-commands same-annotation-many-files
    """,
}

NAMES = frozenset(f"{group}/{name}" for group, text in _BY_GROUP.items() for name in text.split())


def expected(name: str, outcome: Any, own: Collection[str] = ()) -> Any:
    """Return what is expected where a vector has `outcome`.

    `own` are the programs of hooks that the container had before: those stay as they are.
    """
    return _completed(outcome, own) if name in NAMES else outcome


def has_hook_without(outcome: Any, own: Collection[str] = ()) -> bool:
    """Tell whether an outcome has a hook without an environment that we have put there."""
    return bool(_completed(outcome, own) != outcome)


def _completed(value: Any, own: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: _completed(item, own) for key, item in value.items()}
    if isinstance(value, list):
        return [_hook(item) if _is_bare(item, own) else _completed(item, own) for item in value]
    return value


def _is_bare(item: Any, own: Collection[str]) -> bool:
    if not isinstance(item, dict) or not {"path"} <= item.keys() <= _KEYS:
        return False
    return not item.get("env") and item["path"] not in own


_KEYS = frozenset({"path", "args", "env", "timeout"})


def _hook(item: Mapping[str, Any]) -> dict[str, Any]:
    return {**item, "env": [PATH]}
