"""What is added for a person at a terminal: colour, and progress after two seconds."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from nri_inject.service.terminal import PATIENCE, painted, progress

BOUND = 30
RED, YELLOW, GREEN, RESET = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Error: no", f"{RED}Error:{RESET} no"),
        ("problem  it is off", f"{RED}problem{RESET}  it is off"),
        ("note     old", f"{YELLOW}note{RESET}     old"),
        ("  fails  pod a/b", f"  {RED}fails{RESET}  pod a/b"),
        ("  unread key", f"  {YELLOW}unread{RESET} key"),
        ("  gets   device /dev/fuse", f"  {GREEN}gets{RESET}   device /dev/fuse"),
        ("  not in force: x", f"  {RED}not in force:{RESET} x"),
        ("newer", "newer"),
        ("pod fails/x", "pod fails/x"),
        ("", ""),
    ],
)
def test_the_first_word_of_a_line_has_a_colour(line: str, shown: str) -> None:
    assert painted(line) == shown


def on_a_terminal(*command: str, **environment: str) -> str:
    """Run a command whose standard output and error are a terminal; return what it shows."""
    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    settings[1] &= ~termios.OPOST  # line feeds stay as they are
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    base = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**base, **environment}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # EIO: the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    process.wait(BOUND)
    return shown.decode()


PROGRAM = str(Path(sys.executable).with_name("nri-inject"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "start"),
    [
        ({"TERM": "xterm"}, f"{RED}Error:{RESET} "),
        ({"TERM": "xterm", "NO_COLOR": ""}, f"{RED}Error:{RESET} "),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "Error: "),
        ({"TERM": "dumb"}, "Error: "),
    ],
)
def test_colour_is_for_a_person_who_has_not_switched_it_off(
    environment: dict[str, str], start: str
) -> None:
    shown = on_a_terminal(PROGRAM, "install", "--plugin", "x", **environment)
    assert shown.startswith(f"{start}no plugin 'x'; known: ")


@pytest.mark.slow
def test_without_a_terminal_there_is_neither_colour_nor_progress() -> None:
    program = (
        "import time; from nri_inject.service.terminal import progress, show_line\n"
        "with progress('reading', 0.0): time.sleep(0.05)\n"
        "show_line('problem  x'); show_line('problem  y', err=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("problem  x\n", "problem  y\n")


@pytest.mark.slow
def test_a_command_that_takes_long_says_what_it_does_and_erases_it() -> None:
    program = (
        "import time; from nri_inject.service.terminal import progress\n"
        "with progress('reading the node', 0.0): time.sleep(0.3)\n"
        "print('done')"
    )
    shown = on_a_terminal(sys.executable, "-c", program, TERM="xterm")
    assert shown == "\rreading the node (0 s)\r\x1b[Kdone\n"


@pytest.mark.slow
def test_a_command_that_is_quick_says_nothing() -> None:
    program = (
        "from nri_inject.service.terminal import progress\n"
        "with progress('reading the node'): pass\n"
        "print('done')"
    )
    before = time.monotonic()
    assert on_a_terminal(sys.executable, "-c", program, TERM="xterm") == "done\n"
    assert time.monotonic() - before < BOUND
    assert PATIENCE == 2.0


def test_an_error_ends_progress() -> None:
    with pytest.raises(ValueError, match="no"), progress("reading"):
        raise ValueError("no")
