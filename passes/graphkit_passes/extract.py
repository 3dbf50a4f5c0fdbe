"""The ``extract`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from graphkit import BadOption, Bridge, Graph, Pass, PassFailed, Tally, option
from graphkit.model.graph import Node, Tensor
from graphkit_passes._edit import Names, Types, bare, detach, distinct, is_default, quoted
from graphkit_passes._reach import Trim, upstream


class Extract(Pass):
    """Keep the part of a model between named tensors, and drop the rest.

    Nodes, initializers, local functions, inputs and outputs that the part does not need go. Without `inputs`,
    the new inputs are those of the model that the outputs need. An inner tensor that becomes an input or an
    output gets the dtype and shape that inference finds, or else those that the file says, which a note
    tells. `extract:detect` alone is short for `extract:outputs=detect`.

    The proof runs the original, gives the part what the original computed for its inputs, and compares.

    ## Why
    A part that a builder refuses, or that is slow or loses precision, is found by taking the model apart; a
    network is cut at the features that somebody else's head wants; and a bug report needs a model that is
    small.

    ## Example
    `extract:inputs=a,outputs=b` on
    ```
    (float[2] x, float[2] z) => (float[2] y)
    a = Relu (x)
    b = Neg (a)
    y = Add (b, z)
    ```
    gives
    ```
    (float[2] a) => (float[2] b)
    b = Neg (a)
    ```

    ## When it refuses
    - The dtype or the rank of a new input or output is not known, or it is no tensor.

    It stops, with nothing changed, when a name is not in the main graph, when an output cannot be computed
    from the inputs (it names the input that is missing), when no output depends on an input, when a tensor is
    both, or a constant.

    ## Source
    Polygraphy's [surgeon extract](https://github.com/NVIDIA/TensorRT/tree/main/tools/Polygraphy/examples/cli/surgeon/01_isolating_subgraphs)
    """

    name = "extract"
    group = "edit"

    outputs: tuple[str, ...] = option(help="tensors that the part returns, in this order", metavar="c+d")
    inputs: tuple[str, ...] = option(
        default=(), help="tensors that the part is given; none: the graph inputs needed", metavar="a+b"
    )

    def __post_init__(self) -> None:
        if not self.outputs:
            raise BadOption("extract:outputs names no tensor; write extract:inputs=a+b,outputs=c+d")

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``inputs=a,outputs=b``; a bare ``b`` is an output."""
        return super().from_spec(bare(arguments, "outputs"))

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Find the part, declare its ends, and take out everything else."""
        distinct(self.name, self.inputs, "an input")
        distinct(self.name, self.outputs, "an output")
        names, types = Names(graph, self.name), Types(graph)
        outputs = [self._output(graph, names, n) for n in self.outputs]
        given = [self._input(graph, names, n) for n in self.inputs]
        nodes, read = upstream(graph, outputs, given)
        ends = [t for t in graph.inputs if id(t) in read]
        if given:
            self._require_closed(graph, given, outputs, read)
            ends = [t for t in given if not is_default(graph, t)]
        had = {id(t) for t in (*graph.inputs, *graph.outputs)}
        if types.declare([t for t in (*ends, *outputs) if id(t) not in had], tally):
            self._cut(graph, tally, ends, outputs, nodes)

    def _cut(
        self,
        graph: Graph,
        tally: Tally,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        nodes: Sequence[Node],
    ) -> None:
        """Make the part the whole, and tell."""
        was, count = ([id(t) for t in graph.inputs], [id(t) for t in graph.outputs]), len(graph.nodes)
        trim, kept = Trim(graph), {id(n) for n in nodes}
        inner = [t for t in inputs if t.inputs]
        for tensor in inner:
            detach(graph, tensor)
        graph.inputs[:], graph.outputs[:] = inputs, outputs
        trim.remove([n for n in graph.nodes if id(n) not in kept])
        trim.finish(inputs=False)
        spare = _drop_constants(graph)
        tally.rewrite(trim.nodes + spare)
        if trim.nodes:
            tally.note(f"kept {len(graph.nodes)} of {count} nodes")
        if was != ([id(t) for t in inputs], [id(t) for t in outputs]):
            tally.rewrite()
            made, given = (quoted(t.name for t in side) for side in (outputs, inputs))
            says = f"the model is what makes {made} from {given or 'no input'}"
            tally.bridge(Bridge(says=says, taken={t.name: t.name for t in inner}))

    def _output(self, graph: Graph, names: Names, name: str) -> Tensor:
        """A tensor that may be an output: one that is already, or that a node makes."""
        ends = {t.name: t for t in graph.outputs}
        return ends[name] if name in ends else names.computed(name)

    def _input(self, graph: Graph, names: Names, name: str) -> Tensor:
        tensor = names.tensor(name)
        if name in self.outputs:
            raise BadOption(f"{self.name}: '{name}' is both an input and an output")
        if graph.is_constant(tensor) and not is_default(graph, tensor):
            raise BadOption(f"{self.name}: '{name}' is a constant; only what is computed can be an input")
        return tensor

    def _require_closed(
        self, graph: Graph, given: Sequence[Tensor], outputs: Sequence[Tensor], read: Mapping[int, Tensor]
    ) -> None:
        """The inputs given must do for the outputs, and each must be of use."""
        known = {id(t) for t in given}
        for output in outputs:
            _, needs = upstream(graph, [output], given)
            missing = [t.name for t in graph.inputs if id(t) in needs and id(t) not in known]
            if missing:
                raise PassFailed(
                    f"{self.name}: output '{output.name}' cannot be computed from {', '.join(self.inputs)}: "
                    f"it needs '{missing[0]}'; add that, or a tensor on the way to it, to the inputs"
                )
        spare = next((t.name for t in given if id(t) not in read), None)
        if spare is not None:
            raise BadOption(f"{self.name}: no output depends on the input '{spare}'; leave it out")


def _drop_constants(graph: Graph) -> int:
    """Remove the initializers and defaults of inputs that nothing reads; returns how many."""
    record = graph.model.records.scopes[id(graph.gs)]
    ends = {id(t) for t in graph.outputs}
    spare = graph.unused_initializers() + [
        i.tensor
        for i in record.initializers.values()
        if i.overridable and not i.tensor.outputs and id(i.tensor) not in ends | graph.model.dropped
    ]
    for tensor in spare:
        graph.remove_initializer(tensor)
    return len(spare)
