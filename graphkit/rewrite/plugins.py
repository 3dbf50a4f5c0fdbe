"""Finds what packages bring: an entry point names a package, each public module of it holds one class."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from graphkit.errors import BadPass, GraphkitError
from graphkit.rewrite.configured import Configured
from graphkit.rewrite.failure import describe_failure

__all__ = ["Installed", "find"]


@dataclass(frozen=True)
class Installed:
    """Where one plug-in is: its name, its module, and the distribution that brought it.

    A subclass says of which ``group`` of entry points it is, and of what ``base`` its class has to be.
    ``problem`` is why it cannot be used, when that is known without importing it.
    """

    group: ClassVar[str]
    base: ClassVar[type[Configured]]
    name: str
    module: str
    package: str
    attribute: str | None = None
    problem: str = ""

    @property
    def kind(self) -> str:
        """What messages call it: pass, or rule."""
        return self.base.kind

    def load(self) -> type[Any]:
        """Import the class; BadPass when its module does not import or does not hold that one class."""
        if self.problem:
            raise BadPass(self.problem)
        module = _import(self.module, self.package, self.kind)
        if self.attribute is not None:
            found = [getattr(module, self.attribute, None)]
        else:
            found = [c for c in vars(module).values() if self._fits(c) and c.__module__ == module.__name__]
        if len(found) != 1 or not self._fits(found[0]):
            raise BadPass(
                f"module {self.module} of {self.package} must hold one {self.kind}, and holds {len(found)}"
            )
        cls: type[Any] = found[0]  # type: ignore[assignment]
        if getattr(cls, "name", None) != self.name:
            raise BadPass(
                f"module {self.module} of {self.package} must hold the {self.kind} '{self.name}', "
                f"and holds '{getattr(cls, 'name', cls.__name__)}'; give file and pass one name"
            )
        return cls

    def _fits(self, cls: object) -> bool:
        return inspect.isclass(cls) and issubclass(cls, self.base) and not inspect.isabstract(cls)


One = TypeVar("One", bound=Installed)


def find(kind: type[One]) -> dict[str, One]:
    """Every plug-in of a kind by name; none is imported, and two of one name are one with a problem."""
    found: dict[str, One] = {}
    for entry in sorted(entry_points(group=kind.group), key=lambda e: (e.name, e.value)):
        for one in _of_entry(kind, entry):
            other = found.setdefault(one.name, one)
            if (other.module, other.attribute) != (one.module, one.attribute) and not other.problem:
                found[one.name] = _clash(other, one)
    return dict(sorted(found.items()))


def _clash(one: One, other: One) -> One:
    problem = (
        f"two installed {_several(one.kind)} are named '{one.name}': {one.module} of {one.package} and "
        f"{other.module} of {other.package}; uninstall one of the packages"
    )
    both = one.package if one.package == other.package else f"{one.package}, {other.package}"
    return replace(one, package=both, problem=problem)


def _several(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def _of_entry(kind: type[One], entry: EntryPoint) -> Iterator[One]:
    """What an entry point stands for; one with a problem when it cannot be followed."""
    package = entry.dist.name if entry.dist is not None else entry.module
    try:
        yield from _followed(kind, entry, package)
    except BadPass as error:
        yield kind(entry.name, entry.module, package, problem=str(error))


def _followed(kind: type[One], entry: EntryPoint, package: str) -> Iterator[One]:
    noun = kind.base.kind
    if entry.attr:
        cls = _import(entry.module, package, noun)
        named = getattr(getattr(cls, entry.attr, None), "name", entry.name)
        yield kind(named, entry.module, package, entry.attr)
        return
    for module in _public_modules(entry.module, package, noun):
        yield kind(module.rpartition(".")[2].replace("_", "-"), module, package)


def _public_modules(name: str, package: str, kind: str) -> list[str]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise BadPass(
            f"{_several(kind)} of {package}: {name} cannot be found ({error}); reinstall {package}"
        ) from error
    if spec is None:
        raise BadPass(
            f"{_several(kind)} of {package}: there is no module {name}; reinstall or uninstall {package}"
        )
    if spec.submodule_search_locations is None:
        return [name]
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return [f"{name}.{m.name}" for m in found if not m.name.startswith("_")]


def _import(module: str, package: str, kind: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except GraphkitError:
        raise
    except (Exception, SystemExit) as error:
        said = describe_failure(error, _origin(module))
        raise BadPass(f"{kind} module {module} of {package} does not import: {said}") from error


def _origin(module: str) -> str | None:
    """The file of a module that did not import."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.origin
