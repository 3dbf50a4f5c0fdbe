"""The ``fuse-gelu`` pass."""

from __future__ import annotations

from graphkit import Graph, NotApplicable, Pass, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.matching import output_ids
from graphkit_passes._gelu_match import find
from graphkit_passes._looking import Look
from graphkit_passes._shared import Known

_FIRST_OPSET = 20  # https://onnx.ai/onnx/operators/onnx__Gelu.html
_CONTRIB = {"Gelu": False, "BiasGelu": False, "FastGelu": True}
"""Operators of com.microsoft, and whether they are the approximation with tanh."""


class FuseGelu(Pass):
    """Fuse a GELU that is written out, or an operator of ONNX Runtime, into one Gelu, at opset 20 or newer.

    ## Why
    GELU is five nodes with an Erf, or eight with a Tanh, and no two exporters order them alike. As one it is
    one layer to read, to time and to give a precision. TensorRT imports `Gelu` as an activation layer of its
    own (GELU_ERF, GELU_TANH), TensorRT-RTX 1.4 and 1.7 do; `FastGelu` and `BiasGelu` both refuse.

    | spelling | becomes |
    |---|---|
    | `x * (1 + erf(x / sqrt(2))) * 0.5` | `Gelu` |
    | `0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))` | `Gelu <approximate = "tanh">` |
    | `com.microsoft::Gelu` | `Gelu` |
    | `com.microsoft::BiasGelu` | Add, `Gelu` |
    | `com.microsoft::FastGelu`, with or without a bias | (Add,) `Gelu <approximate = "tanh">` |

    What is written out counts by what it computes, as a polynomial in `x` and in the Erf or Tanh: products
    and sums in any order, Div or Mul, Pow or `x * x * x`, a factor taken out or not, a sign inside. Constants
    must be those of GELU as near as their dtype allows. The main graph, bodies and functions are searched.

    `x * sigmoid(1.702 * x)`, QuickGelu, is another function; see `silu`.

    ## Example
    ```
    a = Div (x, root_of_two)
    b = Erf (a)
    c = Add (b, one)
    d = Mul (x, c)
    y = Mul (d, half)
    ```
    becomes
    ```
    y = Gelu (x)
    ```

    ## When it refuses
    - The opset is below 20.
    - A tensor in its middle is read elsewhere too, or is an output of the graph.
    - A constant is near that of GELU and not it: 1.4 for the root of 2.
    - What follows the Erf is not `x * (1 + erf) / 2`, as in a normal distribution.
    - A constant has more dims than `x`.
    - It is the approximation in float64: the operator's own constants are float32.
    - A Cast inside of it makes a narrower dtype, or the result has not the dtype of `x`.

    ## Source
    [Gelu](https://onnx.ai/onnx/operators/onnx__Gelu.html) ·
    [FastGelu, BiasGelu](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) ·
    [Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415)
    """

    name = "fuse-gelu"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Rewrite every GELU in every scope."""
        outputs = output_ids(graph)
        with Known.during(graph.model) as known:
            for scope in graph.scopes():
                look = Look(scope, known, outputs)
                contrib = [n for op in _CONTRIB for n in look.nodes(op, domain="com.microsoft")]
                for node in [*contrib, *look.nodes("Erf", "Tanh")]:
                    try:
                        tally.rewrite(int(_rewrite(look, node)))
                    except NotApplicable as error:
                        tally.refuse(scope, node, str(error))


def _rewrite(look: Look, node: Node) -> bool:
    if node.op in _CONTRIB:
        _require_opset(look.graph)
        bias = [t for t in node.inputs[1:] if t.name]
        _replace(look, node.inputs[0], bias, node.outputs[0], [node], _CONTRIB[node.op])
        return True
    found = find(look, node)
    if found is None:
        return False
    _require_opset(look.graph)
    _replace(look, found.x, [], found.end, found.nodes, found.tanh)
    return True


def _require_opset(graph: Graph) -> None:
    if graph.opset < _FIRST_OPSET:
        raise NotApplicable(f"opset {graph.opset} has no Gelu; convert to opset {_FIRST_OPSET} first")


def _replace(look: Look, x: Tensor, bias: list[Tensor], end: Tensor, nodes: list[Node], tanh: bool) -> None:
    """One Gelu, behind an Add of the bias if there is one."""
    made: list[Node] = []
    where = {"before": nodes[-1], "of": nodes[::-1]}
    if bias:
        (x,) = look.graph.add("Add", [x, *bias], **where)
        made += x.inputs
    (y,) = look.graph.add("Gelu", [x], {"approximate": "tanh"} if tanh else {}, **where)
    look.replace(end, y, [*made, *y.inputs], nodes)
