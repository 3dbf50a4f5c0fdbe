"""ONNX against ONNX: the planted fault is named, and nothing else is; equal models match under any names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, helper, numpy_helper

from graphkit import rewrite
from graphkit.compare.models import diff_models
from graphkit.errors import BadInput, GraphkitError
from graphkit.report.diffs import DiffReport
from graphkit_passes.rename import Rename
from graphkit_passes.silu import Silu

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / "fixtures" / "demo" / "detector.onnx"
YOLO = ROOT.parent / "shared" / "models" / "yolov5n_op12.onnx"
MODELS = [
    DETECTOR,
    pytest.param(YOLO, marks=pytest.mark.skipif(not YOLO.exists(), reason="is not in ../shared/models")),
]


def parsed(text: str) -> ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def saved(model: ModelProto, folder: Path, name: str = "b.onnx") -> Path:
    onnx.save(model, folder / name)
    return folder / name


def convs(model: ModelProto) -> list[NodeProto]:
    return [n for n in model.graph.node if n.op_type == "Conv"]


def edit_weight(model: ModelProto, node: NodeProto, edit: Callable[[np.ndarray], None]) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    values = numpy_helper.to_array(tensor).copy()
    edit(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def gain(values: np.ndarray) -> None:
    values *= 1.01


def swap(values: np.ndarray) -> None:
    values[[0, 1]] = values[[1, 0]]


def nan(values: np.ndarray) -> None:
    values[0] = np.nan


def accused(report: DiffReport) -> list[str]:
    return [layer.kernel for layer in report.layers if not layer.ok]


def renumbered(model: ModelProto) -> ModelProto:
    """The model with other names for all nodes, tensors and constants, but those of inputs and outputs."""
    ends = {v.name for v in (*model.graph.input, *model.graph.output)}
    names = {"": ""} | {name: name for name in ends}

    def new(name: str) -> str:
        return names.setdefault(name, f"n{len(names)}")

    for tensor in model.graph.initializer:
        tensor.name = new(tensor.name)
    for number, node in enumerate(model.graph.node):
        node.name = f"op{number}"
        node.input[:] = [new(n) for n in node.input]
        node.output[:] = [new(n) for n in node.output]
        del node.metadata_props[:]
    del model.graph.value_info[:]
    return model


@pytest.mark.parametrize("model", MODELS)
def test_a_model_matches_itself_bit_for_bit(model: Path) -> None:
    report = diff_models(model, model)
    assert report.verdict == "match" and report.kind == "onnx-onnx"
    assert report.coverage.paired == report.coverage.captured >= 30
    assert not any(x.accumulated is None or x.accumulated.different for x in report.layers)
    assert all(o.ok and o.metrics is not None and o.metrics.size for o in report.outputs)


@pytest.mark.parametrize(
    ("model", "fault", "place"),
    [
        *((DETECTOR, fault, place) for fault in (gain, swap, nan) for place in (0.1, 0.5, 0.9)),
        *((YOLO, fault, place) for fault, place in ((gain, 0.1), (swap, 0.5), (nan, 0.9))),
    ],
)
def test_a_planted_fault_is_named_and_nothing_else(
    model: Path, fault: Callable[[np.ndarray], None], place: float, tmp_path: Path
) -> None:
    if not model.exists():
        pytest.skip("is not in ../shared/models")
    changed = onnx.load(model)
    node = convs(changed)[int(place * len(convs(changed)))]
    edit_weight(changed, node, fault)
    report = diff_models(model, saved(changed, tmp_path))
    assert report.verdict == "mismatch" and report.first_bad is not None
    assert accused(report) == [report.first_bad.kernel] == [node.name]
    assert report.first_bad.cause == f"constant '{node.input[1]}' holds other values"
    assert report.first_bad.region == (node.name,)
    assert report.first_bad.share is not None and report.first_bad.share > 1


@pytest.mark.parametrize("model", MODELS)
def test_a_factor_in_a_node_of_its_own(model: Path, tmp_path: Path) -> None:
    changed = onnx.load(model)
    node = convs(changed)[3]
    name, node.output[0] = node.output[0], "unscaled"
    changed.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "factor"))
    place = list(changed.graph.node).index(node)
    changed.graph.node.insert(place + 1, helper.make_node("Mul", ["unscaled", "factor"], [name], "gained"))
    report = diff_models(model, saved(changed, tmp_path))
    assert accused(report) == ["gained"]
    assert report.first_bad is not None and report.first_bad.region == (node.name, "gained")
    assert report.first_bad.introduced is not None
    assert report.first_bad.introduced.gain == pytest.approx(1.01, abs=1e-5)
    assert report.first_bad.cause == "scaled by 1.01"
    assert [u.tensor for u in report.unmapped] == ["unscaled"]


@pytest.mark.parametrize("model", MODELS)
def test_no_name_in_common(model: Path, tmp_path: Path) -> None:
    original = onnx.load(model)
    report = diff_models(model, saved(renumbered(onnx.load(model)), tmp_path))
    assert report.verdict == "match" and report.coverage.share == 1.0
    assert {x.evidence for x in report.layers if x.confidence < 1}
    changed = renumbered(onnx.load(model))
    edit_weight(changed, convs(changed)[2], gain)
    report = diff_models(model, saved(changed, tmp_path))
    assert accused(report) == [convs(changed)[2].name]
    assert report.first_bad is not None
    assert report.first_bad.paired == (convs(original)[2].output[0],)
    assert report.first_bad.confidence < 0.7


def test_recorded_origins_both_ways(tmp_path: Path) -> None:
    new = tmp_path / "renamed.onnx"
    rewrite(DETECTOR, [Silu(), Rename(pattern="^", to="x/", io=True)], new)
    for a, b in ((DETECTOR, new), (new, DETECTOR)):
        report = diff_models(a, b)
        assert report.verdict == "match"
        assert sum(x.evidence == "recorded origin" for x in report.layers) >= 20
    changed = onnx.load(new)
    edit_weight(changed, convs(changed)[1], gain)
    assert accused(diff_models(DETECTOR, saved(changed, tmp_path))) == [convs(changed)[1].name]


def test_a_changed_attribute_is_the_cause(tmp_path: Path) -> None:
    text = "g (float[2,8] x) => (float[2,8] y) {{ a = LeakyRelu<alpha = {}>(x) y = Tanh(a) }}"
    paths = [saved(parsed(text.format(v)), tmp_path, f"{v}.onnx") for v in (0.1, 0.2)]
    report = diff_models(*paths)
    assert report.first_bad is not None
    assert accused(report) == ["node_of_a"]
    assert report.first_bad.cause.startswith("attribute 'alpha' is 0.2")


def test_float16_overflow_and_where_it_begins(tmp_path: Path) -> None:
    a = parsed("g (float[4,8] x) => (float[4,8] y) { c = Constant<value = float {3e5}>() a = Mul(x, c)"
               " b = Abs(a) y = Sigmoid(b) }")  # fmt: skip
    b = parsed("g (float[4,8] x) => (float[4,8] y) { c = Constant<value = float {3e5}>() p = Mul(x, c)"
               " a = Cast<to = 10>(p) q = Abs(a) b = Cast<to = 1>(q) y = Sigmoid(b) }")  # fmt: skip
    report = diff_models(saved(a, tmp_path, "a.onnx"), saved(b, tmp_path))
    assert accused(report) == ["node_of_a"]
    assert report.first_bad is not None and report.first_bad.introduced is not None
    assert report.first_bad.introduced.inf[1] > 0 == report.first_bad.introduced.inf[0]
    layer = next(x for x in report.layers if x.kernel == "node_of_b")
    assert layer.accumulated is not None and layer.accumulated.misplaced


def test_half_precision_is_fine_by_its_own_tolerance(tmp_path: Path) -> None:
    a = parsed("g (float[4,64] x) => (float[4,64] y) { a = Tanh(x) b = Mul(a, a) y = Sigmoid(b) }")
    b = parsed("g (float[4,64] x) => (float[4,64] y) { h = Cast<to = 10>(x) a = Tanh(h) b = Mul(a, a)"
               " s = Sigmoid(b) y = Cast<to = 1>(s) }")  # fmt: skip
    report = diff_models(saved(a, tmp_path, "a.onnx"), saved(b, tmp_path))
    assert accused(report) == []
    named = {x.tensor: x for x in report.layers}
    assert named["a"].dtype == "float16" and named["a"].introduced is not None
    assert 0 < named["a"].introduced.to_range < 1e-3


def test_a_half_precision_reference_in_float32(tmp_path: Path) -> None:
    text = "g (float16[4,64] x) => (float16[4,64] y) { a = Tanh(x) b = Mul(a, a) y = Sigmoid(b) }"
    path = saved(parsed(text), tmp_path)
    feeds = [{"x": np.linspace(-1, 1, 256, dtype=np.float16).reshape(4, 64)}]
    native = diff_models(path, path, feeds=feeds)
    assert all(x.accumulated is not None and not x.accumulated.different for x in native.layers)
    report = diff_models(path, path, feeds=feeds, reference_precision="float32")
    assert report.verdict == "match" and accused(report) == []
    errors = [x.accumulated.to_range for x in report.layers if x.accumulated is not None]
    assert len(errors) == 3 and all(0 < e < 1e-3 for e in errors)


def test_own_bounds_by_tensor(tmp_path: Path) -> None:
    changed = onnx.load(DETECTOR)
    node = convs(changed)[2]
    edit_weight(changed, node, gain)
    other = saved(changed, tmp_path)
    assert diff_models(DETECTOR, other, atol=1e9).verdict == "match"
    assert diff_models(DETECTOR, other, rtol={"": 1e9, node.output[0]: 1e-6}).verdict == "mismatch"
    alone = diff_models(DETECTOR, other, atol={node.output[0]: 1e9})
    assert node.name not in accused(alone)
    assert diff_models(DETECTOR, DETECTOR, atol=0.0).verdict == "match"


def test_a_name_used_for_something_else_is_no_mismatch(tmp_path: Path) -> None:
    a = parsed("g (float[4,8] x) => (float[4,8] y) { t = Relu(x) u = Exp(t) y = Neg(u) }")
    b = parsed("g (float[4,8] x) => (float[4,8] y) { u = Relu(x) t = Exp(u) y = Neg(t) }")
    report = diff_models(saved(a, tmp_path, "a.onnx"), saved(b, tmp_path))
    assert report.verdict == "match"
    assert {u.tensor for u in report.unmapped} == {"t", "u"}


def test_random_numbers_are_not_compared(tmp_path: Path) -> None:
    model = parsed(
        "g (float[4] x) => (float[4] y, float[4] z) { r = RandomNormalLike(x) y = Add(x, r) z = Neg(x) }"
    )
    path = saved(model, tmp_path)
    report = diff_models(path, path)
    assert report.verdict == "match"
    assert {u.tensor for u in report.unmapped} == {"r", "y"}
    assert [o.name for o in report.outputs if o.metrics is not None] == ["z"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("g (float[4] x) => (float[4] y, float[4] z) { y = Neg(x) z = Abs(x) }", "A has no such output"),
        ("g (float[4] x) => (float[2,2] y) { s = Constant<value = int64[2] {2,2}>() n = Neg(x)"
         " y = Reshape(n, s) }", "has shape [4]"),
        ("g (float[4] x) => (int64[4] y) { n = Neg(x) y = Cast<to = 7>(n) }", "is float32"),
    ],
)  # fmt: skip
def test_outputs_that_cannot_be_compared_are_a_mismatch(text: str, said: str, tmp_path: Path) -> None:
    a = saved(parsed("g (float[4] x) => (float[4] y) { y = Neg(x) }"), tmp_path, "a.onnx")
    report = diff_models(a, saved(parsed(text), tmp_path))
    assert report.verdict == "mismatch"
    assert any(said in o.reason for o in report.outputs if not o.ok)


def test_other_inputs_are_an_error_of_one_line(tmp_path: Path) -> None:
    a = saved(parsed("g (float[4] x) => (float[4] y) { y = Neg(x) }"), tmp_path, "a.onnx")
    b = saved(parsed("g (float[4] x, float[4] w) => (float[4] y) { y = Add(x, w) }"), tmp_path)
    with pytest.raises(BadInput, match="its input 'w' is no input of the other model, which has x") as told:
        diff_models(a, b)
    assert "\n" not in str(told.value)
    with pytest.raises(GraphkitError, match="no such input"):
        diff_models(a, a, shapes={"nope": (4,)})


def test_given_inputs_all_run_and_the_first_mismatch_is_told(tmp_path: Path) -> None:
    a = saved(parsed("g (float[N] x) => (float[N] y) { y = Abs(x) }"), tmp_path, "a.onnx")
    b = saved(parsed("g (float[N] x) => (float[N] y) { y = Relu(x) }"), tmp_path)
    feeds = [{"x": np.ones(3, np.float32)}, {"x": -np.ones(5, np.float32)}]
    report = diff_models(a, b, feeds=feeds)
    assert [r.verdict for r in report.runs] == ["match", "mismatch"]
    assert report.verdict == "mismatch" and report.layers[0].dims == (5,)
    assert report.first_bad is not None and report.first_bad.cause == "the operator is Relu, was Abs"
    assert len(diff_models(a, a, iterations=3).runs) == 3


def test_a_metric_of_the_user_is_asked_everywhere() -> None:
    report = diff_models(DETECTOR, DETECTOR, metrics={"zero": lambda a, b: float(np.abs(a - b).max())})
    assert all(x.accumulated is not None and x.accumulated.custom == {"zero": 0.0} for x in report.layers)


CHAIN = """
import resource, sys
from graphkit.compare.models import diff_models
import onnx, numpy, onnxruntime
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = diff_models(sys.argv[1], sys.argv[2], memory=64 << 20)
print(report.verdict, len(report.layers), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_memory_is_bounded_however_many_activations_there_are(tmp_path: Path) -> None:
    """80 tensors of 8 MiB on either side, 1.3 GiB in all, and every one of them off."""
    steps = " ".join(f"t{n} = {'Neg' if n % 2 else 'Abs'}(t{n - 1})" for n in range(1, 80))
    text = f"g (float[2097152] x) => (float[2097152] y) {{{{ t0 = Mul(x, x) {steps} y = {{}}(t79) }}}}"
    paths = [saved(parsed(text.format(op)), tmp_path, f"{op}.onnx") for op in ("Neg", "Abs")]
    run = subprocess.run(
        [sys.executable, "-c", CHAIN, *map(str, paths)], capture_output=True, text=True, check=True
    )
    verdict, layers, mib = run.stdout.split()
    assert verdict in ("match", "mismatch") and int(layers) == 81
    assert int(mib) < 300
