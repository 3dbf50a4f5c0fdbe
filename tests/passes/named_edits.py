"""What the tests of passes that edit by name share: random models, and numbers that no pass had a hand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.parser
import onnx.reference
from hypothesis import HealthCheck, settings

from graphkit.testing import run

HEADER = '<ir_version: 10, opset_import: ["": 17, "local": 1]>\n'
FEED = {"x": np.array([1.5, -2.5], np.float32), "c": np.array(True)}
"""Inputs of what scoped_models draws."""

slowly = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text if text.startswith("<") else HEADER + text)


def made(model: onnx.ModelProto) -> list[str]:
    """The tensors that nodes of the main graph make."""
    return [o for n in model.graph.node for o in n.output if o]


def escaped(name: str) -> str:
    """A name inside of an option."""
    return "".join(f"\\{c}" if c in ",+=" else c for c in name)


def values(
    model: onnx.ModelProto, feed: Mapping[str, np.ndarray], names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Tensors of the main graph, all that nodes make unless told, by onnx's own evaluator."""
    wanted = made(model) if names is None else list(names)
    known = {i.name for i in model.graph.input}
    found = onnx.reference.ReferenceEvaluator(model).run(
        wanted, {k: v for k, v in feed.items() if k in known}
    )
    return dict(zip(wanted, found, strict=True))


def applied(spec: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """The result of a pass that did something, which onnx.checker takes and a second run leaves as it is."""
    got, report = run(spec, model)
    assert report.rewrites, f"{spec}: {report.refusals} {report.notes}"
    onnx.checker.check_model(got, full_check=True)
    again, second = run(spec, got)
    assert not second.rewrites and again.SerializeToString() == got.SerializeToString()
    return got


def ends(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """Inputs and outputs by name."""
    return [i.name for i in model.graph.input], [o.name for o in model.graph.output]


def close(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], tolerance: float = 1e-5) -> None:
    """Assert the same names with the same values."""
    assert a.keys() == b.keys()
    for name in a:
        one, other = (np.asarray(v, np.float64) for v in (a[name], b[name]))
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=name)
