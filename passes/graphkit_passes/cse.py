"""The ``cse`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally, option


class Cse(Pass):
    """Compute once what several nodes compute from the same inputs.

    ## Why
    Exporters write the same thing down each time that somebody asks for it: `Shape` of one tensor four times,
    one mask for each layer, one scale for each branch of a quantized block. Common subexpression elimination
    keeps the first and lets all read that one. It works through chains: once two `Shape` nodes are one, the
    two `Gather` nodes behind them read the same.

    ## Example
    ```
    a = Shape(x)
    h = Gather(a, two)                  # two = {2}
    b = Shape(x)
    k = Gather(b, also_two)             # also_two = {2}
    n = Mul(h, k)
    ```
    becomes
    ```
    a = Shape(x)
    h = Gather(a, two)
    n = Mul(h, h)
    ```
    Nodes are the same when operator, inputs and attributes are; attributes with their defaults, tensors and
    subgraphs by content, the operands of `Add`, `Mul` and their like in any order. A node in the body of an
    If, Loop or Scan gives way to one in the graph around it, never the other way round. Constants with the
    same bits become one as well.

    ## When it refuses
    - Both results are outputs of the graph: to keep both names takes a node each.
    - The second is an output of a branch or loop body, which has to compute it itself.
    - A random operator, a Dropout that trains, or a function or subgraph with one inside.
    - An operator that the standard does not define: it may give something else each time.
    - A graph inside has another tensor with the name of the first.

    Constants in data files are not read, and stay apart.

    ## Source
    [Cocke 1970, Global common subexpression elimination](https://dl.acm.org/doi/10.1145/390013.808480) ·
    [names in ONNX](https://onnx.ai/onnx/repo-docs/IR.html#names-within-a-graph)
    """

    name = "cse"
    group = "simplify"

    weights: bool = option(
        default=True,
        help="let equal constants be one too; turn it off where weights are to be changed later by name",
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Walk until nothing is found; one walk is enough where the nodes are in order."""
        from graphkit_passes._cse import Walk

        while True:
            walk = Walk(graph, self.weights)
            walk.run()
            tally.rewrite(walk.done)
            if walk.ordered or not walk.done:
                break
        for scope, node, reason in walk.refused:
            tally.refuse(scope, node, reason)
