"""The ``cut`` pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from graphkit import BadOption, Bridge, Graph, Pass, Tally, option
from graphkit.model.graph import Node, Tensor
from graphkit_passes._edit import Names, Types, bare, distinct, quoted
from graphkit_passes._reach import Trim, downstream


class Cut(Pass):
    """Drop everything after a tensor: it becomes an output, and what depended on it goes.

    Outputs that depend on a tensor of `after` go; the others stay, in their order, and the tensors of `after`
    come behind them. Nodes, initializers, local functions and inputs that only what is dropped needed go too.
    `cut:boxes` alone is short for `cut:after=boxes`.

    ## Why
    A post-processing that a builder refuses, or that is faster elsewhere, is cut off: the decoding and NMS
    behind a detector's heads, the ArgMax behind logits, the pooling behind features.

    ## Example
    `cut:after=logits` on
    ```
    (float[1,8] x) => (int64[1,1] best)
    logits = MatMul (x, w)
    best = ArgMax <axis = 1> (logits)
    ```
    gives
    ```
    (float[1,8] x) => (float[1,4] logits)
    logits = MatMul (x, w)
    ```

    ## When it refuses
    - The dtype or the rank of the new output is not known, or it is no tensor.

    It stops, with nothing changed, when a name is not in the main graph, or is a graph input or a constant,
    and when one tensor comes after another.

    ## Source
    [onnx.utils](https://onnx.ai/onnx/api/utils.html)
    """

    name = "cut"
    group = "edit"

    after: tuple[str, ...] = option(help="tensors that become outputs", metavar="a+b")

    def __post_init__(self) -> None:
        if not self.after:
            raise BadOption("cut:after names no tensor; write cut:after=a+b")

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``after=a+b``, or ``a+b`` alone."""
        return super().from_spec(bare(arguments, "after"))

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Find what depends on the tensors, and take it out."""
        distinct(self.name, self.after, "a tensor to cut after")
        names, types = Names(graph, self.name), Types(graph)
        ends = [names.computed(n) for n in self.after]
        nodes, made = downstream(graph, ends)
        later = next((t.name for t in ends if id(t) in made), None)
        if later is not None:
            raise BadOption(f"{self.name}: '{later}' comes after another one of {quoted(self.after)}")
        were = {id(t) for t in graph.outputs}
        new = [t for t in ends if id(t) not in were]
        if (nodes or new) and types.declare(new, tally):
            self._cut(graph, tally, new, nodes, made)

    def _cut(
        self, graph: Graph, tally: Tally, new: Sequence[Tensor], nodes: Sequence[Node], made: set[int]
    ) -> None:
        """Take ``nodes`` out, which make the tensors ``made``; ``new`` are outputs that there were not."""
        trim = Trim(graph)
        gone = [t.name for t in graph.outputs if id(t) in made]
        graph.outputs[:] = [*(t for t in graph.outputs if id(t) not in made), *new]
        trim.remove(nodes)
        trim.finish()
        tally.rewrite(trim.nodes + len(new))
        says = f"the model ends at {quoted(self.after)}"
        if gone:
            says += f"; {quoted(gone)} {'is' if len(gone) == 1 else 'are'} gone"
        if gone or new or trim.inputs:
            tally.bridge(Bridge(says=says + trim.told()))
