"""When a container was created: as the runtime says, else as the kernel does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nri_inject.api import Container
from nri_inject.service.health import age

STAT = "7 (a (odd) name) S " + " ".join(map(str, range(1, 19))) + " 250 0 0"


def test_the_runtimes_own_word_comes_first() -> None:
    assert age.created(Container(created_at=1_500_000_000, pid=os.getpid())) == 1.5


def test_nothing_is_known_of_a_container_without_a_process() -> None:
    assert age.created(Container(id="c")) == 0.0


def test_a_process_of_another_control_group_says_nothing() -> None:
    assert age.created(Container(id="no container at all", pid=os.getpid())) == 0.0


def test_it_is_as_old_as_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup").write_text("1:cpu:/pods/c1\n")
    (tmp_path / "stat").write_text(STAT)
    monkeypatch.setattr(time, "clock_gettime", lambda _clock: 10.0)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    started = 250 / os.sysconf("SC_CLK_TCK")
    assert age._started(tmp_path, "c1") == 1000.0 - (10.0 - started)
    assert age._started(tmp_path, "c2") == 0.0
    (tmp_path / "stat").write_text("7 (half")
    assert age._started(tmp_path, "c1") == 0.0
