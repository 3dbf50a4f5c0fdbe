"""ONNX's node tests as models that TensorRT can be asked about: parameters are constants, not inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

# The inputs that TensorRT wants as constants: what an operator's inputs are, https://onnx.ai/onnx/operators/
PARAMETERS = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Squeeze", "Unsqueeze", "Split", "TopK", "OneHot"), (1,)),
    **dict.fromkeys(("Pad", "Clip", "QuantizeLinear", "DequantizeLinear", "Dropout", "DFT"), (1, 2, 3)),
    **dict.fromkeys(("Slice", "NonMaxSuppression"), (1, 2, 3, 4)),
    **dict.fromkeys(("ConstantOfShape", "HannWindow", "HammingWindow", "BlackmanWindow"), (0,)),
    **dict.fromkeys(("CumSum", "CumProd", "Trilu", "Upsample", "CenterCropPad", "AffineGrid"), (1,)),
    **dict.fromkeys(("SplitToSequence", "SequenceAt", "SequenceErase"), (1,)),
    **{"Range": (0, 1, 2), "Resize": (1, 2, 3), "SequenceInsert": (2,), "Col2Im": (1, 2), "Conv": (1, 2)},
}
REDUCE = "Reduce"


def baked_node_tests() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every node test's model, its parameters baked as initializers."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        cases = collect_testcases(None)
    for case in cases:
        if case.model is not None:
            yield case.name, baked(case.model, case.data_sets).SerializeToString()


def baked(model: onnx.ModelProto, data_sets: object) -> onnx.ModelProto:
    """The model with those inputs of its first test that are parameters of a node as initializers."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if not data_sets:
        return made
    values = dict(zip([i.name for i in model.graph.input], data_sets[0][0], strict=False))  # type: ignore[index]
    wanted = {
        name
        for node in model.graph.node
        for place, name in enumerate(node.input)
        if place in PARAMETERS.get(node.op_type, (1,) if node.op_type.startswith(REDUCE) else ())
    }
    kept = []
    for info in model.graph.input:
        value = values.get(info.name)
        if info.name in wanted and isinstance(value, np.ndarray | np.generic):
            kind = info.type.tensor_type.elem_type
            array = np.asarray(value).astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
            made.graph.initializer.append(numpy_helper.from_array(array, info.name))
        else:
            kept.append(info)
    if kept:  # a model with no input at all is another thing
        del made.graph.input[:]
        made.graph.input.extend(kept)
    else:
        del made.graph.initializer[len(model.graph.initializer) :]
    return made
