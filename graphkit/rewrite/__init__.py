"""How a model is changed, and proven; calling this module is :func:`graphkit.rewrite.pipeline.rewrite`.

A package and the public function ``graphkit.rewrite`` share one name, and importing a submodule makes the
package win; so the package can be called, and both ``graphkit.rewrite("in.onnx", …)`` and
``from graphkit.rewrite.framework import Pass`` work in any order.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect


class _CallableModule(ModuleType):
    """To ``help`` and ``inspect``, the package is the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _function()(*args, **kwargs)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        text: str | None = _function().__doc__
        return text

    @property
    def __signature__(self) -> inspect.Signature:
        import inspect

        return inspect.signature(_function())

    def __getattr__(self, name: str) -> Any:
        if name == "rewrite":  # help() lists the functions of a package: this is the one
            return _function()
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), "rewrite"})


def _function() -> Any:
    from graphkit.rewrite.pipeline import rewrite

    return rewrite


__all__ = ["rewrite"]
sys.modules[__name__].__class__ = _CallableModule
