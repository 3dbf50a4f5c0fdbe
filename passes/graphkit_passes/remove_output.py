"""The ``remove-output`` pass."""

from __future__ import annotations

from typing import Self

from graphkit import BadOption, Bridge, Graph, Pass, Tally, option
from graphkit.rewrite.suggest import did_you_mean
from graphkit_passes._edit import Names, bare, distinct, quoted
from graphkit_passes._reach import Trim


class RemoveOutput(Pass):
    """Drop outputs of a model, and all that only they needed.

    Nodes, initializers, local functions and inputs that no other output needs go with them; a tensor that
    other nodes read stays, as an inner one. `remove-output:a+b` alone is short for `remove-output:names=a+b`.

    ## Why
    Detectors return their raw heads beside the decoded boxes, classifiers their logits beside the
    probabilities, and exporters every intermediate state: an engine computes and copies all of them, and an
    output keeps its layers from being fused with those behind it.

    ## Example
    `remove-output:raw` on
    ```
    (float[2] x) => (float[2] y, float[2] raw)
    h = Relu (x)
    y = Neg (h)
    raw = Exp (h)
    ```
    gives
    ```
    (float[2] x) => (float[2] y)
    h = Relu (x)
    y = Neg (h)
    ```

    ## When it refuses
    - No output would be left.

    It stops, with nothing changed, when no tensor has a name, and an output has one much like it. Where that
    is not so, the output may have been removed before: a note says that there is none.

    ## Source
    [ONNX IR: graphs](https://onnx.ai/onnx/repo-docs/IR.html#graphs)
    """

    name = "remove-output"
    group = "edit"

    names: tuple[str, ...] = option(help="outputs of the model", metavar="a+b")

    def __post_init__(self) -> None:
        if not self.names:
            raise BadOption("remove-output:names names no output; write remove-output:a+b")

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``names=a+b``, or ``a+b`` alone."""
        return super().from_spec(bare(arguments, "names"))

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Take the outputs off the list, then trim."""
        distinct(self.name, self.names, "an output")
        ends = [t.name for t in graph.outputs]
        gone = [n for n in self.names if self._is_there(graph, n, ends, tally)]
        if gone and len(gone) == len(ends):
            tally.refuse(graph, gone[0], "no output would be left")
        elif gone:
            trim = Trim(graph)
            graph.outputs[:] = [t for t in graph.outputs if t.name not in gone]
            trim.finish()
            tally.rewrite(trim.nodes + len(gone))
            says = f"{quoted(gone)} {'is' if len(gone) == 1 else 'are'} gone"
            tally.bridge(Bridge(says=says + trim.told()))

    def _is_there(self, graph: Graph, name: str, ends: list[str], tally: Tally) -> bool:
        """Whether ``name`` is an output; one that is not, and looks like a slip, is BadOption."""
        if name not in ends:
            known = Names(graph, self.name)
            if name not in known.main and did_you_mean(name, ends):
                raise known.unknown("output", name, ends)
            tally.note(f"'{name}' is no output (any more); the outputs are {quoted(ends)}")
        return name in ends
