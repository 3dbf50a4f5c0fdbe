"""How a model is changed, and proven; calling this module is :func:`graphkit.rewrite.pipeline.rewrite`.

A package and the public function ``graphkit.rewrite`` share one name, and importing a submodule makes the
package win; so the package can be called, and both ``graphkit.rewrite("in.onnx", …)`` and
``from graphkit.rewrite.framework import Pass`` work in any order.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from graphkit.rewrite.pipeline import rewrite

        return rewrite(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
