"""The old names of modules that plugin authors may import; they go with the next release."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

MOVED: Final = {
    "nri_inject.adjust": "nri_inject.injectors.compose",
    "nri_inject.annotations": "nri_inject.text.annotations",
    "nri_inject.runtimes": "nri_inject.capabilities",
}

ALSO_FROM: Final = {"nri_inject.annotations": ("nri_inject.text.fields", "nri_inject.text.words")}
"""The other modules that names of an old module have gone to."""

RENAMED: Final = {
    "nri_inject.runtimes": {
        "Loss": "Unsupported",
        "lack": "unsupported",
        "lost": "unsupported_in",
        "spare": "drop_what_crashes",
    }
}
"""The old names in an old module, and what they are called now."""


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to import a module by its old name."""
        return ModuleSpec(name, _Loader()) if name in MOVED else None


class _Loader(Loader):
    def __init__(self) -> None:
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module of the new name."""
        new = MOVED[spec.name]
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._spec = module.__spec__
        for other in ALSO_FROM.get(spec.name, ()):
            names = vars(importlib.import_module(other)).items()
            vars(module).update({name: value for name, value in names if name[0] != "_"})
        for old, name in RENAMED.get(spec.name, {}).items():
            setattr(module, old, getattr(module, name))
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own specification back, which the import has replaced."""
        module.__spec__ = self._spec


def install() -> None:
    """Let the old names be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
