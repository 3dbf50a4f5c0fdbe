"""Whether TensorRT takes a model, and why not; calling this package is :func:`graphkit.check.check.check`."""

from graphkit._callable import make_callable

__all__ = ["check"]
make_callable(__name__, "graphkit.check.check")
