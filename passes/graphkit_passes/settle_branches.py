"""The ``settle-branches`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class SettleBranches(Pass):
    """Replace an `If` by the one branch that the rest of the model can run with.

    Where the branches of an `If` give tensors of different ranks, each is assumed in turn, and the shapes of
    what follows from it are inferred: `Shape`, `Size`, `Gather`, `Equal`, `Not` and further `If` nodes that
    ask for the rank are decided on the way. When one assumption leads to a node that cannot run (an `LSTM` of
    a tensor of rank 5), no run of the model takes that branch: the other one takes the place of the `If`.

    ## Why
    TorchScript writes `squeeze(-1)` as an `If` on the size of that dim, and a recurrent layer that also takes
    one sequence as several more on the rank. A branch of another rank stops most engine builders, and hides
    every shape behind it. Exporters could not know; but the layer behind it takes one rank alone.

    ## Example
    ```
    a = If (is_one) <then_branch = { s = Squeeze (x, last) }, else_branch = { i = Identity (x) }>
    u = Unsqueeze (a, first)
    y, h, c = LSTM (u, w, r)                # needs rank 3, so a has rank 2: the first branch
    ```
    becomes
    ```
    a = Squeeze (x, last)
    u = Unsqueeze (a, first)
    y, h, c = LSTM (u, w, r)
    ```
    Where the other branch would have been taken, the old model failed at the `LSTM`; the new one fails at the
    `Squeeze`.

    ## When it refuses
    - Both branches can run, or neither can.
    - An initializer of the branch has the name of another tensor outside: runtimes read the wrong one.

    An `If` whose branches have the same rank, or no known one, is not looked at.

    ## Issues
    [TensorRT#1731](https://github.com/NVIDIA/TensorRT/issues/1731) ·
    [TensorRT#2846](https://github.com/NVIDIA/TensorRT/issues/2846) ·
    [TensorRT#1650](https://github.com/NVIDIA/TensorRT/issues/1650) ·
    [TensorRT#4603](https://github.com/NVIDIA/TensorRT/issues/4603)

    ## Source
    https://onnx.ai/onnx/operators/onnx__If.html
    """

    name = "settle-branches"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Try the branches of each If."""
        from graphkit_passes._trial import settle

        settle(graph, tally)
