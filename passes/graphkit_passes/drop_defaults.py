"""The ``drop-defaults`` pass."""

from __future__ import annotations

import numpy as np

from graphkit import Graph, Pass, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import Constant, Variable
from graphkit_passes._placing import Placing

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,), "DynamicQuantizeLSTM": (5, 6)}
_DOMAINS = ("", "com.microsoft")
_LARGEST = 1 << 20  # bytes of a constant that is looked through for zeros


class DropDefaults(Pass):
    """Leave out the initial states of recurrent layers when they are zero, which is their default.

    The inputs `initial_h` and `initial_c` of `LSTM`, `GRU`, `RNN` and `com.microsoft::DynamicQuantizeLSTM`
    are left out when they are constants of nothing but zeros, or a `ConstantOfShape` (or an `Expand` of a
    zero) of whatever shape. What computed that shape goes too.

    ## Why
    Exporters write the zeros that a framework begins with: a `ConstantOfShape` and, where the batch is
    dynamic, `Shape`, `Gather`, `Unsqueeze` and `Concat` for each state. The layer is the same without them.

    ## Example
    ```
    zeros = ConstantOfShape (shape)
    y = LSTM (x, w, r, b, , zeros, zeros)
    ```
    becomes
    ```
    y = LSTM (x, w, r, b)
    ```

    ## When it refuses
    - The zeros are the default of an input, which a caller can override.
    - The constant takes more than 1 MiB, or has another element than zero.
    - The value of the `ConstantOfShape` is an attribute of the function that it is in.

    Only the first is reported: a state that is not known to be zero is a state.

    ## Source
    https://onnx.ai/onnx/operators/onnx__LSTM.html: "If not specified - assumed to be 0."
    """

    name = "drop-defaults"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Look at each recurrent layer of each scope."""
        found = [(s, n) for s in graph.scopes() for n in s.nodes if n.op in _STATES]
        if not found:
            return
        placing = Placing(graph)
        for scope, node in found:
            if domain_of(node) in _DOMAINS:
                tally.rewrite(_drop(scope, node, placing))
                _told(scope, node, tally)
        placing.sweep()


def _drop(graph: Graph, node: Node, placing: Placing) -> int:
    """Leave out the states of one layer that are zero; returns how many."""
    dropped = 0
    for place in _STATES[node.op]:
        if place < len(node.inputs) and node.inputs[place].name and _is_zero(graph, node.inputs[place]):
            placing.lose(node.inputs[place])
            node.inputs[place] = Variable.empty()
            dropped += 1
    while dropped and not node.inputs[-1].name:
        node.inputs.pop()
    return dropped


def _told(graph: Graph, node: Node, tally: Tally) -> None:
    """Say which states are zero only until a caller says otherwise."""
    for tensor in (node.inputs[p] for p in _STATES[node.op] if p < len(node.inputs)):
        if isinstance(tensor, Constant) and not graph.is_constant(tensor):
            reason = f"'{tensor.name}' is the default of an input, which a caller can override"
            tally.refuse(graph, node, reason)


def _is_zero(graph: Graph, tensor: Tensor) -> bool:
    if graph.is_constant(tensor):
        values = graph.value(tensor) if graph.nbytes(tensor) <= _LARGEST else None
        return values is not None and not np.any(values) and not np.signbit(values).any()
    maker = graph.producer(tensor)
    if maker is None or domain_of(maker):
        return False
    if maker.op == "Expand":
        return _is_zero(graph, maker.inputs[0])
    if maker.op != "ConstantOfShape":
        return False
    if "value" not in maker.attrs:
        return True
    value = attribute(graph, maker, "value")
    return isinstance(value, np.ndarray) and not np.any(value)
