"""Mutated models cost nothing but a line: a sample of benchmarks/fuzz_check.py, and what it has found."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from graphkit import BadInput, GraphkitError, rewrite
from graphkit.check.serve import stages
from graphkit.model.file import ModelFile
from graphkit.model.infer import infer
from graphkit.model.model import Model
from graphkit.run.limits import TooMuch, limited, stoppable
from graphkit.run.session import OrtModel

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the harness forks and reads /proc"
)
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = importlib.import_module("fuzz_check")
    found.warm()
    return found


def violations(harness: ModuleType, root: Path, count: int, seconds: float) -> list[object]:
    fuzz = harness.Fuzz(root / "scratch", 0)
    assert fuzz.run(range(20_000, 20_000 + count), seconds) > 0
    return [f for f in fuzz.findings if f["result"] not in ("pass failed", "rule failed")]


def test_a_few_mutants(harness: ModuleType, tmp_path: Path) -> None:
    assert violations(harness, tmp_path, 25, 20) == []


@pytest.mark.slow
def test_more_mutants(harness: ModuleType, tmp_path: Path) -> None:
    assert violations(harness, tmp_path, 400, 150) == []


def test_a_mutant_is_what_its_number_says(harness: ModuleType) -> None:
    seeds = [data for _, data in harness.seeds(harness.ROOT / "fixtures", 50)]
    assert len(seeds) == 50
    assert [harness.mutant(seeds, n) for n in range(60)] == [harness.mutant(seeds, n) for n in range(60)]


def test_writing_outside_is_seen(
    harness: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("_fuzzed")
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(module, "load", lambda path: str(elsewhere.write_text("x")) * 0)
    monkeypatch.setattr(module, "rules", lambda path: str((path.parent / "more").write_text("x")) * 0)
    fuzz = harness.Fuzz(tmp_path / "scratch", 0)
    outcome = fuzz.one(0)
    assert outcome.steps["files"] == "outside" and "<scratch>/in/more" in outcome.details["files"]
    monkeypatch.setattr(module, "rules", lambda path: "")
    (tmp_path / "scratch" / "in" / "more").unlink()
    assert "elsewhere" in fuzz.one(0).details["files"]


# -- what was found


def save(tmp_path: Path, text: str, opset: int = 17) -> Path:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> {text}')
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize("text", [b"Relu", b"alpha", b"custom"])
def test_an_operator_whose_name_is_no_utf8_is_refused(text: bytes) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17, "custom": 1]> '
        "g (float[2] x) => (float[2] z) { y = Relu (x) z = custom.Elu <alpha = 1.0> (y) }"
    )
    data = model.SerializeToString().replace(text, b"\xff" * len(text))
    with pytest.raises(BadInput, match=r"not an ONNX model.*(no UTF-8|utf-8)") as caught:
        Model.from_file(ModelFile.from_bytes(data))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("version", [-1, 1 << 40])
def test_an_absurd_opset_is_refused(version: int) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    )
    model.opset_import[0].version = version
    with pytest.raises(BadInput, match="there is no opset"):
        Model.from_proto(model)


@pytest.mark.parametrize("dims", [[1 << 40] * 2, [-1], [1 << 29], [(1 << 63) - 1] * 3])
def test_a_sparse_tensor_of_absurd_dims_is_refused(dims: list[int], tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Add (x, w) }'
    )
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    model.graph.sparse_initializer.add(
        values=values, indices=helper.make_tensor("", TensorProto.INT64, [1], [0]), dims=dims
    )
    loaded = Model.from_proto(model)
    with pytest.raises(BadInput, match="too large to be read"):
        loaded.main.value(loaded.main.nodes[0].inputs[1])
    onnx.save(model, tmp_path / "m.onnx")
    request = {
        "path": str(tmp_path / "m.onnx"),
        "stages": ["rules"],
        "trt": "auto",
        "shapes": [],
        "targets": [],
        "rules": {},
    }
    found = [f for a in stages(request) for f in a.get("findings", ())]
    assert "unreadable" in {f["rule"] for f in found} and "rule-failed" not in {f["rule"] for f in found}


def test_a_graph_in_an_attribute_of_another_type_is_no_graph() -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (bool c, float[2] x) => (float[2] y) '
        "{ y = If (c) <then_branch = t () => (float[2] a) { a = Relu (x) }, "
        "else_branch = e () => (float[2] b) { b = Neg (x) }> }"
    )
    model.graph.node[0].attribute[0].type = onnx.AttributeProto.INT
    infer(Model.from_proto(model))


def test_results_of_one_round_are_bounded_together(tmp_path: Path) -> None:
    """Each of these would fit; all of them are 6 GB."""
    count = 24
    makes = " ".join(f"m{i} = ConstantOfShape (s{i})" for i in range(count))
    adds = " ".join(f"r{i} = ReduceMax <keepdims = 0> (m{i})" for i in range(count))
    total = ", ".join(f"r{i}" for i in range(count))
    shapes = ", ".join(f"int64[2] s{i} = {{8000, {8000 + i}}}" for i in range(count))
    path = save(tmp_path, f"g (float x) => (float y) <{shapes}> {{ {makes} {adds} y = Sum (x, {total}) }}")
    report = rewrite(path, ["fold-constants"], verify=False)
    assert any("with others" in r.reason for r in report.passes[0].refusals)


LOOP = """g (float[2] x) => (float[2] y) <int64 n = {9000000000000000000}> {
    z = Relu (x)  c = Relu (z)
    y = Loop (n, , c) <body = b (int64 i, bool go, float[2] v) => (bool same, float[2] w) {
        same = Identity (go)  w = Neg (v) }>
}"""


def test_a_model_that_runs_forever_is_not_verified_forever(tmp_path: Path) -> None:
    start = time.monotonic()
    report = rewrite(save(tmp_path, LOOP), ["remove-identity", "simplify"], verify_seconds=1.0)
    assert report.verification.status == "not-run"
    assert "longer than 1 s" in report.verification.reason
    assert time.monotonic() - start < 10


def test_a_function_that_runs_forever_is_not_folded_forever(tmp_path: Path) -> None:
    text = """g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { v = f.spin (w)  y = Add (x, v) }
    <domain: "f", opset_import: ["": 17]>
    spin (a) => (b) { n = Constant <value_int = 9000000000000000000> ()
        b = Loop (n, , a) <body = b (int64 i, bool go, float[2] v) => (bool same, float[2] w) {
            same = Identity (go)  w = Neg (v) }> }"""
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17, "f": 1]> {text}')
    onnx.save(model, tmp_path / "m.onnx")
    start = time.monotonic()
    rewrite(tmp_path / "m.onnx", ["fold-constants"], verify=False)
    assert time.monotonic() - start < 10


def test_memory_of_a_run_is_watched() -> None:
    """Shapes that only data tell: no estimate sees them."""
    doubled = " ".join(f"v{i + 1} = Concat <axis = 0> (v{i}, v{i})" for i in range(31))
    text = f"g (float[N] v0) => (int64[K] y) {{ {doubled} y = Shape (v31) }}"
    model = OrtModel(
        parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}').SerializeToString()
    )
    with limited(60, 1 << 28), pytest.raises(TooMuch, match="more than 256 MiB"):
        model.run({"v0": np.ones(1, np.float32)})


def test_python_code_is_ended() -> None:
    def spin() -> None:
        while True:
            pass

    with limited(0.2, 1 << 30), pytest.raises(TooMuch, match="longer than 0.2 s"):
        stoppable(spin)
    assert stoppable(lambda: 3) == 3


def test_initializers_of_old_models_have_sizes(tmp_path: Path) -> None:
    """Before IR 4, inference sees no initializer that is no input: what followed was taken to be small."""
    chain = " ".join(f"v{i + 1} = Concat <axis = 0> (v{i}, v{i})" for i in range(32))
    model = parser.parse_model(
        '<ir_version: 3, opset_import: ["": 9]> '
        "g (float[1] x) => (int64[1] y, float[1] z) <float[1] v0 = {1}> "
        f"{{ {chain} y = Shape (v32) a = Identity (x) z = Relu (a) }}"
    )
    onnx.save(model, tmp_path / "m.onnx")
    report = rewrite(tmp_path / "m.onnx", ["remove-identity"], verify_memory=1 << 29)
    assert report.verification.status == "not-run" and "--verify-memory" in report.verification.reason


@pytest.mark.parametrize("inputs", ["x", "x, x, x"])
def test_another_number_of_inputs_is_no_crash(inputs: str, tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Mul (' + inputs + ") }"
    )
    onnx.save(model, tmp_path / "m.onnx")
    rewrite(tmp_path / "m.onnx", ["remove-identity"])


def test_weights_of_strings_are_not_fused(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) "
        "<float[1, 1, 1, 1] w = {1}, float[1] m = {0}, float[1] v = {1}, float[1] b = {0}, "
        'string[1] s = {"one"}> '
        "{ c = Conv (x, w) y = BatchNormalization (c, s, b, m, v) }",
    )
    (report,) = rewrite(path, ["fuse-conv-bn"]).passes
    assert any("strings" in r.reason for r in report.refusals)


def test_a_graph_name_that_is_no_utf8_is_not_verified(tmp_path: Path) -> None:
    data = save(
        tmp_path, "graphname (float[2] x) => (float[2] y) { a = Identity (x) y = Relu (a) }"
    ).read_bytes()
    (tmp_path / "m.onnx").write_bytes(data.replace(b"graphname", b"\xff" * 9))
    try:
        report = rewrite(tmp_path / "m.onnx", ["remove-identity"])
    except GraphkitError as error:
        assert "UTF-8" in str(error)
    else:
        assert report.verification.status == "not-run" and "UTF-8" in report.verification.reason


def test_a_shape_of_a_thousand_million_dims_is_not_inferred() -> None:
    text = f"g (int64[{1 << 30}] s) => (float[N] y) {{ y = ConstantOfShape (s) }}"
    model = Model.from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}'))
    start = time.monotonic()
    infer(model)
    assert time.monotonic() - start < 1
