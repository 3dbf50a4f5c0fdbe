"""The ``settle-shapes`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class SettleShapes(Pass):
    """Write down the shapes that code computes, as far as a constant says them: dims kept, and one left over.

    The dims of a dynamic model are followed by name through `Shape`, `Gather`, `Slice`, `Concat`, `Cast`,
    arithmetic and the like. Then

    - the shape that a `Reshape` reads becomes a constant when each of its elements is a number, the same dim
      of the tensor itself (0), or the only one that is left (-1); that of an `Expand`, when each is a number
      or the same dim of the tensor (1);
    - of vectors with the same elements, the first stands for all;
    - a `Reshape` or `Expand` to the shape that the tensor has already gives way to the tensor.

    What only the old shape code read goes with it.

    ## Why
    `fold-constants` computes shapes that are numbers. In a dynamic model they are not, and exporters write a
    dozen nodes where `[0, -1, 85]` says the same, and every head of a detector writes them again. Engine
    builders run what is left on the host, and some refuse it ("shape tensor").

    ## Example
    ```
    s = Shape (x)                           # x: [batch, 3, height, width]
    n = Gather (s, 0)
    m = Unsqueeze (n, axes)
    t = Concat <axis = 0> (m, minus_one)    # [batch, -1]
    y = Reshape (x, t)
    ```
    becomes
    ```
    y = Reshape (x, reshaped)               # [0, -1]
    ```

    ## When it refuses
    - More than one element of a shape is neither a number nor the dim of the tensor at its place: such a
      `Reshape` reads what it read before. That is no refusal to report: it is what shape code is for.
    - `allowzero` is 1: a 0 would be no copied dim.
    - In local functions, which know no shapes.

    The dim that is left over is what the others make of it, as the standard has it; where a copied dim is 0
    at run time, so that the tensor is empty, runtimes refuse a -1 that they accept otherwise.
    Names are those that shape inference makes, and those of the inputs' dims; a name that one input has
    twice, such as `?`, is believed to say nothing.

    ## Source
    [Reshape](https://onnx.ai/onnx/operators/onnx__Reshape.html) ·
    [symbolic shape inference](https://onnx.ai/onnx/repo-docs/ShapeInference.html)
    """

    name = "settle-shapes"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Follow the shape code, and write down what it says, until it says no more."""
        from graphkit_passes._settling import settle

        if any(n.op in ("Shape", "Size") for s in graph.scopes() for n in s.nodes):
            settle(graph, tally)
