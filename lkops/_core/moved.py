"""Modules that stand elsewhere now, by the path that they had before: both import the same object, with a warning."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

EARLIEST = "0.4"  # the first version that may be without the old paths


class Moved(MetaPathFinder, Loader):
    """Finds the old paths of a package's modules."""

    def __init__(self, package: str, places: dict[str, str]) -> None:
        self.package = package
        self.places = {f"{package}.{old}": f"{package}.{new}" for old, new in places.items()}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in self.places else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        place = self.places[module.__name__]
        self._warn(
            f"{module.__name__} is {place} now; version {EARLIEST} is the first that may be without the old path"
        )
        sys.modules[module.__name__] = import_module(place)  # the import system hands this out

    def _warn(self, message: str) -> None:
        """At the line that imports: neither the import system's nor the package's own."""
        frame = sys._getframe(2)  # of the import system, which calls exec_module
        while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("importlib", self.package):
            frame = frame.f_back
        name = frame.f_globals.get("__name__")
        warnings.warn_explicit(message, DeprecationWarning, frame.f_code.co_filename, frame.f_lineno, module=name)


def install(package: str, places: dict[str, str]) -> None:
    """Let the old paths of the package's modules import.

    Args:
        package: its name.
        places: where a module was, in the package, to where it is.
    """
    sys.meta_path.insert(0, Moved(package, places))
