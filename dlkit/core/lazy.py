"""Packages whose public names are imported when they are first used (PEP 562). Loads no torch.

A task's package is also callable: `dlkit.detect(...)` is `dlkit.detect.detect(...)`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

API = "api"  # the module of a task with its public functions


class TaskPackage(ModuleType):
    """The package of a task, which imports its public names when they are used."""

    public: dict[str, str]  # the submodule of each public name; a submodule's own is ""

    def __getattr__(self, name: str) -> Any:
        place = self.public.get(name)
        if place is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module = import_module(f"{self.__name__}.{place or name}")
        value = getattr(module, name) if place else module
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # An import of the module `train` must not hide the function `train`.
        if not (isinstance(value, ModuleType) and self.__dict__["public"].get(name)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.public} - {"public"})

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function that has the package's name."""
        verb = self.__name__.rpartition(".")[2]
        return getattr(self, verb)(*args, **options)


def install(
    package: str, names: Sequence[str], modules: Sequence[str] = (), **places: Sequence[str]
) -> None:
    """Make `names` of a package importable on demand, and the package callable.

    They come from its module `api`, but for those that `places` lists under another module's name;
    `modules` are modules themselves.
    """
    others = {name: module for module, own in places.items() for name in own}
    module = sys.modules[package]
    module.__dict__["public"] = {name: "" if name in modules else API for name in names} | others
    module.__class__ = TaskPackage
