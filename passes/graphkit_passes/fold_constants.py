"""The ``fold-constants`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Size, Tally, option


class FoldConstants(Pass):
    """Compute nodes whose inputs are all constant, once, and store the result as an initializer.

    ## Why
    Exporters write the arithmetic down instead of its result: in many models half of the nodes are
    `Constant`, and chains of `Shape`, `Gather` and `Concat` compute a shape that never changes. Engine
    builders want initializers in places where a node stands ("must be an initializer"), and a graph without
    this code is shorter to read and compare.

    ## Example
    ```
    two = Constant <value_float = 2.0> ()
    s = Add(w, two)                         # w is an initializer
    y = Mul(x, s)
    ```
    becomes
    ```
    y = Mul(x, s)                           # s is an initializer
    ```
    `Constant` nodes become initializers too; in a local function, which cannot hold any, and where a graph
    returns the value, what was computed becomes a `Constant` node. `Shape` and `Size` are folded when shape
    inference knows the dims from the graph's inputs: the annotations of a file are never believed. `Gather`,
    `Concat` and the like are folded when the dims that they pick are known, even if others are not, and
    `x * 1`, `x + 0` of such shape code is left out. An `If` with a constant condition gives way to the nodes
    of its branch. What fed only the folded nodes goes with them. Values are those of ONNX Runtime (where only
    one result is right, numpy computes it); for operators that it lacks, those of onnx's reference evaluator.
    Weights in data files stay there.

    ## When it refuses
    - the result is larger than `max-size`, and larger than the constants that vanish with the node;
    - the result is one element over and over (a `ConstantOfShape` weight) in more than 256 bytes, and what
      makes it takes less;
    - random operators, `Loop`, `Scan` and other operators with subgraphs, operators of other domains, and
      calls of local functions that have any of these;
    - `QuantizeLinear` and `DequantizeLinear` of weights, unless `qdq` is given;
    - an input's default value, which a caller can override;
    - an attribute that the caller of a function gives;
    - more than `max-size` of values from a data file;
    - a node that cannot be computed, or gives another type or shape than inference says: it stays, and the
      report says why.

    ## Source
    https://onnx.ai/onnx/operators/ and https://onnx.ai/onnx/repo-docs/ShapeInference.html
    """

    name = "fold-constants"
    group = "simplify"

    max_size: Size = option(
        default=Size(1 << 20),
        help="a result with more bytes is folded only when the model does not grow by it",
    )
    qdq: bool = option(default=False, help="fold QuantizeLinear and DequantizeLinear of constants too")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Fold to a fixed point."""
        from graphkit_passes._fold import Folder

        Folder(graph, tally, int(self.max_size), self.qdq).run()
