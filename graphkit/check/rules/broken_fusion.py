"""The ``broken-fusion`` rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.model.graph import Graph, Node, Tensor
from graphkit.report.checks import Finding

_BETWEEN = frozenset({"Add", "Mul", "Div", "Where", "Cast", "Reshape", "Identity"})


class BrokenFusion(Rule):
    """A tensor inside of what TensorRT fuses is read elsewhere, or has a dtype for which it does not fuse.

    ## Why
    A convolution with SiLU, and attention, become one kernel each. When something else reads a tensor in
    their middle, or the model returns it, they fall into several kernels, and the tensor goes through memory.
    In float32, attention is never one kernel; in float16 it is, but for sm75, for which it does not build.

    ## Example
    ```
    p = Softmax (scores)         # the model returns p
    y = MatMul (p, v)
    ```

    ## Mend
    Do not return the tensor ([`remove-output`](../passes/remove-output.md)); convert attention to float16.

    ## Source
    Measured on TensorRT-RTX 1.4.
    """

    name = "broken-fusion"
    severity = "note"

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Every Softmax between two MatMul, every Sigmoid that its own input is multiplied with."""
        ends = {id(t) for scope in subject.scopes for t in scope.outputs}
        for graph, node in subject.nodes("Softmax", "Sigmoid"):
            if not node.inputs or not node.outputs:
                continue
            inside = self._attention(graph, node) if node.op == "Softmax" else self._silu(graph, node)
            for tensor in inside:
                if len(tensor.outputs) > 1 or id(tensor) in ends:
                    yield self.finding(
                        f"'{tensor.name}' in {_NAMES[node.op]} is read elsewhere: it is not one kernel",
                        graph=graph,
                        node=node,
                    )
            if inside and node.op == "Softmax":
                yield from self._precision(subject, graph, node)

    def _precision(self, subject: Subject, graph: Graph, node: Node) -> Iterator[Finding]:
        dtype = subject.dtype(graph, node.inputs[0])
        if dtype == "float32":
            yield self.finding(
                "attention in float32 takes several kernels; in float16 one", graph=graph, node=node
            )
        elif dtype == "float16" and "7.5" in subject.targets:
            yield self.finding(
                "attention in float16 does not build for sm75", graph=graph, node=node, targets=("7.5",)
            )

    @staticmethod
    def _attention(graph: Graph, softmax: Node) -> list[Tensor]:
        """The tensors between the two products of an attention; none when it is no attention."""
        found = [softmax.outputs[0]]
        after = graph.consumers(softmax.outputs[0])
        if not any(n.op == "MatMul" for n in after):
            return []
        tensor = softmax.inputs[0]
        for _ in range(6):
            found.append(tensor)
            maker = graph.producer(tensor)
            if maker is None or maker.op == "MatMul":
                return found if maker is not None else []
            if maker.op not in _BETWEEN or not maker.inputs:
                return []
            computed = [t for t in maker.inputs if t.name and not graph.is_constant(t)]
            tensor = next(
                (t for t in computed if graph.producer(t) is not None),
                computed[0] if computed else maker.inputs[0],
            )
        return []

    @staticmethod
    def _silu(graph: Graph, sigmoid: Node) -> list[Tensor]:
        """The sigmoid of a SiLU behind a convolution; none when it is something else."""
        x, gate = sigmoid.inputs[0], sigmoid.outputs[0]
        maker = graph.producer(x)
        silu = any(n.op == "Mul" and any(t is x for t in n.inputs) for n in graph.consumers(gate))
        return [gate] if silu and maker is not None and maker.op == "Conv" else []


_NAMES = {"Softmax": "an attention", "Sigmoid": "a convolution with SiLU"}
