"""The ``fuse-transpose`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class FuseTranspose(Pass):
    """Merge transposes with each other and with what can do their work, wherever fewer nodes are left.

    ## Why
    A model that was moved between layouts (NHWC and NCHW), and attention written by hand, transpose back and
    forth. A transpose moves the whole tensor through memory, and one between two layers keeps an engine from
    fusing them.

    ## Example
    ```
    a = Transpose <perm = [0, 2, 3, 1]> (x)
    b = Relu (a)
    c = Mul (b, scale)                      # scale: [8]
    y = Transpose <perm = [0, 3, 1, 2]> (c)
    t = Transpose (v)                       # v: 8x4
    z = Gemm (u, t)
    ```
    becomes
    ```
    b = Relu (x)
    y = Mul (b, scale_1)                    # scale_1: [8,1,1]
    z = Gemm <transB = 1> (u, v)
    ```
    - Two transposes in a row are one, or none.
    - So are two with elementwise operators, `Concat`, `Softmax` or reductions in between: those work in the
      other layout.
    - Where all inputs of such an operator are transposed alike, one transpose behind it does.
    - A reduction that leaves no axes to be moved takes its axes from before the transpose.
    - `Gemm` transposes by itself, and so `MatMul` of matrices becomes a `Gemm`.

    A transpose of a constant is left to `fold-constants`.

    ## When it refuses
    - What lies between two transposes that would cancel is read elsewhere too, or is an output of the graph.
    - An operand beside a transposed matrix is not known to be a matrix.
    - A graph inside has another tensor with the name of the tensor that would be read.

    ## Source
    [Transpose](https://onnx.ai/onnx/operators/onnx__Transpose.html) ·
    [Gemm](https://onnx.ai/onnx/operators/onnx__Gemm.html)
    """

    name = "fuse-transpose"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Walk until nothing is found."""
        from graphkit_passes._turns import Turns

        if any(n.op == "Transpose" for s in graph.scopes() for n in s.nodes):
            Turns(graph, tally).run()
