"""LSTM, GRU and RNN as the products, gates and states of their steps, by onnx's operator pages."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from graphkit.run import outline
from graphkit.run.flat import NODES, Flat, Whole
from graphkit.run.scoping import Scope
from graphkit.run.unfold_cells import Direction
from graphkit.run.unfold_loop import ITERATIONS, stack

_SIMPLE = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}
_DEFAULT = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_STEP_NODES = 20


def recurrent(flat: Flat, node: NodeProto, scope: Scope) -> bool:
    """Expand a recurrent node into its steps.

    Raises Whole for sequences of several lengths, clipping, coupled gates, unusual activations, batch first.
    """
    inputs = [scope.flat(n) if n else "" for n in node.input] + [""] * (8 - len(node.input))
    acts = _activations(node)
    _refuse(node)
    length, batch = flat.shape(inputs[0])[:2]
    hidden = flat.shape(inputs[2])[2]
    ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[
        _text(node, "direction", "forward")
    ]
    if length > ITERATIONS or len(flat.nodes) + length * len(ways) * _STEP_NODES > NODES:
        raise Whole(f"its {length} steps are more than {ITERATIONS}, or more than {NODES} nodes")
    if length == 0:
        raise Whole("it runs no step")
    if inputs[4] and np.any(flat.value(inputs[4]) != length):
        raise Whole("its sequences are of several lengths")
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(flat.elem_type(inputs[0])))
    outputs = [flat.declare(o, scope) for o in node.output] + [""] * (3 - len(node.output))
    said = flat.said(node, scope)
    runs = []
    for number, backward in enumerate(ways):
        size = len(_DEFAULT[node.op_type])
        build = Direction(
            flat, node, said, number, inputs, acts[number * size : (number + 1) * size], batch, hidden, dtype
        )
        runs.append(build.run(range(length)[::-1] if backward else range(length)))
    _deliver(flat, said, runs, outputs, length)
    return True


def _deliver(
    flat: Flat, said: str, runs: list[tuple[dict[int, str], str, str]], outputs: list[str], length: int
) -> None:
    """Y [steps, directions, batch, hidden], Y_h and Y_c [directions, batch, hidden]."""
    whole, last_h, last_c = outputs[:3]
    if whole:
        rows = []
        for time in range(length):
            rows.append(flat.fresh(f"{whole}.{time}"))
            stack(flat, [states[time] for states, _, _ in runs], rows[-1], 0, said)
        stack(flat, rows, whole, 0, said)
    for out, names in ((last_h, [h for _, h, _ in runs]), (last_c, [c for _, _, c in runs])):
        if out:
            stack(flat, names, out, 0, said)


def _activations(node: NodeProto) -> list[str]:
    """ONNX operators for the gates, all directions in turn."""
    directions = 2 if _text(node, "direction", "forward") == "bidirectional" else 1
    named = outline.attribute(node, "activations")
    asked = [a.decode().lower() for a in named] if named else list(_DEFAULT[node.op_type]) * directions
    odd = [a for a in asked if a not in _SIMPLE]
    if odd:
        raise Whole(f"its activation {odd[0]} is none of {', '.join(_SIMPLE.values())}")
    if len(asked) != directions * len(_DEFAULT[node.op_type]):
        raise Whole(f"it names {len(asked)} activations")
    return [_SIMPLE[a] for a in asked]


def _refuse(node: NodeProto) -> None:
    if outline.attribute(node, "clip"):
        raise Whole("it clips")
    if outline.attribute(node, "layout"):
        raise Whole("its layout is batch first")
    if outline.attribute(node, "input_forget"):
        raise Whole("it couples the input and forget gates")


def _text(node: NodeProto, name: str, default: str) -> str:
    value = outline.attribute(node, name)
    return value.decode() if value else default
