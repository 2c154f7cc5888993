"""What it takes to test a plugin: a runtime without containers, and pods to give it.

pytest finds the fixtures by itself once the package is installed; docs/test-a-plugin.md shows
them. Nothing in here needs pytest.
"""

from nri_inject.testing.fake import FakeRuntime, make_container, make_pod

__all__ = ["FakeRuntime", "make_container", "make_pod"]
