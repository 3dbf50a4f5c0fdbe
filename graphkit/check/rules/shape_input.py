"""The ``shape-input`` rule."""

from __future__ import annotations

from collections.abc import Iterable

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.report.checks import Finding

# Which input of an operator decides about shapes: https://onnx.ai/onnx/operators/
_SHAPES = {
    **{"Reshape": (1,), "Expand": (1,), "ConstantOfShape": (0,), "Tile": (1,), "Pad": (1,), "TopK": (1,)},
    **{"Range": (0, 1, 2), "Resize": (2, 3), "Slice": (1, 2, 3, 4), "Upsample": (1,), "OneHot": (1,)},
}
_MOVES = frozenset(
    {
        "Cast",
        "Identity",
        "Concat",
        "Squeeze",
        "Unsqueeze",
        "Reshape",
        "Gather",
        "Slice",
        "Add",
        "Sub",
        "Mul",
        "Div",
    }
)


class ShapeInput(Rule):
    """The values of an input decide about shapes.

    ## Why
    TensorRT calls it a shape tensor: the profile has to give the least and the greatest of its *values*, and
    it is bound in host memory. Many such models were meant to have fixed sizes.

    ## Example
    ```
    g (float[1,3,h,w] x, int64[2] size) => (float[1,3,a,b] y) { y = Resize (x, , , Concat (…, size)) }
    ```

    ## Mend
    Give its values with --shapes; or make them constants where the model is exported.
    """

    name = "shape-input"
    severity = "note"

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Follow integer inputs to a place where a shape is read."""
        for tensor in subject.graph.inputs:
            dtype = subject.graph.dtype(tensor)
            if dtype is not None and dtype.name in ("int32", "int64") and self._decides(tensor):
                yield self.finding(f"the values of input '{tensor.name}' decide about shapes", tensor=tensor)

    @staticmethod
    def _decides(tensor: object) -> bool:
        waiting, seen = [tensor], set()
        while waiting:
            found = waiting.pop()
            for node in found.outputs:  # type: ignore[attr-defined]
                if id(node) in seen:
                    continue
                seen.add(id(node))
                places = _SHAPES.get(node.op, ())
                if any(p < len(node.inputs) and node.inputs[p] is found for p in places):
                    return True
                if node.op in _MOVES:
                    waiting += node.outputs
        return False
