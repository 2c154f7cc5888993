"""Masks: which texts of a node a report does not show."""

from __future__ import annotations

import json
import time

import pytest

from nri_inject.text.masks import MASK, MAX_DEPTH, masked, masked_log, masked_text

SECRET = "hunter2-Zebra"
RUN = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"password: {SECRET}", f"password: {MASK}"),
        (f"DB_PASSWORD={SECRET} and more", f"DB_PASSWORD= {MASK}"),
        (f'"apiKey": "{SECRET}"', f'"apiKey": {MASK}'),
        (f"# old token = {SECRET}", f"# old token = {MASK}"),
        (f"Authorization: Basic {SECRET}", f"Authorization: {MASK}"),
        (f"sent bearer {SECRET}", f"sent bearer {MASK}"),
        (f"run --client-secret {SECRET} x", f"run --client-secret {MASK}"),
        (f"https://me:{SECRET}@host/x", f"https://{MASK}@host/x"),
        ("AKIAIOSFODNN7EXAMPLE is one", f"{MASK} is one"),
        ("ghp_0123456789abcdefghij", MASK),
        (
            f"containerEdits.env[0]: '{SECRET}' has no =",
            f"containerEdits.env[0]: '{MASK}' has no =",
        ),
        (f"container {RUN} starts", "container 01234567... starts"),
        (f"a\n-----BEGIN A KEY-----\n{SECRET}\n-----END A KEY-----\nb", f"a\n{MASK}\nb"),
        (f"-----BEGIN A KEY-----\n{SECRET}", MASK),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert masked_text(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "pod default/web, container app: rule 'fuse' allows /dev/fuse",
        "/dev/serial/by-id/usb-Silicon_Labs_CP2102_USB_to_UART_Bridge_Controller_0001-if00-port0",
        "nvidia.com/gpu=GPU-a1b2c3d4-1111-2222-3333-444455556666",
        "error: /etc/cdi/vendor.yaml: unknown key 'devics'; did you mean 'devices'?",
    ],
)
def test_what_a_maintainer_needs_stays(text: str) -> None:
    assert masked_text(text) == text


def test_a_document_is_masked_by_its_keys_and_by_its_values() -> None:
    assert masked(
        {
            "policy": {"file": "/etc/nri-inject/policy.yaml"},
            "tokens": [SECRET, {"deep": SECRET}],
            "env": ["HOME", f"HOME={SECRET}"],
            "set_env": f"A={SECRET}",
            "list": [{"name": "DB_PASSWORD", "value": SECRET}, {"name": "HOME", "value": "/"}],
            "count": 7,
            "url": f"tcp://a:{SECRET}@b",
        }
    ) == {
        "policy": {"file": "/etc/nri-inject/policy.yaml"},
        "tokens": MASK,
        "env": ["HOME", f"HOME={MASK}"],
        "set_env": f"A={MASK}",
        "list": [{"name": "DB_PASSWORD", "value": MASK}, {"name": "HOME", "value": "/"}],
        "count": 7,
        "url": f"tcp://{MASK}@b",
    }


def test_what_is_too_deep_is_masked() -> None:
    deep: object = SECRET
    for _ in range(MAX_DEPTH + 2):
        deep = [deep]
    assert SECRET not in json.dumps(masked(deep))


def test_the_lines_of_a_log_are_masked_one_by_one() -> None:
    log = f'{{"level": "info", "token": "{SECRET}", "pod": "a/b"}}\ntoken={SECRET}\nfine\n{{no json'
    assert masked_log(log) == (
        f'{{"level": "info", "token": "{MASK}", "pod": "a/b"}}\ntoken= {MASK}\nfine\n{{no json\n'
    )
    assert masked_log("") == ""


@pytest.mark.parametrize("text", ["a" * 50_000, "-" * 50_000, "token" * 10_000, "://" * 15_000])
def test_a_long_line_costs_time_in_proportion_to_its_length(text: str) -> None:
    before = time.process_time()
    masked_text(text)
    assert time.process_time() - before < 5
