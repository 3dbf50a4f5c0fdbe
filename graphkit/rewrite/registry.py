"""Finds passes: each ``graphkit.passes`` entry point names a package, each public module holds one."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from graphkit.errors import BadPass, GraphkitError, UnknownPass
from graphkit.rewrite.failure import describe_failure
from graphkit.rewrite.framework import Pass, is_concrete
from graphkit.rewrite.script import is_script, load_script
from graphkit.rewrite.suggest import did_you_mean

__all__ = ["GROUP", "Installed", "load_pass", "installed", "passes", "pass_class"]

GROUP = "graphkit.passes"


@dataclass(frozen=True)
class Installed:
    """Where an installed pass is: its name, its module, and the distribution that brought it.

    ``problem`` is why it cannot be used, when that is known without importing it.
    """

    name: str
    module: str
    package: str
    attribute: str | None = None
    problem: str = ""

    def load(self) -> type[Pass]:
        """Import the pass; BadPass when its module does not import or does not hold that one pass."""
        if self.problem:
            raise BadPass(self.problem)
        module = _import(self.module, self.package)
        if self.attribute is not None:
            found = [getattr(module, self.attribute, None)]
        else:
            found = [c for c in vars(module).values() if is_concrete(c) and c.__module__ == module.__name__]
        if len(found) != 1 or not is_concrete(found[0]):
            raise BadPass(
                f"module {self.module} of {self.package} must hold one pass, and holds {len(found)}"
            )
        cls: type[Pass] = found[0]  # type: ignore[assignment]
        if getattr(cls, "name", None) != self.name:
            raise BadPass(
                f"module {self.module} of {self.package} must hold the pass '{self.name}', "
                f"and holds '{getattr(cls, 'name', cls.__name__)}'; give file and pass one name"
            )
        return cls


@cache
def installed() -> dict[str, Installed]:
    """Every installed pass by name, found without importing any; two of one name are one with a problem."""
    found: dict[str, Installed] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        for one in _of_entry(entry):
            other = found.setdefault(one.name, one)
            if (other.module, other.attribute) != (one.module, one.attribute) and not other.problem:
                found[one.name] = _clash(other, one)
    return dict(sorted(found.items()))


def _clash(one: Installed, other: Installed) -> Installed:
    problem = (
        f"two installed passes are named '{one.name}': {one.module} of {one.package} and "
        f"{other.module} of {other.package}; uninstall one of the packages"
    )
    both = one.package if one.package == other.package else f"{one.package}, {other.package}"
    return replace(one, package=both, problem=problem)


def passes() -> dict[str, type[Pass]]:
    """Every installed pass by name, imported."""
    return {name: one.load() for name, one in installed().items()}


def pass_class(name: str) -> type[Pass]:
    """The class of an installed pass, or of ``./file.py:name``; UnknownPass names the closest there are."""
    if is_script(name):
        return load_script(name)[0]
    found = installed().get(name)
    if found is None:
        raise UnknownPass(f"there is no pass '{name}'; {_hint(name)}")
    return found.load()


def _hint(name: str) -> str:
    if "," in name and name.partition(",")[0] in installed():
        return "give each pass its own --pass"
    if name.startswith((".", "/", "~")) or "/" in name:
        return f"a pass in a file is written {name.partition(',')[0].removesuffix('.py')}.py:NAME"
    return did_you_mean(name, installed()) or "`graphkit passes` lists those installed"


def load_pass(spec: str) -> Pass:
    """Turn ``silu``, ``silu:key=value`` or ``./file.py:name:key=value`` into a pass, its options checked."""
    cls, arguments = parsed(spec)
    return cls.from_spec(arguments)


def parsed(spec: str) -> tuple[type[Pass], str]:
    """The class that a spec names, and the options that it gives, as text."""
    if is_script(spec):
        return load_script(spec)
    name, _, arguments = spec.partition(":")
    return pass_class(name), arguments


def _of_entry(entry: EntryPoint) -> Iterator[Installed]:
    """The passes that an entry point stands for; one with a problem when it cannot be followed."""
    package = entry.dist.name if entry.dist is not None else entry.module
    try:
        yield from _followed(entry, package)
    except BadPass as error:
        yield Installed(entry.name, entry.module, package, problem=str(error))


def _followed(entry: EntryPoint, package: str) -> Iterator[Installed]:
    if entry.attr:
        cls = _import(entry.module, package)
        named = getattr(getattr(cls, entry.attr, None), "name", entry.name)
        yield Installed(named, entry.module, package, entry.attr)
        return
    for module in _public_modules(entry.module, package):
        yield Installed(module.rpartition(".")[2].replace("_", "-"), module, package)


def _public_modules(name: str, package: str) -> list[str]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:
        raise BadPass(
            f"passes of {package}: {name} cannot be found ({error}); reinstall {package}"
        ) from error
    if spec is None:
        raise BadPass(f"passes of {package}: there is no module {name}; reinstall or uninstall {package}")
    if spec.submodule_search_locations is None:
        return [name]
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return [f"{name}.{m.name}" for m in found if not m.name.startswith("_")]


def _import(module: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except GraphkitError:
        raise
    except (Exception, SystemExit) as error:
        said = describe_failure(error, _origin(module))
        raise BadPass(f"pass module {module} of {package} does not import: {said}") from error


def _origin(module: str) -> str | None:
    """The file of a module that did not import."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return None if spec is None else spec.origin
