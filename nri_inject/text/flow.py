"""A value as YAML in one line, to be pasted out of a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from nri_inject.text import yamltext
from nri_inject.text.words import excerpt

_PLAIN: Final = re.compile(r"[A-Za-z0-9/._][A-Za-z0-9/._=+@-]*")
_MAX_TEXT: Final = 512
_MAX_PARTS: Final = 48


class Octal(int):
    """A number that is written in octal, as the mode of a file is."""


def flow(value: object) -> str:
    """Write a value as YAML in flow style: `{device: /dev/fuse, access: r}`."""
    if isinstance(value, Octal):
        return f"0{value:03o}"
    if isinstance(value, str):
        return value if _is_plain(value) else json.dumps(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{flow(key)}: {flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(flow, value))}]"
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    """Tell whether YAML reads the text as this text: `yes` and `0666` need quotes."""
    if not _PLAIN.fullmatch(text):
        return False
    try:
        return yamltext.load(text) == text
    except yamltext.YamlError:
        return False


def annotation(key: str, value: object) -> str:
    """Write an annotation as a line of a manifest: `KEY: "[/dev/fuse]"`."""
    text = value if isinstance(value, str) else flow(value)
    quote = "'" if '"' in text or "\\" in text else '"'
    return (
        f"{key}: {quote}{text.replace(chr(39), chr(39) * 2) if quote == chr(39) else text}{quote}"
    )


def advice(value: object) -> str:
    """Write a value for the end of a sentence, cut where it would bury the sentence."""
    return excerpt(flow(value), _MAX_TEXT) if _is_small(value) else "..."


def _is_small(value: object) -> bool:
    """Tell whether a value has few parts: a pod's author may have written any number of them."""
    pending, count = [value], 0
    while pending and count <= _MAX_PARTS:
        one = pending.pop()
        count += 1
        if isinstance(one, Mapping | list) and len(one) > _MAX_PARTS:
            return False
        if isinstance(one, str) and len(one) > _MAX_TEXT:
            return False
        pending += (
            one.values() if isinstance(one, Mapping) else one if isinstance(one, list) else ()
        )
    return count <= _MAX_PARTS
