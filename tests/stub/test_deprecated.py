"""The old names of the stub's methods."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

import pytest
from support.stubs import CREATE, TIMEOUT, UPDATES, launched, plugin

from nri_inject import api
from nri_inject.stub import Stub


def warned(old: str, new: str) -> Any:
    return pytest.warns(DeprecationWarning, match=rf"{old} is deprecated, use {new}")


def test_the_old_names_work_and_warn() -> None:
    seen: queue.Queue[str] = queue.Queue()
    tested: list[Callable[[], None]] = []
    with launched(plugin(create_container=lambda *_: tested[0]())) as (peer, running):
        stub = running.stub
        tested.append(lambda: after(stub, seen))
        peer.take_in()
        peer.ask("CreateContainer", CREATE)
        assert seen.get(timeout=TIMEOUT) == "after"
        with warned("Stub.join", "add_plugin"), pytest.raises(ValueError, match="one connection"):
            stub.join(plugin())
        with warned("Stub.observe", "on_bytes"):
            stub.observe(lambda *_: None)
        with warned("Stub.update.then=....", "callback"):
            stub.update(UPDATES, then=lambda _: seen.put("then"))
        peer.answer(peer.called("UpdateContainers"), api.UpdateContainersResponse())
        assert seen.get(timeout=TIMEOUT) == "then"


def after(stub: Stub, seen: queue.Queue[str]) -> None:
    with warned("Stub.after", "after_response"):
        stub.after(lambda: seen.put("after"))
