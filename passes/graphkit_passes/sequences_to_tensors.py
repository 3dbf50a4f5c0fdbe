"""The ``sequences-to-tensors`` pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphkit import NotApplicable, Pass

if TYPE_CHECKING:
    from graphkit import Graph, Tally
    from graphkit.model.graph import Node, Tensor
    from graphkit_passes._losing import Losing
    from graphkit_passes._sequences import Elements, Given, Piece, Pieces, Sequences


class SequencesToTensors(Pass):
    """Replace sequences of tensors by the tensors themselves: Split, Squeeze, Unsqueeze, Concat, Gather.

    ## Why
    TensorRT has no sequences, and its parser refuses every operator on them. PyTorch writes them for `split`,
    `unbind`, `chunk`, `cat` and `stack` of a list; nearly always it is known what the list holds.

    | operators | become |
    |---|---|
    | SplitToSequence, SequenceAt at a constant position | Split; with `keepdims=0`, Squeeze too |
    | SplitToSequence into single rows, their number unknown or the position computed | Gather |
    | SequenceConstruct, SequenceEmpty, SequenceInsert, SequenceErase, then SequenceAt | the tensor |
    | the same, then ConcatFromSequence | Concat |
    | … with `new_axis=1` | Unsqueeze of each, then Concat |
    | SequenceLength | a constant; for rows whose number is not known, Shape and Gather |

    What a subgraph reads from a sequence outside of it is replaced too. Constant are also positions and sizes
    that follow from constants and from dims which shape inference proves. A sequence that nobody reads goes.

    ## Example
    ```
    s = SplitToSequence <axis = 1> (x, sizes)         # sizes is the initializer {2, 3}
    a = SequenceAt (s, zero)
    b = SequenceAt (s, one)
    t = SequenceConstruct (b, a)
    y = ConcatFromSequence <axis = 1> (t)
    ```
    becomes
    ```
    a, b = Split <axis = 1> (x, split)                # split is the initializer {2, 3}
    y = Concat <axis = 1> (b, a)
    ```

    ## When it refuses
    - A position, or the sizes of the pieces, are not constant; the report says what they follow from.
    - The number of elements follows from a dim that is not fixed; the report names the dim, and `fix-shapes`
      mends it.
    - The sequence is an input or output of the model, or comes out of If, Loop, Scan or SequenceMap.
    - A position is not in the sequence, the sizes do not add up, or an empty sequence is concatenated.
    - A Split would make more than 256 pieces.
    - An element has the name of another tensor where it would be read; `unique-names` comes first.

    ## Issues
    [onnx-tensorrt#863](https://github.com/onnx/onnx-tensorrt/issues/863) ·
    [onnx-tensorrt#853](https://github.com/onnx/onnx-tensorrt/issues/853) ·
    [onnx-tensorrt#1044](https://github.com/onnx/onnx-tensorrt/issues/1044)

    ## Source
    [SplitToSequence](https://onnx.ai/onnx/operators/onnx__SplitToSequence.html) ·
    [ConcatFromSequence](https://onnx.ai/onnx/operators/onnx__ConcatFromSequence.html)
    """

    name = "sequences-to-tensors"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Replace what reads a known sequence; a length that becomes constant can make more known."""
        while True:
            walk = _Walk(graph)
            done = walk.run()
            tally.rewrite(done)
            if not done or not walk.refused:
                break
        for scope, node, reason in walk.refused:
            if node.outputs:
                tally.refuse(scope, node, reason)


_READERS = ("SequenceAt", "SequenceLength", "ConcatFromSequence")
_BUILDERS = ("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SplitToSequence")
_PARAMETERS = {"SequenceAt": 1, "SequenceErase": 1, "SequenceInsert": 2, "SplitToSequence": 1}


class _Walk:
    """One round over the model."""

    def __init__(self, main: Graph) -> None:
        from graphkit.model.operators import domain_of
        from graphkit_passes._losing import Losing
        from graphkit_passes._proven import Proven
        from graphkit_passes._sequences import Sequences
        from graphkit_passes._visible import Visible

        self.refused: list[tuple[Graph, Node, str]] = []
        every = [(s, n) for s in main.scopes() for n in s.nodes if not domain_of(n)]
        self._nodes = [(s, n) for s, n in every if n.op in (*_READERS, *_BUILDERS)]
        self._placing: Losing = Losing(main)
        self._visible = Visible()
        self._proven = Proven(main)
        places = [(s, n, _PARAMETERS[n.op]) for s, n in self._nodes if n.op in _PARAMETERS]
        asked = [(s, n.inputs[i]) for s, n, i in places if i < len(n.inputs) and n.inputs[i].name]
        self._proven.learn(asked if self._nodes else [])
        self._sequences: Sequences | None = Sequences(main, self._proven) if self._nodes else None

    def run(self) -> int:
        """Replace every reader that can be, and drop what nobody reads; returns how many."""
        done = self._drop_unread()
        for graph, node in self._nodes:
            if not node.outputs:
                continue
            try:
                if node.op in _READERS:
                    self._replace(graph, node)
                    done += 1
                elif self._placing.is_end(node.outputs[0]):
                    raise NotApplicable(f"'{node.outputs[0].name}' leaves the graph as a sequence")
            except NotApplicable as error:
                self.refused.append((graph, node, str(error)))
        self._placing.sweep()
        return done

    def _drop_unread(self) -> int:
        """Sequences that nobody reads go: a parser refuses them all the same."""
        scopes = {id(g): g for g, _ in self._nodes}
        done = 0
        for key, graph in scopes.items():
            builders = [n for g, n in self._nodes if id(g) == key and n.op in _BUILDERS and n.outputs]
            done += self._placing.drop_unread(graph, builders)
        return done

    def _replace(self, graph: Graph, node: Node) -> None:
        assert self._sequences is not None
        found = self._sequences.known(node.inputs[0])
        if isinstance(found, str):
            raise NotApplicable(found)
        made = _MADE[node.op](self, graph, node, found)
        old, maker = node.outputs[0], graph.producer(made)
        graph.replace(old, made)
        if maker is not None and graph.producer(old) is maker:
            self._sequences.moved(made, old)
        self._placing.remove(graph, [node])

    # -- what stands for the result of a reader

    def _element(self, graph: Graph, node: Node, found: Elements | Pieces) -> Tensor:
        from graphkit_passes._sequences import index

        assert self._sequences is not None
        where = self._sequences.position(graph, node, 1)
        rows = _rows(found)
        if rows is not None and (rows is found or not isinstance(where, int)):
            return self._gathered(graph, node, rows)
        if not isinstance(where, int) or not isinstance(found, list):
            raise NotApplicable(str(where))
        place = index(found, where)
        if isinstance(place, str):
            raise NotApplicable(place)
        return self._tensor(graph, found[place])

    def _gathered(self, graph: Graph, node: Node, rows: Pieces) -> Tensor:
        """One row of a tensor, at whatever position; out of range it fails as before."""
        import numpy as np

        from graphkit_passes._sequences import axes_of, reshaped

        tensor, position = self._readable(graph, rows.node.inputs[0]), node.inputs[1]
        value = self._proven.value(graph, position)
        if value is not None:
            index = np.array(int(value.reshape(-1)[0]), np.int64).reshape([] if rows.squeezed else [1])
            position = graph.constant(index, "index")
        elif self._proven.types.shape(position) != ():
            raise NotApplicable(f"its position '{position.name}' is not known to be a scalar")
        elif not rows.squeezed:
            position = reshaped("Unsqueeze", graph, position, axes_of(graph, 0), node)
        return graph.add("Gather", [tensor, position], {"axis": rows.axis}, before=node, of=[node])[0]

    def _concatenated(self, graph: Graph, node: Node, found: Elements | Pieces) -> Tensor:
        from graphkit.model.operators import attribute
        from graphkit_passes._sequences import axes_of, reshaped

        axis, new = attribute(graph, node, "axis"), attribute(graph, node, "new_axis")
        if not isinstance(found, list):
            raise NotApplicable(found.why)
        if not isinstance(axis, int) or new not in (0, 1):
            raise NotApplicable("an attribute is given by the function's caller")
        if not found:
            raise NotApplicable("the sequence is empty")
        for element in found:
            if not isinstance(element, tuple):  # before anything is made
                self._readable(graph, element.node.inputs[element.place])
        parts = [self._tensor(graph, element) for element in found]
        if new:
            axes, different = axes_of(graph, axis), {id(t): t for t in parts}
            stacked = {k: reshaped("Unsqueeze", graph, t, axes, node) for k, t in different.items()}
            parts = [stacked[id(t)] for t in parts]
        if len(parts) == 1:
            return parts[0]
        return graph.add("Concat", parts, {"axis": axis}, before=node, of=[node])[0]

    def _length(self, graph: Graph, node: Node, found: Elements | Pieces) -> Tensor:
        import numpy as np

        if isinstance(found, list):
            return graph.constant(np.array(len(found), np.int64), "length")
        tensor = self._readable(graph, found.node.inputs[0])
        (shape,) = graph.add("Shape", [tensor], before=node, of=[node])
        axis = graph.constant(np.array(found.axis, np.int64), "axis")
        return graph.add("Gather", [shape, axis], {"axis": 0}, before=node, of=[node])[0]

    def _tensor(self, graph: Graph, element: Given | Piece) -> Tensor:
        if isinstance(element, tuple):
            return element[0].piece(element[1])
        return self._readable(graph, element.node.inputs[element.place])

    def _readable(self, graph: Graph, tensor: Tensor) -> Tensor:
        if not self._visible.reads(graph, tensor):
            raise NotApplicable(f"'{tensor.name}' is another tensor here; unique-names comes first")
        return tensor


_MADE = {
    "SequenceAt": _Walk._element,
    "SequenceLength": _Walk._length,
    "ConcatFromSequence": _Walk._concatenated,
}


def _rows(found: Elements | Pieces) -> Pieces | None:
    """The SplitToSequence of which these are all rows, in their order; None when they are something else."""
    if not isinstance(found, list):
        return found
    first = found[0] if found else None
    if not isinstance(first, tuple) or not first[0].rows or len(found) != len(first[0].sizes or ()):
        return None
    same = all(isinstance(e, tuple) and e == (first[0], i) for i, e in enumerate(found))
    return first[0] if same else None
