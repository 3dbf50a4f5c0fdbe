"""The ``insert`` pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from graphkit import BadOption, Bridge, Graph, NotApplicable, Pass, Tally, option, rest
from graphkit.model.graph import Node, Tensor
from graphkit.rewrite.suggest import did_you_mean
from graphkit_passes._edit import Names, Types, declare, is_default, is_tensor, point, quoted
from graphkit_passes._operator import HELP, Operator, as_text
from graphkit_passes._reach import unproven


class Insert(Pass):
    """Put a node behind a tensor, in front of all that reads it or of one reader.

    The node has one input and one output.

    Without `op` it is an Identity. Options that are none of the pass's own are attributes, as in
    `insert:op=LeakyRelu,on=h,alpha=0.1`. Their types are those that ONNX declares; for an operator of another
    domain they are read by their looks (`1` an integer, `0.5` a number, `1+2` a list, else a text), or
    written in front: `int:`, `float:`, `string:`, `ints:`, `floats:`, `strings:`. A dtype may be written by
    its name, `op=Cast,to=float16`. An attribute that is called like an option is written `attr.name=…`.

    `reader` is the name of a node, or of a tensor that it makes; `input` one of its inputs, counted from 0.
    Where a tensor is an output of the model and no reader is given, the new node makes the output, under its
    name.

    Other numbers are what is asked for: outputs behind the new node are not compared, unless it is an
    Identity; all others are.

    ## Why
    A Cast that keeps a layer in float32, a Clip that finds out whether an overflow is to blame, an Identity
    to give an edge a name of its own, a plug-in that prints: by hand it takes a script for each.

    ## Example
    `insert:op=LeakyRelu,on=h,reader=out,alpha=0.5` on
    ```
    (float[2] x) => (float[2] y)
    h = Neg (x)
    [out] y = Abs (h)
    ```
    gives
    ```
    (float[2] x) => (float[2] y)
    h = Neg (x)
    h_LeakyRelu = LeakyRelu <alpha = 0.5> (h)
    [out] y = Abs (h_LeakyRelu)
    ```

    ## When it refuses
    - Nothing reads the tensor, and it is no output; or it is an input and an output at once.
    - It is a sequence, and the operator takes tensors only.

    It stops, with nothing changed, when a name is not in the main graph, the node does not read the tensor
    (there), the operator is not ONNX's and has no domain, takes another number of inputs, or has no such
    attribute. What the same pass put in is not put in twice; the text format (.onnxtxt) forgets who made
    what.

    ## Source
    [ONNX operators](https://onnx.ai/onnx/operators/)
    """

    name = "insert"
    group = "edit"

    on: str = option(help="the tensor of the main graph behind which the node goes", metavar="TENSOR")
    op: str = option(default="Identity", help="type of the node")
    domain: str = option(default="", help="domain of its operator; empty: ONNX's own")
    reader: str = option(default="", help="the one node that is to read the new tensor; all when left out")
    input: int | None = option(
        default=None, help="which input of the reader; all that are the tensor, if none"
    )
    attributes: Mapping[str, str] = rest(help=HELP, metavar="NAME=VALUE")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from a recipe's values, where attributes have types."""
        own = {f.name for f in cls.options()} - {"attributes"}
        return super().from_values({k: v if k in own else as_text(v) for k, v in values.items()})

    def __post_init__(self) -> None:
        if self.input is not None and not self.reader:
            raise BadOption("insert:input counts the inputs of a node; give that node with reader=NAME")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Make the node, and let the readers have what it gives."""
        operator = Operator(self.name, graph, self.op, self.domain)
        attrs = operator.attributes(self.attributes)
        wrong = operator.takes(1, 1)
        if wrong:
            raise BadOption(f"{self.name}: {wrong}")
        tensor = Names(graph, self.name).tensor(self.on)
        near = [*graph.consumers(tensor), *tensor.inputs]
        if any(graph.model.made_by(n) == str(self) for n in near):
            tally.note(f"behind '{self.on}' is that node already")
            return
        readers = self._readers(graph, tensor)
        is_end = not self.reader and any(t is tensor for t in graph.outputs)
        is_input = any(t is tensor for t in graph.inputs) or is_default(graph, tensor)
        if not readers and not is_end:
            tally.refuse(graph, tensor, "nothing reads it, and it is no output")
            return
        if is_end and is_input:
            tally.refuse(graph, tensor, "it is an input and an output at once; say which reader")
            return
        if _is_sequence(tensor) and not operator.takes_sequences():
            tally.refuse(
                graph, tensor, f"it is a sequence, which {self.op} of opset {graph.opset} does not take"
            )
            return
        if is_end and (_is_sequence(tensor) or tensor.dtype is None or tensor.shape is None):
            tally.refuse(graph, tensor, "the model returns it, and its type and rank are not declared")
            return
        made = self._made(graph, tensor, attrs, operator, is_end)
        for node, place in readers:
            point(node, place, made)
        tally.rewrite()
        if operator.op != "Identity" or operator.domain:
            why = f"it is computed by the {self.op} that was put in"
            says = f"a {self.op} was put in behind '{self.on}'"
            tally.bridge(Bridge(says=says, unproven=unproven(graph, [made], why)))

    def _readers(self, graph: Graph, tensor: Tensor) -> list[tuple[Node, int]]:
        """The readers in question, each with the place of the input."""
        every = {id(n): n for n in graph.consumers(tensor)}.values()
        chosen = [
            n for n in every if not self.reader or self.reader in (n.name, *(t.name for t in n.outputs))
        ]
        if self.reader and not chosen:
            names = [n.name or next((t.name for t in n.outputs), "") for n in every]
            hint = did_you_mean(self.reader, names) or f"its readers are {quoted(names) or 'none'}"
            raise BadOption(f"{self.name}: no node '{self.reader}' reads '{self.on}'; {hint}")
        found = [(n, i) for n in chosen for i, t in enumerate(n.inputs) if t is tensor]
        if self.input is None:
            return found
        if all(i != self.input for _, i in found):
            places = " and ".join(str(i) for _, i in found)
            raise BadOption(
                f"{self.name}: '{self.reader}' reads '{self.on}' as input {places}, not {self.input}"
            )
        return [(n, i) for n, i in found if i == self.input]

    def _made(
        self, graph: Graph, tensor: Tensor, attrs: Mapping[str, Any], operator: Operator, is_end: bool
    ) -> Tensor:
        """The new node's output, which has the name of ``tensor`` where that is an output of the model."""
        maker = graph.producer(tensor)
        place = next((i + 1 for i, n in enumerate(graph.nodes) if n is maker), 0)
        before = graph.nodes[place] if place < len(graph.nodes) else None
        names = [f"{self.on}_{self.op}"]
        (made,) = graph.add(
            self.op,
            [tensor],
            attrs,
            outputs=names,
            domain=operator.domain,
            name=f"{self.on}/{self.op}",
            before=before,
        )
        graph.model.note_origin(made.inputs[0], graph.model.first_names([tensor]))
        if is_end:
            graph.outputs[:] = [made if t is tensor else t for t in graph.outputs]
            graph.rename(tensor, graph.model.fresh_name(f"{self.on}_before_{self.op}"))
            graph.rename(made, self.on)
            try:
                declare(made, *Types(graph).of(made))
            except NotApplicable:  # a plug-in's: most keep what they are given
                declare(made, tensor.dtype, tensor.shape)
        return made


def _is_sequence(tensor: Tensor) -> bool:
    makers = ("SequenceConstruct", "SequenceInsert", "SequenceErase", "SequenceEmpty", "SplitToSequence")
    return not is_tensor(tensor) or any(n.op in makers for n in tensor.inputs)
