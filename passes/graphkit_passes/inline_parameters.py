"""The ``inline-parameters`` pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphkit import Pass, option

if TYPE_CHECKING:
    from graphkit import Graph, Tally
    from graphkit.model.graph import Node, Tensor
    from graphkit_passes._losing import Losing


class InlineParameters(Pass):
    """Make the parameters of operators initializers: sizes of a Resize, pads, axes, bounds of a Clip.

    ## Why
    An engine is built for known parameters, and a parser that finds a node where it looks for numbers gives
    up: "Axis input must be an initializer!", "Resize scales must be an initializer!", "The input pads is
    required to be an initializer". Exporters put an Identity, a Cast or a Reshape in front of a constant, and
    compute pads or sizes from shapes that are fixed. All of TensorRT 7 and 8, and RTX still for some, fail
    there. What follows from constants, and from dims that shape inference proves, is computed here once.

    | operator | parameters |
    |---|---|
    | Resize, Upsample | roi, scales, sizes |
    | Pad, Slice, Clip | pads, value, axes; starts, ends, axes, steps; min, max |
    | Reshape, Expand, Tile, ConstantOfShape, Range | the shape, the repeats, start, limit and delta |
    | Squeeze, Unsqueeze, ReduceSum, ReduceMax, … | axes |
    | TopK, OneHot, Split, CumSum, Trilu, NonMaxSuppression, … | k, depth and values, split, axis, … |
    | QuantizeLinear, DequantizeLinear | scale, zero point |
    | BatchNormalization, InstanceNormalization | scale, shift, mean, variance |

    Nothing else is folded: that is [fold-constants](fold-constants.md). What only the parameters needed goes.

    ## Example
    ```
    axis = Identity (one)                   # one is the initializer {1}
    y = ReduceSum (x, axis)
    ```
    becomes
    ```
    y = ReduceSum (x, axis)                 # axis is the initializer {1}
    ```

    `clip` also writes the bound that a Clip leaves out, for TensorRT 7: the lowest or largest number of its
    dtype, which is what the standard says an absent bound is.

    ## When it refuses
    - A parameter follows from a dim that is not fixed; the report names the dim, and `fix-shapes` mends it.
    - It follows from an input of the model, of a loop's body or of a function, or from the default of an
      input, which a caller can override.
    - It comes out of an If, Loop or Scan, a random operator, or one of a domain that nobody here knows.
    - It takes more than 1 MiB, or is computed from constants that do.
    - It cannot be computed; the report says what the runtime said.
    - `clip` is given, and the dtype of the Clip is not known.

    ## Issues
    [TensorRT#2803](https://github.com/NVIDIA/TensorRT/issues/2803) ·
    [TensorRT#439](https://github.com/NVIDIA/TensorRT/issues/439) ·
    [TensorRT#670](https://github.com/NVIDIA/TensorRT/issues/670) ·
    [TensorRT#1178](https://github.com/NVIDIA/TensorRT/issues/1178) ·
    [onnx-tensorrt#483](https://github.com/onnx/onnx-tensorrt/issues/483) ·
    [onnx-tensorrt#562](https://github.com/onnx/onnx-tensorrt/issues/562)

    ## Source
    https://onnx.ai/onnx/operators/ and https://onnx.ai/onnx/repo-docs/ShapeInference.html
    """

    name = "inline-parameters"
    group = "mend"

    clip: bool = option(default=False, help="also write the bound that a Clip leaves out")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Inline what is known; with it, inference may know more dims."""
        while True:
            inlined, refused = _inline(graph)
            tally.rewrite(inlined)
            if not inlined or not refused:
                break
        for scope, node, reason in refused:
            tally.refuse(scope, node, reason)
        if self.clip:
            _bound_clips(graph, tally)


def _inline(graph: Graph) -> tuple[int, list[tuple[Graph, Node, str]]]:
    """Ask for all parameters at once, and put in place what is known; returns how many, and the others."""
    from graphkit_passes._losing import Losing
    from graphkit_passes._parameters import parameters
    from graphkit_passes._proven import Proven

    proven, placing = Proven(graph), Losing(graph)
    found = [
        (scope, node, node.inputs[place], name)
        for scope in graph.scopes()
        for node in scope.nodes
        for place, name in parameters(scope, node)
        if not scope.is_constant(node.inputs[place])
    ]
    proven.learn((scope, tensor) for scope, _, tensor, _ in found)
    inlined = 0
    refused: dict[int, tuple[Graph, Node, str]] = {}
    for scope, node, tensor, name in found:
        value = proven.value(scope, tensor)
        if value is None:
            reason = f"its {name} cannot be inlined: {proven.why(tensor)}"
            refused.setdefault(id(node), (scope, node, reason))
        elif not scope.is_constant(tensor) and scope.consumers(tensor):
            maker = tensor.inputs[0]
            _settle(proven.home(maker), maker, tensor, value, placing)
            inlined += 1
    placing.sweep()
    return inlined, [r for r in refused.values() if r[1].outputs]


def _settle(graph: Graph, maker: Node, tensor: Tensor, value: Any, placing: Losing) -> None:
    """Let a constant stand for ``tensor``; its maker goes, unless something needs its other outputs."""
    if sum(bool(t.name) for t in maker.outputs) == 1:
        placing.fold(graph, maker, {id(tensor): value})
        placing.remove(graph, [maker])
        return
    if placing.only_nodes:
        (constant,) = graph.add("Constant", [], {"value": value}, before=maker, of=[maker])
    else:
        constant = graph.constant(value, tensor.name, of=[tensor])
    for reader in graph.consumers(tensor):
        graph.rewire(reader, tensor, constant)
    placing.lose(tensor)


def _bound_clips(graph: Graph, tally: Tally) -> None:
    """Give each Clip with one bound the other."""
    from graphkit.model.operators import domain_of
    from graphkit_passes._shared import Known

    known = Known(graph.model)
    for scope in graph.scopes():
        for node in scope.nodes:
            if node.op != "Clip" or domain_of(node) or scope.opset < 11:
                continue
            given = [t for t in node.inputs[1:3] if t.name]
            if len(given) == 1:
                dtype = scope.dtype(given[0]) if scope.is_constant(given[0]) else None
                dtype = dtype or known.dtype(scope, node.inputs[0])
                if dtype is None:
                    tally.refuse(scope, node, f"the dtype of '{node.inputs[0].name}' is not known")
                else:
                    _bound(scope, node, dtype)
                    tally.rewrite()


def _bound(graph: Graph, node: Node, dtype: Any) -> None:
    import ml_dtypes
    import numpy as np

    whole = np.issubdtype(dtype, np.integer)
    limits: Any = np.iinfo(dtype) if whole else ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    place = next(i for i in (1, 2) if i >= len(node.inputs) or not node.inputs[i].name)
    number, name = ((limits.min, "min"), (limits.max, "max"))[place - 1]
    made = graph.constant(np.asarray(number, dtype), name)
    if place < len(node.inputs):
        node.inputs[place] = made
    else:
        node.inputs.append(made)
