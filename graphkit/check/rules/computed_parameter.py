"""The ``computed-parameter`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class ComputedParameter(PassRule):
    """A parameter that TensorRT wants as a constant is computed, though its value is known.

    ## Why
    Sizes of Resize, pads, bounds of Clip and Slice reach the parser through Identity, Cast or shape
    arithmetic; it then says that an input must be an initializer, or builds something slower.

    ## Example
    ```
    s = Identity (sizes)
    y = Resize (x, , , s)
    ```

    ## Mend
    [`inline-parameters`](../passes/inline-parameters.md)

    ## Source
    [TensorRT#2803](https://github.com/NVIDIA/TensorRT/issues/2803) ·
    [#439](https://github.com/NVIDIA/TensorRT/issues/439) ·
    [#670](https://github.com/NVIDIA/TensorRT/issues/670)
    """

    name = "computed-parameter"
    severity = "warning"
    mend = "inline-parameters"
    says = "a parameter that has to be a constant is computed from constants"
