"""The ``wrong-annotation`` rule."""

from __future__ import annotations

from collections.abc import Iterable

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.model.graph import Tensor
from graphkit.report.checks import Finding


class WrongAnnotation(Rule):
    """A tensor is annotated with a shape that is not its own.

    ## Why
    Tools that believe annotations fold a shape that never was: the result runs, and computes something else.
    TensorRT computes its own shapes, but an output that is declared wrongly fails where it is bound.

    ## Example
    ```
    g (float[2,3] x) => (float[3,2] y) { y = Relu (x) }
    ```
    `y` is declared 3x2, and is 2x3.

    ## Mend
    `fix-shapes` writes the shapes that inference finds; declarations of outputs are the model's interface,
    and stay.

    ## Source
    [Shape inference](https://onnx.ai/onnx/repo-docs/ShapeInference.html)
    """

    name = "wrong-annotation"

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Compare what the file says with what inference finds."""
        outputs = {id(t) for t in subject.graph.outputs}
        for scope in subject.scopes:
            if scope.is_function:
                continue
            for tensor in (t for node in scope.nodes for t in node.outputs if t.name):
                wrong = self._wrong(subject, tensor)
                if wrong:
                    yield self.finding(
                        wrong, graph=scope, tensor=tensor, fix="" if id(tensor) in outputs else "fix-shapes"
                    )

    def _wrong(self, subject: Subject, tensor: Tensor) -> str:
        told, found = tensor.shape, subject.types.shape(tensor)
        if told is None or found is None:
            return ""
        differs = len(told) != len(found) or any(
            isinstance(a, int) and isinstance(b, int) and a != b and min(a, b) >= 0
            for a, b in zip(told, found, strict=True)
        )
        return f"declared {_spelled(told)}, and is {_spelled(found)}" if differs else ""


def _spelled(shape: Iterable[object]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"
