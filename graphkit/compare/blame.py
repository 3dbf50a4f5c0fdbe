"""Why a node of B computes something else than its twin in A: a likely cause, and what points to it."""

from __future__ import annotations

import onnx
from onnx import NodeProto

from graphkit.compare.counterparts import Side
from graphkit.report.diffs import LayerDiff, Metrics

__all__ = ["cause"]


def cause(a: Side, b: Side, layer: LayerDiff) -> tuple[str, str]:
    """(cause, evidence) of an accused layer; both empty when nothing stands out."""
    found = layer.introduced
    node, twin = b.maker(layer.tensor), a.maker(layer.paired[0])
    if node is not None and twin is not None and len(layer.region) == 1:
        said = _different(a, b, twin, node)
        if said:
            return said, "compared with the node of A that makes the paired tensor"
    if found is None:
        return "", ""
    return _odd(layer, found) or _scaled(found) or ("", "")


def _different(a: Side, b: Side, old: NodeProto, new: NodeProto) -> str:
    """What the two nodes do not have in common."""
    if old.op_type != new.op_type:
        return f"the operator is {new.op_type}, was {old.op_type}"
    before, after = ({x.name: x for x in n.attribute} for n in (old, new))
    for name in sorted({*before, *after}):
        x, y = before.get(name), after.get(name)
        if x != y and "GRAPH" not in {onnx.AttributeProto.AttributeType.Name(v.type) for v in (x, y) if v}:
            return f"attribute '{name}' is {_shown(y)}, was {_shown(x)}"
    for x_name, y_name in zip(old.input, new.input, strict=False):
        if x_name in a.constants and y_name in b.constants:
            x_tensor, y_tensor = a.constants[x_name], b.constants[y_name]
            kinds = [onnx.helper.tensor_dtype_to_np_dtype(t.data_type).name for t in (x_tensor, y_tensor)]
            if kinds[0] != kinds[1]:
                return f"constant '{y_name}' is {kinds[1]}, was {kinds[0]}"
            if a.digest(x_name) != b.digest(y_name):
                return f"constant '{y_name}' holds other values"
    return ""


def _shown(attribute: onnx.AttributeProto | None) -> str:
    if attribute is None:
        return "not given"
    value = onnx.helper.get_attribute_value(attribute)
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if isinstance(value, onnx.TensorProto):
        text = "another tensor"
    return text if len(text) <= 40 else f"{text[:40]}…"


def _odd(layer: LayerDiff, found: Metrics) -> tuple[str, str] | None:
    if not found.misplaced:
        return None
    if found.inf[1] > found.inf[0] and layer.dtype in ("float16", "float8_e4m3fn", "float8_e5m2"):
        most = max(map(abs, found.range_ref))
        return f"overflow of {layer.dtype}", f"{found.inf[1]} infinities; A reaches {most:.3g} there"
    if found.nan[1] > found.nan[0]:
        return "NaN begins here", f"{found.nan[1]} NaN from inputs that have A's values"
    if found.inf[1] > found.inf[0]:
        return "infinities begin here", f"{found.inf[1]} infinities from inputs that have A's values"
    return "NaN or infinities of A are missing", f"{found.misplaced} places differ"


def _scaled(found: Metrics) -> tuple[str, str] | None:
    """A factor explains the error when little is left of it after dividing by that factor."""
    off = abs(found.gain - 1)
    if found.cosine > 0 and off > 1e-6 and found.rms_rel > 0:
        left = max(0.0, found.rms_rel**2 - off**2) ** 0.5
        if left < 0.2 * found.rms_rel:
            return (
                f"scaled by {found.gain:.6g}",
                f"rms error {found.rms_rel:.2g}, without the factor {left:.1g}",
            )
    return None
