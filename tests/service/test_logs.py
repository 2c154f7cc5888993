"""What child processes write, since there is one log for each process."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pytest

from nri_inject.service import logs

pytestmark = pytest.mark.slow

BOUND = 30
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

# What a pod's author may have written into a name, and how the log shows it.
HOSTILE = {
    "newline": ("a\nb", r"a\nb"),
    "carriage return": ("a\rb", r"a\rb"),
    "tab": ("a\tb", r"a\tb"),
    "null": ("a\0b", r"a\x00b"),
    "escape sequence": ("a\x1b[2Jb", r"a\x1b[2Jb"),
    "vertical tab and form feed": ("a\v\fb", r"a\x0b\x0cb"),
    "separators of ASCII": ("a\x1c\x1d\x1eb", r"a\x1c\x1d\x1eb"),
    "delete": ("a\x7fb", r"a\x7fb"),
    "next line": ("a\x85b", r"a\x85b"),
    "CSI in one character": ("a\x9b2Jb", r"a\x9b2Jb"),
    "line separator": ("a\u2028b", r"a\u2028b"),
    "paragraph separator": ("a\u2029b", r"a\u2029b"),
    "text that runs backwards": ("a\u202eb", r"a\u202eb"),
    "text that is not seen": ("a\u200b\ufeffb", r"a\u200b\ufeffb"),
    "half a character": ("a\ud800b", r"a\ud800b"),
    "plain": ("ä 世 😀", "ä 世 😀"),
}

PROGRAM = """
import json, logging, sys
from nri_inject.service.base import logs
how, names = json.loads(sys.argv[1])
logs.configure(**how)
log = logging.getLogger("some.module")
for name in names:
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(level, "pod %s", name)
    try:
        raise ValueError(name)
    except ValueError:
        log.exception("failed")
    print("next", file=sys.stderr)
"""


def logged(how: dict[str, Any], name: str = "web", encoding: str = "utf-8") -> str:
    """Return what a process writes that logs at every level, and then an exception."""
    return all_logged(how, [name], encoding)[0]


def all_logged(how: dict[str, Any], names: Sequence[str], encoding: str = "utf-8") -> list[str]:
    """Do so for each name in turn, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([how, names])],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=BOUND,
        check=True,
    )
    assert done.stdout == b""
    return done.stderr.decode(encoding.partition(":")[0]).split("next\n")[:-1]


@lru_cache
def hostile(log_format: str) -> dict[str, str]:
    """Return what is written for each of HOSTILE."""
    texts = [text for text, _ in HOSTILE.values()]
    return dict(zip(HOSTILE, all_logged({"log_format": log_format}, texts), strict=True))


def test_a_line_has_time_level_and_message() -> None:
    lines = logged({}).splitlines()
    assert re.fullmatch(rf"{TIME} info    pod web", lines[0])
    assert re.fullmatch(rf"{TIME} warning pod web", lines[1])
    assert re.fullmatch(rf"{TIME} error   pod web", lines[2])


@pytest.mark.parametrize(
    ("verbosity", "levels"),
    [
        (-7, ["error"]),
        (0, ["error"]),
        (1, ["warning", "error"]),
        (2, ["info", "warning", "error"]),
        (3, ["debug", "info", "warning", "error"]),
        (9, ["debug", "info", "warning", "error"]),
    ],
)
def test_verbosity_decides_which_levels_are_written(verbosity: int, levels: list[str]) -> None:
    lines = logged({"log_format": "json", "verbosity": verbosity}).splitlines()
    assert [json.loads(line)["level"] for line in lines] == [*levels, "error"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_record_stays_on_its_line_whatever_a_name_has_in_it(name: str) -> None:
    _, shown = HOSTILE[name]
    lines = hostile("text")[name].splitlines()
    assert [line.partition("pod ")[2] for line in lines[:3]] == [shown] * 3
    assert lines[3].endswith(" error   failed")
    assert all(line.startswith("    ") for line in lines[4:])  # the traceback, and nothing else
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "".join(lines))


@pytest.mark.parametrize("name", HOSTILE)
def test_json_is_one_object_a_line_with_the_name_as_it_is(name: str) -> None:
    text, _ = HOSTILE[name]
    output = hostile("json")[name]
    assert output.isascii()
    records = [json.loads(line) for line in output.splitlines()]
    assert [record["message"] for record in records] == [f"pod {text}"] * 3 + ["failed"]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_name_of_a_megabyte_is_cut(
    log_format: logs.LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure(log_format)
    try:
        raise ValueError("x" * (1 << 20))
    except ValueError:
        logging.getLogger("some.module").exception("pod %s", "y" * (1 << 20))
    text = written.getvalue()
    assert (text.count("x"), text.count("y")) < (logs.MAX_MESSAGE, logs.MAX_MESSAGE + 1)
    assert len(text) < 2 * logs.MAX_MESSAGE + 1000


def test_a_json_record_has_these_fields() -> None:
    records = [json.loads(line) for line in logged({"log_format": "json"}).splitlines()]
    assert re.fullmatch(TIME, records[0].pop("time"))
    assert records[0] == {"level": "info", "logger": "some.module", "message": "pod web"}


def test_a_traceback_is_indented_so_that_it_cannot_pass_for_a_record() -> None:
    lines = logged({}, "web\n2026-01-01T00:00:00.000Z error   forged\x1b[1m").splitlines()
    assert lines[4] == "    Traceback (most recent call last):"
    assert lines[-2:] == [
        "    ValueError: web",
        r"    2026-01-01T00:00:00.000Z error   forged\x1b[1m",
    ]


def test_a_traceback_is_a_field_in_json() -> None:
    last = json.loads(logged({"log_format": "json"}).splitlines()[-1])
    assert last["traceback"].startswith("Traceback (most recent call last):\n")
    assert last["traceback"].endswith("\nValueError: web")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:backslashreplace"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_name_is_too_odd_for_standard_error(encoding: str, log_format: str) -> None:
    output = logged({"log_format": log_format}, "\ud800 ä \udcff", encoding)
    assert "Logging error" not in output
    assert output.count("pod ") == 3


READERLESS = """
import logging
from nri_inject.service.base import logs
logs.configure()
log = logging.getLogger("some.module")
for _ in range(1000):
    log.info("one")
print("answered", flush=True)
"""


def test_a_log_that_nobody_reads_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", READERLESS],
            stdout=subprocess.PIPE,
            stderr=pipe,
            timeout=BOUND,
            check=False,
        )
    assert done.stdout == b"answered\n"


def test_a_full_pipe_that_does_not_wait_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "wb") as pipe, os.fdopen(reading, "rb"):
        done = subprocess.run(
            [sys.executable, "-c", READERLESS.replace("1000", "10000")],
            stdout=subprocess.PIPE,
            stderr=pipe,
            timeout=BOUND,
            check=False,
        )
    assert done.stdout == b"answered\n"
