"""The ``simplify`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Size, Tally, option


class Simplify(Pass):
    """Run every pass that leaves fewer nodes and the same numbers, over and over until none finds anything.

    In this order, and again from the first whenever a later one has changed something: `fold-constants`,
    `remove-dead`, `settle-branches`, `remove-identity`, `drop-defaults`, `cse`, `settle-shapes`,
    `fuse-transpose`, `fuse-reshape`, `fuse-slice`, `fuse-pad-conv`, `fuse-conv-bn`, `fuse-mul-conv`,
    `fuse-focus`, `fuse-layer-norm`, `fuse-rms-norm`, `fuse-gelu`, `fuse-constants`,
    `fuse-matmul-bias`, `fuse-gemm` and `fuse-scale-matmul`. Each has a page of its own that says what it does
    and when it refuses. Shapes are inferred anew only when a pass has written down something from which more
    of them follow, and a pass is left out while the model has none of its operators, or nothing changed since
    it last ran.

    ## Why
    It is one name for what onnxsim, onnxslim and ONNX Runtime's basic level are used for. Unlike them it
    believes no shape that the file only claims, keeps every name that a caller can see, keeps large weights
    in their data file, and reports what it left and why.

    ## Example
    ```
    two = Constant <value_float = 2.0> ()
    s = Shape(x)
    r = Reshape(x, s)                       # x keeps its shape
    c = Conv(r, w)
    m = Mul(c, two)
    y = Identity(m)
    ```
    becomes
    ```
    y = Conv(x, w_1)                        # w_1 = 2 w
    ```
    Two rules differ from `fold-constants` on its own: a result of one repeated element (`ConstantOfShape`) is
    stored as well, and a weight, what an engine builder wants as an initializer, of whatever size. Before IR
    version 4, results become initializers that are listed as inputs too, as that version has it.

    ## When it refuses
    - Where each of its passes refuses; the report has every place once, with the first reason, and only
      places that are still in the model.
    - The passes named in `skip` do not run.

    ## Source
    The passes' own pages.
    """

    name = "simplify"
    group = "simplify"

    max_size: Size = option(
        default=Size(1 << 20),
        help="a result with more bytes is folded only when the model does not grow by it, or it is a weight",
    )
    skip: tuple[str, ...] = option(default=(), help="passes to leave out, by name: cse+fuse-gemm")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Run the passes to a fixed point."""
        from graphkit_passes._simplify import Pipeline

        Pipeline(graph, tally, int(self.max_size), self.skip).run()
