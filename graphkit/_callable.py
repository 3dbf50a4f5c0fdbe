"""Packages that share their name with a public function, and can be called as if they were it.

Importing a submodule of ``graphkit.rewrite`` makes the package win over the function of that name; so the
package can be called: ``graphkit.rewrite("in.onnx", …)`` and ``from graphkit.rewrite.framework import Pass``
work in any order.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect

__all__ = ["make_callable"]


class _CallableModule(ModuleType):
    """To ``help`` and ``inspect``, the package is the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function(self)(*args, **kwargs)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        text: str | None = _function(self).__doc__
        return text

    @property
    def __signature__(self) -> inspect.Signature:
        import inspect

        return inspect.signature(_function(self))

    def __getattr__(self, name: str) -> Any:
        if name == _name(self):  # help() lists the functions of a package: this is the one
            return _function(self)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), _name(self)})


def make_callable(package: str, home: str) -> None:
    """Let ``package`` be called: that is the function of its last name, which the module ``home`` has."""
    module = sys.modules[package]
    module.__dict__["_home"] = home
    module.__class__ = _CallableModule


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


def _function(module: ModuleType) -> Any:
    found = vars(import_module(module.__dict__["_home"]))
    return found[_name(module)]
