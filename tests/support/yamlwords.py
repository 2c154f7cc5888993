"""The sentence with which a YAML text is refused."""

from __future__ import annotations

import pytest

from nri_inject.text import yamltext
from nri_inject.text.yamltext import ANNOTATION, TextLimits, YamlError


def refusal(text: str | bytes, limits: TextLimits = ANNOTATION) -> str:
    with pytest.raises(YamlError) as caught:
        yamltext.load(text, limits)
    return str(caught.value)
