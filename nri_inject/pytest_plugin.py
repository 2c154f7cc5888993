"""The fixtures that pytest gets from this package (entry point `pytest11`).

It is loaded for every test run where we are installed, so the runtime comes when a test asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from nri_inject.testing import FakeRuntime


class NewRuntime(Protocol):
    """Make a runtime by name and version, as in `containerd/1.7.24`; "" is the newest NRI."""

    def __call__(self, version: str = "", **options: Any) -> FakeRuntime:
        """Make it; the options are those of FakeRuntime."""


@pytest.fixture
def new_nri_runtime() -> Iterator[NewRuntime]:
    """Give a function that makes runtimes of any version; their plugins end with the test."""
    from nri_inject import capabilities
    from nri_inject.testing import FakeRuntime

    with ExitStack() as opened:

        def new(version: str = "", **options: Any) -> FakeRuntime:
            runtime = capabilities.named(version) if version else capabilities.NEWEST
            return opened.enter_context(FakeRuntime(runtime, **options))

        yield new


@pytest.fixture
def nri_runtime(new_nri_runtime: NewRuntime) -> FakeRuntime:
    """Give a runtime of the newest NRI, without plugins and pods."""
    return new_nri_runtime()
