"""Cases 12 and 17: CDI names and paths in each other's annotation, and docker's options."""

from __future__ import annotations

import pytest
from annotating import faults
from hypothesis import given
from hypothesis import strategies as st

from nri_inject.text import yamltext
from nri_inject.text.flow import flow

KEY = "noderesource.dev/container.main"


@pytest.mark.parametrize("text", ["- nvidia.com/gpu=0", "nvidia.com/gpu=0", "- acme.com/x=a"])
def test_a_cdi_name_in_devices_is_told_its_annotation(text: str) -> None:
    name = text.removeprefix("- ")
    (sentence,) = faults("devices", text)
    assert sentence.endswith(
        f"{name!r} is the name of a CDI device, which the annotation"
        f' cdi-devices.noderesource.dev requests; write cdi-devices.{KEY}: "[{name}]"'
    )


@pytest.mark.parametrize(
    ("text", "written"), [("- /dev/fuse", "[/dev/fuse]"), ("/dev/a,/dev/b", "[/dev/a, /dev/b]")]
)
def test_a_path_in_cdi_devices_is_told_its_annotation(text: str, written: str) -> None:
    (sentence,) = faults("cdi-devices", text)
    assert sentence.endswith(f'; write devices.{KEY}: "{written}"')


NAMES = {
    "nvidia.com/gpu=0": "[nvidia.com/gpu=0]",
    "nvidia.com/gpu=0,nvidia.com/gpu=1": "[nvidia.com/gpu=0, nvidia.com/gpu=1]",
    "- nvidia.com/gpu=0,nvidia.com/gpu=1": "[nvidia.com/gpu=0, nvidia.com/gpu=1]",
    "- --device=nvidia.com/gpu=all": "nvidia.com/gpu=all",
    "- --device nvidia.com/gpu=all": "nvidia.com/gpu=all",
    "- {name: nvidia.com/gpu=0}": "nvidia.com/gpu=0",
    "- {device: nvidia.com/gpu=0}": "nvidia.com/gpu=0",
    "- cdi:nvidia.com/gpu=0": "nvidia.com/gpu=0",
    "- nvidia.com/gpu:0": "nvidia.com/gpu=0",
    "- nvidia.com/gpu": "nvidia.com/gpu=NAME; `nri-inject cdi list` on the node has the names",
}


@pytest.mark.parametrize("text", NAMES)
def test_names_as_others_write_them_are_told_ours(text: str) -> None:
    (sentence,) = faults("cdi-devices", text)
    assert sentence.partition("write ")[2].removeprefix("a list: ") == NAMES[text]


words = st.from_regex("[a-z][a-z0-9]{0,8}", fullmatch=True)
names = st.builds("{}.com/{}={}".format, words, words, words)


@given(st.lists(names, min_size=2, max_size=5), st.sampled_from([",", ", ", " "]))
def test_several_names_in_one_text_are_told_as_a_list(found: list[str], between: str) -> None:
    (sentence,) = faults("cdi-devices", flow(between.join(found)))
    assert yamltext.load(sentence.rpartition("write ")[2]) == found
