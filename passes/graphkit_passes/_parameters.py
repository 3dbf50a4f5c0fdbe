"""Which inputs of operators are parameters: values that an engine builder wants to know when it builds."""

from __future__ import annotations

from graphkit import Graph
from graphkit.model.operators import domain_of
from graphkit.model.surgeon import Node

Places = dict[int, str]

_AXES: Places = {1: "axes"}
_SIZE: Places = {0: "size"}
_SCALES: Places = {1: "scale", 2: "zero point"}

# For each operator, from which opset on which inputs are parameters (https://onnx.ai/onnx/operators/)
_OF: dict[str, list[tuple[int, Places]]] = {
    "AffineGrid": [(20, {1: "size"})],
    "BatchNormalization": [(7, {1: "scale", 2: "shift", 3: "mean", 4: "variance"})],
    "BlackmanWindow": [(17, _SIZE)],
    "CenterCropPad": [(18, {1: "shape"})],
    "Clip": [(11, {1: "min", 2: "max"})],
    "Col2Im": [(18, {1: "image shape", 2: "block shape"})],
    "ConstantOfShape": [(9, {0: "shape"})],
    "CumSum": [(11, {1: "axis"})],
    "DFT": [(17, {1: "length"}), (20, {1: "length", 2: "axis"})],
    "DequantizeLinear": [(10, _SCALES)],
    "Expand": [(8, {1: "shape"})],
    "HammingWindow": [(17, _SIZE)],
    "HannWindow": [(17, _SIZE)],
    "InstanceNormalization": [(7, {1: "scale", 2: "shift"})],
    "NonMaxSuppression": [(10, {2: "count", 3: "IoU threshold", 4: "score threshold"})],
    "OneHot": [(9, {1: "depth", 2: "values"})],
    "Pad": [(11, {1: "pads", 2: "value"}), (18, {1: "pads", 2: "value", 3: "axes"})],
    "QuantizeLinear": [(10, _SCALES)],
    "Range": [(11, {0: "start", 1: "limit", 2: "delta"})],
    "ReduceSum": [(13, _AXES)],
    "Reshape": [(5, {1: "shape"})],
    "Resize": [(10, {1: "scales"}), (11, {1: "roi", 2: "scales", 3: "sizes"})],
    "STFT": [(17, {1: "frame step", 3: "frame length"})],
    "Slice": [(10, {1: "starts", 2: "ends", 3: "axes", 4: "steps"})],
    "Split": [(13, {1: "split"})],
    "Squeeze": [(13, _AXES)],
    "Tile": [(6, {1: "repeats"})],
    "TopK": [(10, {1: "k"})],
    "Trilu": [(14, {1: "k"})],
    "Unsqueeze": [(13, _AXES)],
    "Upsample": [(9, {1: "scales"})],
}
_OF |= {
    f"Reduce{kind}": [(18, _AXES)]
    for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
}


def parameters(graph: Graph, node: Node) -> list[tuple[int, str]]:
    """The inputs of ``node`` that are parameters and are given: place and name."""
    known = [] if domain_of(node) else _OF.get(node.op, [])
    places = next((p for since, p in reversed(known) if graph.opset >= since), {})
    return [(i, name) for i, name in places.items() if i < len(node.inputs) and node.inputs[i].name]
