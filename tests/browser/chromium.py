"""Chromium of Debian, fetched and not installed, driven over a pipe with its own protocol.

The protocol is that of the developer tools (`--remote-debugging-pipe`): JSON messages with a zero
byte after each, on descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

from e2e.archive import REPOSITORY, machine_suite, open_closure

CACHE = REPOSITORY / ".cache" / "browser"
LIBRARIES = ("usr/lib", "lib")
BOUND = 60.0  # seconds for one answer


class Browser:
    """A headless Chromium; `profile` is an empty directory for its files."""

    def __init__(self, profile: Path) -> None:
        root = open_closure("chromium", machine_suite(), CACHE)
        places = [path for name in LIBRARIES for path in (root / name).glob("*-linux-gnu")]
        places += [place / "pulseaudio" for place in places]
        environment = os.environ | {
            "LD_LIBRARY_PATH": ":".join(map(str, places)),
            "HOME": str(profile),
        }
        program = root / "usr/lib/chromium/chromium"
        arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        theirs, self._out = os.pipe()
        self._in, back = os.pipe()
        # Above 4, since 3 and 4 are made of them.
        theirs, back = (fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (theirs, back))
        log = os.open(profile / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        actions = [(os.POSIX_SPAWN_DUP2, *pair) for pair in ((theirs, 3), (back, 4), (log, 2))]
        self._process = os.posix_spawn(
            program,
            [str(program), *arguments, f"--user-data-dir={profile}", "about:blank"],
            environment,
            file_actions=actions,
            setpgroup=0,
        )
        for descriptor in (theirs, back, log):
            os.close(descriptor)
        self._numbers = itertools.count(1)
        self._unread = b""
        self.events: deque[dict[str, Any]] = deque(maxlen=10_000)

    def close(self) -> None:
        """End Chromium and all its processes."""
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result

    def wait_for(self, event: str, session: str) -> None:
        """Wait until an event of a page has come."""
        while not any((e["method"], e.get("sessionId")) == (event, session) for e in self.events):
            self._next()

    def _next(self) -> dict[str, Any]:
        """Read a message, and keep it if it is an event."""
        until = time.monotonic() + BOUND
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._in], [], [], until - time.monotonic())
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "Chromium has not answered"
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message


class Page:
    """A page in a window of a size, in light or dark colours."""

    def __init__(self, browser: Browser, url: str, width: int, *, dark: bool = False) -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str = attached["sessionId"]
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self._call("Page.enable")
        self._call("Network.enable")
        self._call("Emulation.setEmulatedMedia", features=[scheme, still])
        self.resize(width, 900)
        browser.events.clear()
        self._call("Page.navigate", url=url)
        browser.wait_for("Page.loadEventFired", self._session)

    def resize(self, width: int, height: int) -> None:
        """Give the window a size."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def close(self) -> None:
        """Close the page."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, and wait for it if it is a promise."""
        result = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key and release it."""
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **text,
            )

    def requested(self) -> list[str]:
        """Return the addresses that the page has requested since it was opened."""
        self.evaluate("0")  # what happened before has been read then
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        taken = self._call("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)
