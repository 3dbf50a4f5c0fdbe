"""The ``clashing-names`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class ClashingNames(PassRule):
    """Two nodes or tensors of the model have one name.

    ## Why
    TensorRT names layers after nodes: of two with one name it renames one, or cannot be asked for an output
    inside of a function or branch.

    ## Example
    ```
    y = l.block (x)
    z = l.block (y)     # the nodes of both calls have the same names
    ```

    ## Mend
    [`unique-names`](../passes/unique-names.md)

    ## Source
    [onnx-tensorrt#974](https://github.com/onnx/onnx-tensorrt/issues/974) ·
    [TensorRT#4739](https://github.com/NVIDIA/TensorRT/issues/4739)
    """

    name = "clashing-names"
    severity = "note"
    mend = "unique-names"
    says = "a name is used twice"
