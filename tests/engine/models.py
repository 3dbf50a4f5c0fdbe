"""A small model with everything that names can have: none, the same twice, an If, a local function."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper, parser

SCOPES = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
g (float[1,8,16,16] x, bool c) => (float[1,8,16,16] y, float[1,8,16,16] z) {
  a = Conv<pads=[1,1,1,1]>(x, w)
  b = Relu(a)
  [same] d = Conv<pads=[1,1,1,1]>(b, w2)
  [same] e = Sigmoid(d)
  f = Mul(d, e)
  [ifn] z = If(c) <
    then_branch = t () => (float[1,8,16,16] tt) { [inn] tt = Conv<pads=[1,1,1,1]>(f, w) },
    else_branch = s () => (float[1,8,16,16] ss) { ss0 = Exp(f)  ss = Tanh(ss0) }
  >
  [call] y = my.fn(f)
}
<domain: "my", opset_import: ["": 17]>
fn (q) => (r) { q1 = Relu(q)  [innr] r = Softplus(q1) }
"""


def scopes() -> onnx.ModelProto:
    """The model, with its weights."""
    return with_weights(SCOPES, w=(8, 8, 3, 3), w2=(8, 8, 3, 3))


def with_weights(text: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """A model from its text, with float32 initializers of these shapes that are the same each time."""
    model: onnx.ModelProto = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model
