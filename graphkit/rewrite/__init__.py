"""How a model is changed, and proven; calling this package is :func:`graphkit.rewrite.pipeline.rewrite`."""

from graphkit._callable import make_callable

__all__ = ["rewrite"]
make_callable(__name__, "graphkit.rewrite.pipeline")
