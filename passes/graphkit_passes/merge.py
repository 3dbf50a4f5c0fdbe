"""The ``merge`` pass."""

from __future__ import annotations

from graphkit import BadOption, Bridge, Graph, Model, NotApplicable, Pass, Tally, option
from graphkit.model.graph import Tensor
from graphkit.rewrite.suggest import did_you_mean
from graphkit_passes._edit import Names, defaults, quoted
from graphkit_passes._merging import Chain, Moving


class Merge(Pass):
    """Put another model behind this one: its inputs are fed by this one's outputs.

    `map=out->in+…` says which tensor of this model feeds which input of the other; without it, inputs are fed
    by the outputs of their name. An input that is not fed is shared with an input of this model that has its
    name, or becomes a new one. The outputs are this model's, less those that feed the other (`keep=true`
    keeps them too), and then the other's.

    Names of the other model get the `prefix`; those that clash with this model's get a number, which a note
    tells for inputs and outputs. Local functions, custom domains and metadata of both are kept; what both say
    under one key of the metadata, this model says. The other's external data stays where it is when both lie
    in one folder; from another, up to 1 GiB is taken into the model file.

    The proof runs both models one after the other and compares.

    ## Why
    Preprocessing, a network and its post-processing are often exported apart, as are encoder and decoder, or
    a detector's NMS: one engine runs them without a trip through the host, and fuses across the seam.

    ## Example
    `merge:with=softmax.onnx,map=logits->x` on
    ```
    (float[1,8] image) => (float[1,4] logits)
    logits = MatMul (image, w)
    ```
    with `softmax.onnx`
    ```
    (float[N,K] x) => (float[N,K] scores)
    scores = Softmax (x)
    ```
    gives
    ```
    (float[1,8] image) => (float[1,4] scores)
    logits = MatMul (image, w)
    scores = Softmax (logits)
    ```

    ## When it refuses
    - A tensor and the input that it feeds, or that shares it, have different dtypes, or sizes that do not
      fit.
    - The two use different versions of an operator set, and some operator of theirs is not the same in both.
    - Both have functions of one name that differ, and the functions have overloads.
    - The other model has training graphs, or more external data in another folder than fits in the file.

    It stops, with nothing changed, when the other file cannot be read, when a name in `map` is in neither
    model, and when nothing feeds the other model. What was merged before is not merged again.

    ## Issues
    [onnx#3496](https://github.com/onnx/onnx/issues/3496) · [onnx#5592](https://github.com/onnx/onnx/issues/5592)

    ## Source
    [onnx.compose](https://onnx.ai/onnx/api/compose.html)
    """

    name = "merge"
    group = "edit"

    with_: str = option(help="the other model's file", metavar="FILE")
    map: tuple[str, ...] = option(default=(), help="what feeds which input of the other", metavar="OUT->IN+…")
    prefix: str = option(default="", help="put in front of every name of the other model")
    keep: bool = option(default=False, help="let outputs that feed the other model stay outputs")

    def __post_init__(self) -> None:
        for pair in self.map:
            source, arrow, target = pair.partition("->")
            if not (source and arrow and target):
                raise BadOption(f"merge:map: '{pair}' is no pair; write out->in, and + between several")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Load the other model, find what feeds it, and move it in."""
        if any(graph.model.made_by(n) == str(self) for t in graph.outputs for n in t.inputs):
            tally.note(f"{self.with_} was merged before")
            return
        other = Model.load(self.with_)
        fed = self._fed(graph, other)
        moving = Moving(graph, other, fed, self.prefix)
        try:
            moving.require()
        except NotApplicable as error:
            tally.refuse(graph, self.with_, str(error))
            return
        self._move(graph, tally, other, fed, moving)

    def _move(self, graph: Graph, tally: Tally, other: Model, fed: dict[str, Tensor], moving: Moving) -> None:
        used = {id(t) for t in fed.values()} if not self.keep else set()
        left = [t for t in graph.outputs if id(t) not in used]
        sources = {name: t.name for name, t in fed.items()}
        chain = Chain(graph.model, other, sources, [t.name for t in left])
        graph.outputs[:] = left
        chain.names = moving.run()
        made = graph.outputs[len(left) :]
        for node in {id(n): n for t in made for n in t.inputs}.values():
            graph.model.note_origin(node, [])
        for note in moving.notes:
            tally.note(note)
        tally.rewrite()
        ends = {t.name for t in (*graph.inputs, *graph.outputs)}
        reads = tuple(n for n in sources.values() if n not in ends)
        says = f"{self.with_} takes {quoted(sources.values())} and makes {quoted(t.name for t in made)}"
        tally.bridge(Bridge(says=says, feeds=chain.feeds, outputs=chain.expected, reads=reads))

    def _fed(self, graph: Graph, other: Model) -> dict[str, Tensor]:
        """The inputs of the other model that this one feeds or shares, with the tensor."""
        takes = {t.name: t for t in (*defaults(other.main), *other.main.inputs)}
        needed = [t.name for t in other.main.inputs]
        outputs = {t.name: t for t in graph.outputs}
        names, found = Names(graph, self.name), dict[str, Tensor]()
        for source, _, target in (pair.partition("->") for pair in self.map):
            if target not in takes:
                hint = did_you_mean(target, takes) or f"its inputs are {quoted(takes)}"
                raise BadOption(f"merge: {self.with_} has no input '{target}'; {hint}")
            if target in found:
                raise BadOption(f"merge:map feeds the input '{target}' twice")
            found[target] = outputs[source] if source in outputs else names.tensor(source)
        if not self.map:
            found.update((n, outputs[n]) for n in needed if n in outputs)
        inputs = {t.name: t for t in graph.inputs}
        found.update((n, inputs[n]) for n in needed if n in inputs and n not in found)
        if not found:
            raise BadOption(
                f"merge: nothing feeds {self.with_}: this model makes {quoted(outputs)}, and that one takes "
                f"{quoted(takes)}; say with map=out->in"
            )
        return found
