"""The ``replace`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from graphkit import BadOption, Bridge, Graph, Pass, PassFailed, Tally, option, rest
from graphkit.model.graph import Tensor
from graphkit_passes._edit import Names, Types, defaults, distinct, quoted
from graphkit_passes._operator import HELP, Operator, as_text, same
from graphkit_passes._reach import Trim, downstream, unproven, upstream


class Replace(Pass):
    """Put one node in the place of what computes some tensors from others: a plug-in, or a single operator.

    The node reads `inputs` and makes `outputs`, in that order, under their names. Nodes, initializers and
    local functions that only the old computation needed go; what feeds something else too stays. Constants
    inside of it go with it, for a plug-in has its numbers in attributes; give a tensor among `inputs` to hand
    it over.

    Options that are none of the pass's own are the node's attributes, as in
    `replace:inputs=x,outputs=y,op=MyNorm,domain=trt.plugins,epsilon=1e-5,axes=1+2`. They are read by their
    looks (`1` an integer, `0.5` a number, `1+2` a list, anything else a text), or by the type in front:
    `int:`, `float:`, `string:`, `ints:`, `floats:`, `strings:`; those of ONNX's operators have the types that
    ONNX declares. An attribute that is called like an option is written `attr.name=…`.

    The result of an operator that ONNX or ONNX Runtime knows, or of a local function, is compared with what
    was there. What a plug-in computes nobody here knows: outputs behind it are reported as not proven, all
    others are compared.

    ## Why
    A plug-in takes the place of many nodes: a deformable attention that was exported as a hundred of them, a
    custom NMS, a layer that TensorRT runs with a kernel of its own.

    ## Example
    `replace:inputs=x,outputs=y,op=MyGate,domain=trt.plugins,alpha=1.5` on
    ```
    (float[2] x) => (float[2] z)
    a = Mul (x, scale)
    s = Sigmoid (a)
    y = Mul (x, s)
    z = Neg (y)
    ```
    gives
    ```
    (float[2] x) => (float[2] z)
    y = trt.plugins.MyGate <alpha = 1.5> (x)
    z = Neg (y)
    ```

    ## When it refuses
    - An input depends on an output: no one node could stand there.

    It stops, with nothing changed, when a name is not in the main graph, when an output cannot be computed
    from the inputs (it names what is missing), and when the operator is not ONNX's and has no domain, or does
    not take such inputs or attributes. Where that very node makes the outputs already, nothing is done.

    ## Source
    [TensorRT: plug-ins in ONNX models](https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/extending-custom-layers.html)
    """

    name = "replace"
    group = "edit"

    inputs: tuple[str, ...] = option(help="tensors that the node reads", metavar="a+b")
    outputs: tuple[str, ...] = option(help="tensors that it makes", metavar="c+d")
    op: str = option(help="type of the node")
    domain: str = option(default="", help="domain of its operator; empty: ONNX's own")
    name_: str = option(default="", help="name of the node; its type when left out")
    attributes: Mapping[str, str] = rest(help=HELP, metavar="NAME=VALUE")

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from a recipe's values, where attributes have types."""
        own = {f.name.rstrip("_") for f in cls.options()} - {"attributes"}
        return super().from_values({k: v if k in own else as_text(v) for k, v in values.items()})

    def __post_init__(self) -> None:
        if not self.outputs:
            raise BadOption("replace:outputs names no tensor; write replace:inputs=a+b,outputs=c,op=…")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Check that the node can stand there, then put it in and trim."""
        distinct(self.name, self.outputs, "an output")
        operator = Operator(self.name, graph, self.op, self.domain)
        attrs = operator.attributes(self.attributes)
        wrong = operator.takes(len(self.inputs), len(self.outputs))
        if wrong:
            raise BadOption(f"{self.name}: {wrong}")
        names = Names(graph, self.name)
        inputs, outputs = [names.tensor(n) for n in self.inputs], [names.computed(n) for n in self.outputs]
        maker = graph.producer(outputs[0])
        if maker is not None and same(maker, self.op, operator.domain, attrs, inputs, outputs):
            tally.note(f"'{self.outputs[0]}' is made by that node already")
            return
        self._require_computable(graph, inputs, outputs)
        _, made = downstream(graph, outputs)
        later = next((t for t in inputs if id(t) in made or any(t is o for o in outputs)), None)
        if later is not None:
            tally.refuse(
                graph, later, "it depends on what the node would make: no one node could stand there"
            )
            return
        gone = self._put(graph, operator, attrs, inputs, outputs)
        tally.rewrite()
        tally.note(f"{gone} node{'' if gone == 1 else 's'} went")
        if not operator.computable:
            why = f"it is computed by {self.op}, which is a plug-in"
            says = f"a {self.op} makes {quoted(self.outputs)}"
            tally.bridge(Bridge(says=says, unproven=unproven(graph, outputs, why)))

    def _require_computable(self, graph: Graph, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Nothing but the inputs and constants may be needed for the outputs."""
        given = {id(t) for t in inputs}
        for output in outputs:
            _, read = upstream(graph, [output], inputs)
            ends = (*graph.inputs, *defaults(graph))
            missing = [t.name for t in ends if id(t) in read and id(t) not in given]
            if missing:
                told = ", ".join(self.inputs) or "constants"
                raise PassFailed(
                    f"{self.name}: output '{output.name}' cannot be computed from {told} alone: "
                    f"it needs '{missing[0]}'; add that, or a tensor on the way to it, to the inputs"
                )

    def _put(
        self,
        graph: Graph,
        operator: Operator,
        attrs: Mapping[str, Any],
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> int:
        """Make the node, let it write the outputs, and drop what nothing needs; returns how many nodes."""
        trim, types = Trim(graph), Types(graph)
        if not operator.computable:  # what follows needs their types, which nobody can infer any more
            types.annotate(outputs)
        makers = [graph.producer(t) for t in outputs]
        last = max((i for i, n in enumerate(graph.nodes) if any(n is m for m in makers)), default=0)
        made = graph.add(
            self.op,
            inputs,
            attrs,
            outputs=len(outputs),
            domain=operator.domain,
            name=self.name_ or self.op,
            before=graph.nodes[last],
        )
        node = made[0].inputs[0]
        graph.model.note_origin(node, graph.model.first_names(outputs))
        for old, new in zip(outputs, made, strict=True):
            graph.replace(old, new)
        trim.finish(inputs=False)
        return trim.nodes
