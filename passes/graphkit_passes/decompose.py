"""The ``decompose`` pass."""

from __future__ import annotations

from collections import Counter

from graphkit import Graph, NotApplicable, Pass, Tally, option
from graphkit.model.graph import Node
from graphkit.model.operators import domain_of
from graphkit_passes._functions import Functions
from graphkit_passes._lower import drop_unread, rule_for, written
from graphkit_passes._lowering import Lowering
from graphkit_passes._shared import Known
from graphkit_passes._targets import Target, parse
from graphkit_passes.silu import Silu


class Decompose(Pass):
    """Write operators that a version of TensorRT does not know in terms of those that it knows.

    ## Why
    Exporters write the operators of the newest opset; a parser knows them a year later, or in one form only.
    "No importer registered for op", "Op type Swish is not supported", `Attention: TensorRT only supports
    Attention nodes with one output`: the model is fine, and every runtime that has Mul and MatMul can run it.
    The standard itself defines many of these operators by a function of older ones.

    `target` is `rtx-1.4` to `rtx-1.7`, or `trt-8.0` to `trt-11.3`. What TensorRT-RTX knows was measured with
    its parser and builder on the node tests of ONNX; what TensorRT knows is what onnx-tensorrt registers.

    | operator | becomes |
    |---|---|
    | `Swish`, `SwiGLU`, `HardSwish`, `Gelu`, `Mish`, `Celu`, … | arithmetic; `Swish` by the pass `silu` |
    | `LayerNormalization`, `RMSNormalization`, … | ReduceMean, in the precision of `stash_type` |
    | `Attention` | MatMul, Softmax, MatMul: masks, causality, windows, grouped heads, softcap, cache |
    | `RotaryEmbedding` | slices, Mul, Add |
    | `GridSample` | the default mode without its name, or gathers: see `lower-gridsample` |
    | `Mod`, `BitwiseAnd`, `BitwiseOr`, `BitwiseXor`, `BitwiseNot` | integer arithmetic |
    | `CenterCropPad`, `AffineGrid`, `Trilu`, `EyeLike`, `OneHot`, `Hardmax` | Slice, Pad, Where, constants |
    | `CumSum`, `CumProd` | sums of elements 1, 2, 4, … apart |
    | `Einsum` | Transpose, ReduceSum, MatMul |
    | all others that the standard defines by a function | that function |

    An `Attention` that TensorRT has a kernel for (16 bits, heads of 16 to 256) stays one, and only its cache
    and masks are written out.

    ## Example
    `decompose:target=rtx-1.4` on
    ```
    y = CumProd (x, axis)        # x is float[3,4], axis is 1
    ```
    gives
    ```
    a = Slice (x, 0, 3)          # along axis 1
    b = Slice (x, 1, 4)
    c = Mul (a, b)
    d = Slice (x, 0, 1)
    e = Concat <axis = 1> (d, c)
    …                            # the same with elements 2 apart
    ```

    ## When it refuses
    - The target does not know the operator, and there is no way to write it: `Col2Im`, `Unique`, `Det`, …
    - What has to be constant is not, such as the shape of a `CenterCropPad`, or a shape has to be fixed.
    - A dtype or rank has to be known, as inside of local functions it is not.
    - The result would be another: fmod of floats by a division, an `Einsum` that broadcasts.

    ## Issues
    [TensorRT#4639](https://github.com/NVIDIA/TensorRT/issues/4639) ·
    [TensorRT#4646](https://github.com/NVIDIA/TensorRT/issues/4646) ·
    [onnx-tensorrt#1054](https://github.com/onnx/onnx-tensorrt/pull/1054)

    ## Source
    [operators](https://onnx.ai/onnx/operators/) ·
    [what onnx-tensorrt knows](https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md)
    """

    name = "decompose"
    group = "mend"

    target: str = option(default="rtx-1.4", help="the version to write for: rtx-1.4, trt-10.3, …")
    ops: tuple[str, ...] = option(
        default=(),
        help="operators to write in terms of older ones, whatever the target knows",
        metavar="Op+Op",
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Sweep until nothing is left: what stands for an operator can be unknown to the target itself."""
        target = parse(self.target)
        found: Counter[str] = Counter()
        while True:
            sweep = _Sweep(graph, target, frozenset(self.ops), tally)
            sweep.run(found)
            if not sweep.done:
                break
        for scope, node, reason in sweep.refused:
            tally.refuse(scope, node, reason)
        for op in self.ops:
            if not found[op]:
                tally.note(f"no node of the default domain is a '{op}'")


class _Sweep:
    """One walk over all nodes."""

    def __init__(self, main: Graph, target: Target, forced: frozenset[str], tally: Tally) -> None:
        self._main, self._target, self._forced, self._tally = main, target, forced, tally
        self._known = Known(main.model)
        self._functions = Functions(main.model)
        self.done = 0
        self.refused: list[tuple[Graph, Node, str]] = []

    def run(self, found: Counter[str]) -> None:
        silu, lost = False, []
        for scope in self._main.scopes():
            for node in list(scope.nodes):
                if domain_of(node) or self._functions.called_by(node) is not None:
                    continue
                found[node.op] += 1
                if node.op == "Swish":
                    silu = silu or self._unwanted("Swish")
                    continue
                lost += self._visit(scope, node)
        self._tally.rewrite(self.done)
        drop_unread(self._main, lost)
        if silu:
            before = self._tally.rewrites
            Silu().apply(self._main, self._tally)
            self.done += self._tally.rewrites - before

    def _unwanted(self, op: str) -> bool:
        return op in self._forced or not self._target.knows(op)

    def _visit(self, scope: Graph, node: Node) -> list[object]:
        """Rewrite a node if it has to be; returns what it read."""
        read = list(node.inputs)
        try:
            why = self._why(scope, node)
        except NotApplicable:
            return []  # its form is not known; the parser may take it
        if not why:
            return []
        try:
            if rule_for(scope, node) is None:
                raise NotApplicable(f"there is no way to write {node.op} with older operators")
            keeps = () if self._unwanted(node.op) else (node.op,)
            written(scope, node, self._known, keeps=keeps).commit()
        except NotApplicable as error:
            self.refused.append((scope, node, f"{why}; {error}"))
            return []
        self.done += 1
        return read

    def _why(self, scope: Graph, node: Node) -> str:
        """Why a node cannot stay; empty when it can."""
        if node.op in self._forced:
            return "it is asked for"
        if not self._target.knows(node.op):
            return f"{self._target} does not know it"
        objection = self._target.objects(Lowering(scope, node, self._known))
        return f"{self._target}: {objection}" if objection else ""
