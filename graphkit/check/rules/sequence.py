"""The ``sequence`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule
from graphkit.check.subject import Subject


class Sequence(PassRule):
    """Tensors go through a sequence.

    ## Why
    TensorRT has no sequences. What exporters make of `split` and `stack` are Split and Concat, written
    another way.

    ## Example
    ```
    s = SplitToSequence (x)
    y = SequenceAt (s, zero)
    ```

    ## Mend
    [`sequences-to-tensors`](../passes/sequences-to-tensors.md)

    ## Source
    [onnx-tensorrt#863](https://github.com/onnx/onnx-tensorrt/issues/863) ·
    [#853](https://github.com/onnx/onnx-tensorrt/issues/853)
    """

    name = "sequence"
    severity = "warning"
    mend = "sequences-to-tensors"
    says = "TensorRT has no sequences"

    def applies(self, subject: Subject) -> bool:
        """Sequence operators alone are looked at."""
        return any("Sequence" in node.op for _, node in subject.nodes())
