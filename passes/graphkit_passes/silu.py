"""The ``silu`` pass."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from graphkit import Graph, Model, NotApplicable, Pass, Tally, option
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import AttributeRef, Variable
from graphkit_passes._functions import Functions
from graphkit_passes._shared import FLOATS, Known, Scalars, root_of
from graphkit_passes._silu_forms import Forms, default_alpha


class Silu(Pass):
    """Decompose every form of SiLU into Sigmoid and Mul.

    SiLU, also called Swish, is `x * sigmoid(alpha * x)`, mostly with alpha = 1.

    ## Why
    It reaches a file in many spellings: the `Swish` of opset 24, the `QuickGelu` and the activation of
    `GroupNorm` that ONNX Runtime writes, local functions that PyTorch exports one of for each module,
    operators of somebody's plugin. Few runtimes know all of them: TensorRT-RTX 1.4 refuses `Swish`. All of
    them know Sigmoid and Mul, and TensorRT fuses the two back into one kernel.

    | form | becomes |
    |---|---|
    | `Swish` of opset 24, any alpha | Sigmoid, Mul; before them a Mul by alpha unless that is 1 |
    | `com.microsoft::QuickGelu` | the same, with its own alpha (1.702 when it says none) |
    | `com.microsoft::GroupNorm`, `SkipGroupNorm` with `activation=1` | `activation=0`; Sigmoid, Mul |
    | a call of a local function that computes it | the same; the function goes with its last call |
    | `SiLU`, `Swish_TRT`, `swish_f32`, `bSwish`, … | the same; `ops` adds names |
    | `Mul(x, Sigmoid(Mul(x, 1)))`, as Paddle2ONNX writes it | loses the Mul by 1 |

    A function counts by what its body computes, through nested functions, Identity, Constant and attributes;
    its name means nothing. The main graph, the bodies of If, Loop and Scan, and functions are all searched.

    ## Example
    ```
    y = Swish <alpha = 1.5> (x)
    ```
    becomes
    ```
    scaled = Mul (x, alpha)
    s = Sigmoid (scaled)
    y = Mul (x, s)
    ```
    with the initializer `alpha = 1.5` in the dtype of `x`.

    ## When it refuses
    - An operator named like a SiLU has other attributes than alpha or beta, or several inputs or outputs.
    - A function has the name of a SiLU, or multiplies by a sigmoid, and computes something else.
    - A factor is needed, the dtype of `x` is not known, and the opset has no CastLike (below 15).
    - A factor is an attribute of the function around it, which some of its calls give and others leave out.
    - The Mul by 1 is read elsewhere too, or could broadcast.

    Gates `Mul(Sigmoid(a), b)` and HardSwish are no SiLU and stay.

    ## Source
    [Swish](https://onnx.ai/onnx/operators/onnx__Swish.html) ·
    [QuickGelu, GroupNorm](https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md) ·
    [SiLU](https://arxiv.org/abs/1702.03118)
    """

    name = "silu"
    group = "mend"

    ops: tuple[str, ...] = option(
        default=(), help="further custom operators that are a SiLU", metavar="Op+domain::Op"
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Rewrite every form below ``graph``."""
        while True:
            walk = _Walk(graph.model, self.ops)
            walk.run()
            tally.rewrite(walk.done)
            # What was refused may have been so for want of a dtype that can be inferred now.
            if not walk.done or not walk.refused:
                break
        for scope, node, reason in walk.refused:
            tally.refuse(scope, node, reason)


class _Walk:
    """One walk over all scopes, callers before the functions that they call."""

    def __init__(self, model: Model, extra: tuple[str, ...]) -> None:
        self.model = model
        self.done = 0
        self.refused: list[tuple[Graph, Node, str]] = []
        self._known = Known(model)
        self._scalars = Scalars(self._known)
        self._functions = Functions(model)
        self._forms = Forms(self._functions, extra)

    def run(self) -> None:
        once_called = self._functions.called() if self.model.functions else set()
        scopes: dict[int, list[Graph]] = {}
        for scope in self.model.scopes():
            scopes.setdefault(id(root_of(scope).gs), []).append(scope)
        for root in (self.model.main, *self._functions.callers_first()):
            if root.is_function:
                self._functions.prune(once_called)
                if all(root.gs is not f.gs for f in self.model.functions):
                    continue
            for scope in scopes[id(root.gs)]:
                for node in list(scope.nodes):
                    self._visit(scope, node)
        self._functions.prune(once_called)

    def _visit(self, graph: Graph, node: Node) -> None:
        try:
            self.done += self._rewrite(graph, node)
        except NotApplicable as error:
            self.refused.append((graph, node, str(error)))

    def _rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrite ``node`` if it is a form of SiLU; NotApplicable if it only looks like one."""
        function = self._functions.called_by(node)
        if function is not None:
            return self._call(graph, node, function)
        form = self._forms.operator(graph, node)
        if form is not None:
            alpha = self._given(graph, self._forms.alpha(node, form), form)
            if form == "custom":  # the others are defined for floats only
                self._require_float(graph, node.inputs[0])
            return self._decompose(graph, node, node.inputs[0], alpha)
        if domain_of(node) == "com.microsoft" and node.op in ("GroupNorm", "SkipGroupNorm"):
            return self._norm(graph, node)
        if node.op == "Sigmoid" and not domain_of(node):
            return self._drop_times_one(graph, node)
        return False

    def _given(self, graph: Graph, alpha: Any, form: str) -> Any:
        """``alpha``, or its default where it is an attribute of the function that no call gives."""
        if not isinstance(alpha, AttributeRef):
            return alpha
        givers = self._functions.giving(root_of(graph), alpha.name)
        if len(givers) > 1:
            raise NotApplicable(f"its factor is '{alpha.name}', which some calls of the function leave out")
        return alpha if givers == {True} else default_alpha(form)

    def _call(self, graph: Graph, node: Node, function: Graph) -> bool:
        found = self._forms.call(graph, node, function)
        if found.kind != "silu":
            if len(function.nodes) <= _SMALL and (found.reason or _NAMED.search(node.op)):
                raise NotApplicable(
                    found.reason or "its body computes something else than x * sigmoid(alpha * x)"
                )
            return False
        x = node.inputs[found.of]
        if not self._known.keeps_shape(graph, x, found.rank):
            raise NotApplicable(f"its factor has {found.rank} dimensions, and '{x.name}' may have fewer")
        return self._decompose(graph, node, x, found.scale, found.dtype)

    def _decompose(
        self, graph: Graph, node: Node, x: Tensor, alpha: Any, dtype: np.dtype[Any] | None = None
    ) -> bool:
        (old,) = [t for t in node.outputs if t.name]
        scaled = x
        if alpha != 1:
            factor = self._scalars.like(graph, alpha, x, node, dtype)
            (scaled,) = graph.add("Mul", [x, factor], outputs=[f"{old.name}_scaled"], before=node, of=[node])
        made = _times_sigmoid(graph, x, scaled, node, node)
        graph.remove([node])
        graph.replace(old, made)
        self._known.alike(old, x)
        return True

    def _require_float(self, graph: Graph, x: Tensor) -> None:
        dtype = self._known.dtype(graph, x)
        if dtype is not None and (
            dtype.name not in FLOATS or (dtype.name == "bfloat16" and graph.opset < 13)
        ):
            raise NotApplicable(
                f"'{x.name}' is {dtype.name}, which Sigmoid of opset {graph.opset} does not take"
            )

    def _norm(self, graph: Graph, node: Node) -> bool:
        """Take the activation out of a norm; the node stays, and writes a new tensor."""
        activation = attribute(graph, node, "activation")
        if activation == 0 or not node.outputs[0].name:
            return False
        if activation != 1:
            raise NotApplicable(
                f"its activation is {activation if isinstance(activation, int) else 'not known'}, not 1"
            )
        old = node.outputs[0]
        place = next(i for i, n in enumerate(graph.nodes) if n is node)
        following = graph.nodes[place + 1] if place + 1 < len(graph.nodes) else None
        normal = Variable(self.model.fresh_name(f"{old.name}_normal"), dtype=old.dtype, shape=old.shape)
        made = _times_sigmoid(graph, normal, normal, node, following)
        node.attrs["activation"] = 0
        node.outputs[0] = normal
        graph.replace(old, made)
        return True

    def _drop_times_one(self, graph: Graph, sigmoid: Node) -> bool:
        """``x * sigmoid(x * 1)`` without the 1."""
        scaled = sigmoid.inputs[0]
        mul = graph.producer(scaled)
        if mul is None or mul.op != "Mul" or domain_of(mul) or len(mul.inputs) != 2:
            return False
        pair = next(((x, c) for x, c in (mul.inputs, mul.inputs[::-1]) if self._is_one(graph, c)), None)
        if pair is None or not _multiplies(graph, sigmoid.outputs[0], pair[0]):
            return False
        x, one = pair
        if any(r is not sigmoid for r in graph.consumers(scaled)) or graph.is_output(scaled):
            raise NotApplicable(
                f"the Mul by 1 in front of it makes '{scaled.name}', which is read elsewhere too"
            )
        rank = len(graph.shape(one) or ())
        if not self._known.keeps_shape(graph, x, rank):
            raise NotApplicable(
                f"the 1 that its input is multiplied by has {rank} dimensions, '{x.name}' may have fewer"
            )
        graph.rewire(sigmoid, scaled, x)
        owner = next(s for s in self.model.scopes() if any(n is mul for n in s.nodes))
        owner.remove([mul])
        self._drop_unread(owner, one)
        return True

    def _is_one(self, graph: Graph, tensor: Tensor) -> bool:
        shape = graph.shape(tensor) if graph.is_constant(tensor) else None
        if shape is None or any(d != 1 for d in shape):
            return False
        values = graph.value(tensor)
        return values is not None and values.dtype.name in FLOATS and float(values.reshape(())) == 1

    def _drop_unread(self, graph: Graph, constant: Tensor) -> None:
        if graph.consumers(constant) or graph.is_output(constant):
            return
        maker = graph.producer(constant)
        if maker is None:
            graph.remove_initializer(constant)
        elif any(maker is n for n in graph.nodes):
            graph.remove([maker])


_NAMED = re.compile(r"silu|(?<!hard)(?<!hard_)swish", re.IGNORECASE)
_SMALL = 8  # nodes; a larger function is a block that has such things in it


def _times_sigmoid(graph: Graph, x: Tensor, scaled: Tensor, node: Node, before: Node | None) -> Tensor:
    """``x * sigmoid(scaled)`` in front of ``before``, made from ``node``."""
    name = next(t.name for t in node.outputs if t.name)
    (sigmoid,) = graph.add("Sigmoid", [scaled], outputs=[f"{name}_sigmoid"], before=before, of=[node])
    return graph.add("Mul", [x, sigmoid], outputs=[f"{name}_silu"], before=before, of=[node])[0]


def _multiplies(graph: Graph, sigmoid: Tensor, x: Tensor) -> bool:
    """Whether some Mul has ``x`` and its sigmoid as factors."""
    readers = [n for n in graph.consumers(sigmoid) if n.op == "Mul" and not domain_of(n)]
    return any(t is x for n in readers for t in n.inputs)
