"""The ``add-output`` pass."""

from __future__ import annotations

from typing import Self

from graphkit import BadOption, Bridge, Graph, Pass, Tally, option
from graphkit_passes._edit import Names, Types, bare, distinct, quoted


class AddOutput(Pass):
    """Return inner tensors of the main graph as outputs too, behind those that there are.

    An output gets the dtype and shape that inference finds, or else those that the file says of the tensor,
    which a note tells. `add-output:a+b` alone is short for `add-output:names=a+b`.

    ## Why
    Features of a backbone, the embedding in front of a classifier, or a layer whose values are looked at to
    find out where precision is lost: a runtime gives what is an output, and nothing else.

    ## Example
    `add-output:features` on
    ```
    (float[2] x) => (float[2] y)
    features = Relu (x)
    y = Neg (features)
    ```
    gives
    ```
    (float[2] x) => (float[2] y, float[2] features)
    features = Relu (x)
    y = Neg (features)
    ```

    ## When it refuses
    - The dtype or the rank of a tensor is not known, or it is no tensor.

    It stops, with nothing changed, when a name is not in the main graph: a tensor in the body of an If, a
    Loop or a function has no value outside of it. So it does for graph inputs and constants.

    ## Source
    [ONNX IR: graphs](https://onnx.ai/onnx/repo-docs/IR.html#graphs)
    """

    name = "add-output"
    group = "edit"

    names: tuple[str, ...] = option(help="tensors of the main graph", metavar="a+b")

    def __post_init__(self) -> None:
        if not self.names:
            raise BadOption("add-output:names names no tensor; write add-output:a+b")

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``names=a+b``, or ``a+b`` alone."""
        return super().from_spec(bare(arguments, "names"))

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Add what is no output yet."""
        distinct(self.name, self.names, "an output")
        names, types = Names(graph, self.name), Types(graph)
        ends = {t.name for t in graph.outputs}
        new = [names.computed(n) for n in self.names if n not in ends]
        if new and types.declare(new, tally):
            graph.outputs.extend(new)
            tally.rewrite(len(new))
            tally.bridge(Bridge(says=f"{quoted(t.name for t in new)} can be read as output too"))
