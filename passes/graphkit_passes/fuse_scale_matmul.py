"""The ``fuse-scale-matmul`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class FuseScaleMatmul(Pass):
    """Fold a scale by one constant into the weights of the matrix product that it can be moved to.

    A `Mul` or `Div` by a constant of one element is followed back through `Transpose`, `Reshape`, `Squeeze`,
    `Unsqueeze` and through one side of a `MatMul`, up to a `MatMul` or `Gemm` with constant weights, or to
    the constant `Add` behind such a `MatMul`. A `Gemm` gets another `alpha` and `beta`; else the weights are
    scaled, in float64 and rounded once.

    ## Why
    Attention divides its scores by the square root of the size of a head: one more pass over the largest
    tensor of the layer. The projection of the queries can do it for nothing.

    ## Example
    ```
    m = MatMul (x, w)
    a = Add (m, b)
    r = Reshape (a, heads)
    q = Transpose (r)
    s = MatMul (q, k)
    y = Div (s, 5.656854)
    ```
    becomes
    ```
    m = MatMul (x, w_1)                     # w_1 = w / 5.656854
    a = Add (m, b_1)
    r = Reshape (a, heads)
    q = Transpose (r)
    y = MatMul (q, k)
    ```

    ## When it refuses
    - A tensor on the way is read elsewhere too, or is an output.
    - The new weights are not finite in their dtype, or the scale is zero or not finite.
    - The weights lie in a data file and take more than 1 MiB: they would be copied into the model.

    Only the last two are reported: a scale with nothing to move it to is no candidate.

    ## Source
    [Scaled dot-product attention](https://arxiv.org/abs/1706.03762), section 3.2.1
    """

    name = "fuse-scale-matmul"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Look at each Mul and Div by a constant of one element."""
        from graphkit_passes._scaling import Scaling

        if any(n.op in ("MatMul", "Gemm") for s in graph.scopes() for n in s.nodes):
            Scaling(graph, tally).run()
