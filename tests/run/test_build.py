"""Real engines, built with no GPU: what their layer maps say, what is refused, and what is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import graphkit
from graphkit import BadInput, BadOption, BadOutput, BuildFailed, GraphkitError, LayerMap, NoRuntime, build
from graphkit.engine.coverage import coverage
from graphkit.engine.layers import uncovered
from graphkit.engine.naming import label, named
from graphkit.run.build import BuildOptions, layer_list
from graphkit.run.profiles import parse_shapes
from tests import corpus
from tests.engine.models import scopes, with_weights

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (pip install 'graphkit[rtx]')")

ROOT = corpus.ROOT
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
HEAD = '<ir_version: 8, opset_import: ["": 17]>\n'
ADA = ["8.9"]


def saved(text_or_model: str | onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    model = parser.parse_model(HEAD + text_or_model) if isinstance(text_or_model, str) else text_or_model
    onnx.save(model, folder / name)
    return folder / name


# -- the layer map of real models


def detector(folder: Path) -> Path:
    graphkit.rewrite(ROOT / "fixtures" / "demo" / "detector.onnx", ["silu"], folder / "detector.onnx")
    return folder / "detector.onnx"


def of_package(name: str, file: str) -> Callable[[Path], Path]:
    def find(folder: Path) -> Path:
        return next(p for p in corpus.package_models(name) if p.name == file)

    return find


def light(name: str) -> Callable[[Path], Path]:
    return lambda folder: LIGHT / f"light_{name}.onnx"


def shared(name: str) -> Callable[[Path], Path]:
    return lambda folder: next(p for p in corpus.shared_models() if p.name == name)


# model -> where it is, --shapes, and how many nodes survive at least
REAL: dict[str, tuple[Callable[[Path], Path], list[str], int]] = {
    "detector": (detector, [], 50),
    "common": (of_package("ddddocr", "common.onnx"), ["input1=1x1x64x64/1x1x64x128/1x1x64x256"], 50),
    "common_det": (of_package("ddddocr", "common_det.onnx"), [], 240),
    "PP-OCRv4_det": (
        of_package("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx"),
        ["x=1x3x64x64"],
        320,
    ),
    "PP-OCRv4_rec": (
        of_package("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx"),
        ["x=1x3x48x320"],
        360,
    ),
    "alexnet": (light("bvlc_alexnet"), [], 20),
    "inception_v1": (light("inception_v1"), [], 130),
    "resnet50": (light("resnet50"), [], 170),
    "shufflenet": (light("shufflenet"), [], 150),
    "squeezenet": (light("squeezenet"), [], 55),
    "vgg19": (light("vgg19"), [], 40),
    "zfnet512": (light("zfnet512"), [], 20),
    "yolov5n": (shared("yolov5n_op12.onnx"), [], 200),
    "yolov5n_dynamic": (
        shared("yolov5n_op17_dynamic.onnx"),
        ["images=1x3x320x320/1x3x640x640/4x3x640x640"],
        200,
    ),
}


@pytest.mark.parametrize("target", ["8.9", "12.0"])
@pytest.mark.parametrize("name", REAL)
def test_kernels_name_the_onnx_nodes_that_survive(name: str, target: str, tmp_path: Path) -> None:
    find, shapes, least = REAL[name]
    path = find(tmp_path)
    done = build(path, compute_capabilities=[target], shapes=shapes)
    (layers,) = done.layers
    model = onnx.load(path, load_external_data=False)
    found = coverage(model, layers.kernels)
    assert len(found.surviving) >= least  # else there was nothing to cover
    assert found.share >= 0.99 and uncovered(model, layers) == found.uncovered
    known = {label.split(" | ")[0] for k in layers.kernels for label in k.onnx_nodes}
    assert known <= set(found.surviving) | set(found.gone)  # no kernel names a node that is not there
    assert done.marked and layers.meta["compute_capabilities"] == [target]


@pytest.mark.slow
def test_a_node_that_another_stands_for_is_listed() -> None:
    """Two convolutions of one input, with weights that are all one number: TensorRT computes one of them."""
    path = LIGHT / "light_inception_v2.onnx"
    done = build(path, compute_capabilities=ADA)
    model = onnx.load(path)
    assert uncovered(model, done.layers[0]) == (("n461", "Conv"),)
    assert coverage(model, done.layers[0].kernels).share >= 0.99


def test_what_does_not_survive_is_told_apart(tmp_path: Path) -> None:
    text = """g (float[2,3] x, int64 i) => (float[3,2] y) {
        shape = Shape(x)  two = Constant<value_int=2>()  half = Div(shape, two)
        dead = Neg(x)  one = Constant<value_float=1.0>()  same = Mul(x, one)
        kept = Cast<to=1>(same)  t = Transpose<perm=[1,0]>(kept)  y = Relu(t)
    }"""
    model = parser.parse_model(HEAD + text)
    found = coverage(model, build(saved(model, tmp_path), compute_capabilities=ADA).layers[0].kernels)
    assert found.surviving == ("node_of_y",) and found.uncovered == ()
    fates = {name.removeprefix("node_of_"): why for name, why in found.gone.items()}
    assert fates == {
        "shape": "dead",
        "two": "dead",
        "half": "dead",
        "dead": "dead",
        "one": "constant",
        "same": "no-op",
        "kept": "no-op",
        "t": "move",
    }


def test_a_node_that_no_kernel_names_is_reported() -> None:
    model = parser.parse_model(HEAD + "g (float[2] x) => (float[2] y) { [n] h = Neg(x)  [r] y = Relu(h) }")
    found = coverage(model, [])
    assert found.uncovered == (("n", "Neg"), ("r", "Relu")) and found.share == 0


# -- names


def test_metadata_spells_every_node_as_label_does(tmp_path: Path) -> None:
    path = saved(scopes(), tmp_path)
    done = build(path, compute_capabilities=ADA)
    told = {n for k in done.layers[0].kernels for n in k.onnx_nodes}
    branches = [("t", "then_branch", "ifn", "If")], [("s", "else_branch", "ifn", "If")]
    assert told == {
        *("node_of_a", "node_of_b", "same", "same_1", "node_of_f", "ifn"),
        label("inn", branches[0]),
        label("node_of_ss0", branches[1]),
        label("node_of_ss", branches[1]),
        label("innr", ["call (fn)"]),
        label("node_of_q1", ["call (fn)"]),
    }
    assert done.layers[0].meta["renamed"] == named(scopes())[1]


def test_marks_change_no_kernel(tmp_path: Path) -> None:
    for path in (saved(scopes(), tmp_path), detector(tmp_path)):
        marked = build(path, compute_capabilities=ADA)
        plain = layer_list(path, BuildOptions(compute_capabilities=("8.9",)))
        assert marked.marked and len(plain) > 10
        assert plain == list(marked.layers[0].kernels)


def test_two_builds_at_a_time_keep_their_layers_apart(tmp_path: Path) -> None:
    small = saved("g (float[1,64] x) => (float[1,64] y) { [only] y = Softmax(x) }", tmp_path, "small.onnx")
    large = saved(scopes(), tmp_path)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda p: build(p, compute_capabilities=ADA), [small, large] * 6))
    for one, path in zip(made, [small, large] * 6, strict=True):
        (layers,) = one.layers
        assert layers.kernels == build(path, compute_capabilities=ADA).layers[0].kernels


# -- the files


def test_the_layer_map_says_what_it_was_made_from(tmp_path: Path) -> None:
    model = scopes()
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    out = tmp_path / "m.engine"
    done = build(path, out, compute_capabilities=["8.9", "12.0"], tf32=False, workspace=1 << 28)
    tree = json.loads((tmp_path / "m.layers.json").read_text())
    assert tree["schema"] == "graphkit.layers/1" and tree["source"] == "log"
    assert tree["onnx"] == {
        "name": "m.onnx",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "external_data": {"w.bin": hashlib.sha256((tmp_path / "w.bin").read_bytes()).hexdigest()},
    }
    assert tree["engine"] == {
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "bytes": out.stat().st_size,
    }
    assert tree["trt"]["module"] == "tensorrt_rtx" and tree["trt"]["version"] == done.versions["tensorrt_rtx"]
    assert tree["options"]["tf32"] is False and tree["options"]["workspace"] == 1 << 28
    assert tree["compute_capabilities"] == ["8.9", "12.0"] and tree["marked"] is True
    assert done.size == out.stat().st_size and done.engine == out
    assert LayerMap.load(done.layers_file) == done.layers[0]  # type: ignore[arg-type]
    kernel = next(k for k in tree["kernels"] if k["onnx_nodes"] == ["same"])
    assert kernel["outputs"][0]["dims"] == [1, 8, 16, 16] and kernel["outputs"][0]["dtype"] == "float32"


def test_the_file_and_its_text_build_the_same_kernels(tmp_path: Path) -> None:
    text = HEAD + "g (float[1,64] x) => (float[1,64] y) { h = Softmax(x)  y = Erf(h) }"
    (tmp_path / "m.onnxtxt").write_text(text)
    onnx.save(parser.parse_model(text), tmp_path / "m.onnx")
    one, other = (build(tmp_path / n, compute_capabilities=ADA) for n in ("m.onnx", "m.onnxtxt"))
    assert one.layers[0].kernels == other.layers[0].kernels != ()
    assert one.layers[0].meta["onnx"] != other.layers[0].meta["onnx"]


def test_plain_marks_nothing_and_says_what_is_then_not_known(tmp_path: Path) -> None:
    done = build(saved(scopes(), tmp_path), compute_capabilities=ADA, plain=True)
    assert not done.marked and not any(k.onnx_nodes for k in done.layers[0].kernels)
    assert any("--plain" in w for w in done.warnings)


def test_float64_and_a_timing_cache_without_effect_are_said(tmp_path: Path) -> None:
    path = saved("g (double[2,3] x) => (double[2,3] y) { y = Relu(x) }", tmp_path)
    done = build(path, compute_capabilities=ADA, timing_cache=tmp_path / "cache")
    assert "'x' is float64 in the model and float32 in the engine" in done.warnings
    assert any("timing cache" in w for w in done.warnings)
    assert not (tmp_path / "cache").exists()


# -- shapes


DYNAMIC = "g (float[N,8,H,W] x) => (float[N,8,H,W] y) { y = Relu(x) }"


def test_a_dynamic_input_without_shapes_is_named_with_an_example_that_works(tmp_path: Path) -> None:
    path = saved(DYNAMIC, tmp_path)
    with pytest.raises(BadOption, match=r"'x' \[\?,8,\?,\?\]") as refused:
        build(path, compute_capabilities=ADA)
    example = re.search(r"--shapes (\S+)$", str(refused.value))
    assert example is not None and example[1] == "x=1x8x224x224"
    done = build(path, compute_capabilities=ADA, shapes=[example[1]])
    dims = [t.dims for k in done.layers[0].kernels for t in k.outputs if t.name == "y"]
    assert dims in ([(1, 8, 224, 224)], [(-1, 8, -1, -1)])


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (["x=1x8x2x2/1x8x4x4"], "is not NAME=MIN/OPT/MAX"),
        (["1x8x2x2"], "is not NAME=MIN/OPT/MAX"),
        (["x=1x8x-1x2"], "is not NAME=MIN/OPT/MAX"),
        (["x=1x8x4x4/1x8x2x2/1x8x8x8"], "MIN <= OPT <= MAX"),
        (["x=1x8x4/1x8x2x2/1x8x8x8"], "as many dims"),
        (["x=1x8x4x4", "x=1x8x4x4"], "twice"),
        (["y=1x8x4x4"], "the model's inputs are x"),
        (["x=1x9x4x4"], "does not fit"),
        (["x=1x8x4"], "does not fit"),
    ],
)
def test_shapes_that_cannot_be_are_refused(shapes: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=said) as refused:
        build(saved(DYNAMIC, tmp_path), compute_capabilities=ADA, shapes=shapes)
    assert "\n" not in str(refused.value)


def test_shapes_are_given_as_a_mapping_too_and_printed_back() -> None:
    spec = "a/b=c=1x3x2x2/1x3x4x4/4x3x8x8"
    (shapes,) = parse_shapes([spec])
    assert shapes.name == "a/b=c" and str(shapes) == spec
    assert (
        parse_shapes({"x": (1, 2)}) == parse_shapes(["x=1x2"]) and str(parse_shapes(["x=1x2"])[0]) == "x=1x2"
    )
    assert parse_shapes({"x": ((1, 2), (1, 3), (1, 4))}) == parse_shapes(["x=1x2/1x3/1x4"])


def test_dims_of_one_name_cannot_have_two_sizes(tmp_path: Path) -> None:
    path = of_package("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx")(tmp_path)
    with pytest.raises(BuildFailed, match=r"several dims '\?'.*--pass fix-shapes"):
        build(path, compute_capabilities=ADA, shapes=["x=1x3x48x192"])
    graphkit.rewrite(path, ["fix-shapes:x=1x3x48x192"], tmp_path / "fixed.onnx")
    assert build(tmp_path / "fixed.onnx", compute_capabilities=ADA).size > 0


def test_an_input_that_is_a_shape_takes_its_values(tmp_path: Path) -> None:
    path = saved(
        "g (int64[2] s, float[2,3] x) => (float[a,b] y) { h = Relu(x)  y = Reshape(h, s) }", tmp_path
    )
    with pytest.raises(BadOption, match="its values are asked for"):
        build(path, compute_capabilities=ADA)
    assert build(path, compute_capabilities=ADA, shapes=["s=3x2"]).size > 0


def test_an_input_with_a_pattern_in_its_name_gets_its_own_shapes(tmp_path: Path) -> None:
    model = parser.parse_model(HEAD + DYNAMIC)
    for entry in (model.graph.node[0].input, model.graph.input):
        if entry is model.graph.input:
            entry[0].name = "x[0]"
        else:
            entry[0] = "x[0]"
    done = build(saved(model, tmp_path), compute_capabilities=ADA, shapes=["x[0]=2x8x4x4/3x8x4x4/4x8x4x4"])
    assert done.size > 0


# -- refusals


def refused(path: Path, **options: object) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        build(path, path.with_suffix(".engine"), **{"compute_capabilities": ADA, **options})  # type: ignore[arg-type]
    error = caught.value
    assert "\n" not in str(error) and str(path.name) in str(error)
    assert error.findings and not path.with_suffix(".engine").exists()
    assert not path.with_suffix(".layers.json").exists()
    return error


def test_every_refused_node_is_named_with_the_pass_that_mends_it(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes((ROOT / "fixtures" / "demo" / "detector.onnx").read_bytes())
    import tensorrt_rtx

    if tuple(map(int, tensorrt_rtx.__version__.split(".")[:2])) >= (1, 5):
        pytest.skip("this TensorRT-RTX knows Swish; 1.4 does not")
    error = refused(path)
    swish = [n.name for n in onnx.load(path).graph.node if n.op_type == "Swish"]
    assert [f.node for f in error.findings] == swish and len(swish) > 5
    assert {(f.op, f.mend) for f in error.findings} == {("Swish", "silu")}
    assert "Swish" in str(error) and "--pass silu" in str(error)


def test_false_is_no_reason_and_functions_are_told(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["": 17, "my": 1]>
        g (float[1,3,3] x) => (float[1] y) { [call] y = my.outer(x) }
        <domain: "my", opset_import: ["": 17, "my": 1]> outer (q) => (r) { [in_call] r = my.fn(q) }
        <domain: "my", opset_import: ["": 17]> fn (q) => (r) { [bad] r = Det(q) }"""
    error = refused(saved(parser.parse_model(text), tmp_path))
    (finding,) = error.findings
    assert (finding.op, finding.node, finding.raw) == ("Det", "bad", "false")
    assert finding.stack == ("call (outer)", "in_call (fn)")
    assert finding.reason.endswith("does not support Det")
    assert "Det 'bad' in call (outer) > in_call (fn)" in str(error)


def test_a_dtype_that_tensorrt_lacks_is_laid_at_its_tensor(tmp_path: Path) -> None:
    error = refused(saved("g (int16[2] x) => (int16[2] y) { y = Add(x, x) }", tmp_path))
    assert "'x' is int16" in str(error)


def test_an_int32_bias_behind_dequantize_is_explained(tmp_path: Path) -> None:
    model = parser.parse_model(
        HEAD + "g (float[4] x) => (float[4] y) { [deq] d = DequantizeLinear(b, s)  y = Add(x, d) }"
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.arange(4, dtype=np.int32), "b"),
            numpy_helper.from_array(np.float32(0.5), "s"),
        ]
    )
    (finding,) = refused(saved(model, tmp_path)).findings
    assert (finding.op, finding.node) == ("DequantizeLinear", "deq")
    assert finding.reason.startswith("int32 cannot be dequantized")


def test_what_only_the_builder_refuses_is_translated_too(tmp_path: Path) -> None:
    path = saved("g (int8[4] x, int8[4] w) => (int8[4] y) { [sum] y = Add(x, w) }", tmp_path)
    (finding,) = refused(path).findings
    assert finding.stage == "build" and "put a DequantizeLinear before it" in finding.reason


@pytest.mark.slow
def test_no_reason_is_source_code(tmp_path: Path) -> None:
    """Over ONNX's node tests that TensorRT refuses; RoiAlign is left out, whose importer has crashed."""
    seen = 0
    for name, data in corpus.node_tests()[::23]:
        path = tmp_path / "m.onnx"
        path.write_bytes(data)
        try:
            if "roialign" not in name:
                build(path, compute_capabilities=ADA)
        except BuildFailed as error:
            seen += 1
            for finding in error.findings:
                assert finding.reason and finding.reason != "false" and finding.raw, name
                assert not re.search(r"Assertion failed|\n|\.cpp|Error Code", finding.reason), (name, finding)
        except GraphkitError as error:
            assert "\n" not in str(error), name
    assert seen > 25


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"compute_capabilities": ["9.0"]}, BadOption, "builds for 7.5, 8.0"),
        ({"compute_capabilities": ["sm_89"]}, BadOption, "builds for 7.5, 8.0"),
        ({"trt": "cuda"}, BadOption, "say auto, tensorrt or rtx"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    options: dict[str, object], kind: type[GraphkitError], said: str, tmp_path: Path
) -> None:
    path = saved(scopes(), tmp_path)
    with pytest.raises(kind, match=said) as caught:
        build(path, tmp_path / "m.engine", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and os.listdir(tmp_path) == ["model.onnx"]


def test_with_no_gpu_one_has_to_be_named(tmp_path: Path) -> None:
    from graphkit.run.compile import present

    if present() is not None:
        pytest.skip("there is a GPU here")
    with pytest.raises(NoRuntime, match="--compute-capability 8.9"):
        build(saved(scopes(), tmp_path))


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"nonsense")
    for name in ("m.onnx", "none.onnx"):
        with pytest.raises(BadInput, match=name):
            build(tmp_path / name, tmp_path / "m.engine", compute_capabilities=ADA)
    assert os.listdir(tmp_path) == ["m.onnx"]


# -- nothing half-written


def test_out_cannot_replace_the_model(tmp_path: Path) -> None:
    path = saved(scopes(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(BadOutput, match="would replace the model"):
        build(path, path, compute_capabilities=ADA)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.onnx"]


def test_a_build_that_fails_leaves_the_old_engine_and_its_map(tmp_path: Path) -> None:
    out = tmp_path / "m.engine"
    build(saved(scopes(), tmp_path), out, compute_capabilities=ADA)
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    bad = saved("g (float[1,3,3] x) => (float[1] y) { y = Det(x) }", tmp_path, "bad.onnx")
    with pytest.raises(BuildFailed):
        build(bad, out, compute_capabilities=ADA)
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p != bad} == before


def test_when_one_file_cannot_be_written_neither_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = saved(scopes(), tmp_path), tmp_path / "m.engine"
    out.write_bytes(b"old")
    replace = os.replace

    def failing(source: str, target: str) -> None:
        if str(target).endswith(".layers.json"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(BadOutput, match="No space left"):
        build(path, out, compute_capabilities=ADA)
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["m.engine", "model.onnx"]


def test_a_folder_in_the_way_of_the_map_stops_the_build_before_it_begins(tmp_path: Path) -> None:
    path = saved(scopes(), tmp_path)
    (tmp_path / "m.layers.json").mkdir()
    with pytest.raises(BadOutput, match="is a directory"):
        build(path, tmp_path / "m.engine", compute_capabilities=ADA)
    assert not (tmp_path / "m.engine").exists()


# -- progress


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    build(saved(scopes(), tmp_path), compute_capabilities=ADA, progress=lambda *what: told.append(what))
    stages = [stage for stage, _, _ in told]
    assert stages[:3] == ["reading", "parsing", "building"] and stages[-1] == "reading the layers"
    assert all(0 <= done <= max(total - 1, 0) for _, done, total in told)


def test_a_build_can_be_interrupted_and_nothing_is_left(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if stage.startswith("building: "):
            raise KeyboardInterrupt

    path = saved(scopes(), tmp_path)
    try:
        build(path, tmp_path / "m.engine", compute_capabilities=ADA, progress=stop)
    except KeyboardInterrupt:
        assert os.listdir(tmp_path) == ["model.onnx"]
    else:
        pytest.skip("this TensorRT told no progress")
    assert build(path, compute_capabilities=ADA).size > 0  # and the process is as good as new


# -- which TensorRT


def in_a_process(code: str, folder: Path) -> str:
    """What a fresh process prints, in which ``folder`` is searched for modules first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOAD = """
from graphkit.run import trt
from graphkit.errors import NoRuntime
try:
    found = trt.load({which!r})
    print(found.name, [f for f in ("unfused", "compute_capability", "timing_cache") if not found.has(f)])
except NoRuntime as error:
    print("refused:", error)
"""


def test_the_api_imports_no_tensorrt_until_it_builds(tmp_path: Path) -> None:
    code = "import sys, graphkit; graphkit.build; print([m for m in sys.modules if m.startswith('tensorrt')])"
    assert in_a_process(code, tmp_path) == "[]"


def test_auto_takes_what_is_there(tmp_path: Path) -> None:
    assert in_a_process(LOAD.format(which="auto"), tmp_path).split()[0] in ("tensorrt", "tensorrt_rtx")


def test_stubs_alone_are_no_tensorrt(tmp_path: Path) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").touch()
    said = in_a_process(LOAD.format(which="tensorrt"), tmp_path)
    if not said.startswith("tensorrt "):  # a real one is installed too
        assert said.startswith("refused: tensorrt is not installed; install TensorRT from NVIDIA")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("__version__ = '8.5.3'", "refused: TensorRT 8.5.3 is too old, 8.6 is the oldest that works"),
        ("raise OSError('libnvinfer.so.10: cannot open')", "refused: tensorrt does not import: libnvinfer"),
    ],
)
def test_a_tensorrt_that_does_not_work_is_refused_and_auto_goes_on(
    content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text(content)
    assert in_a_process(LOAD.format(which="tensorrt"), tmp_path).startswith(said)
    assert in_a_process(LOAD.format(which="auto"), tmp_path).startswith("tensorrt_rtx ")


def test_what_a_version_lacks_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "tensorrt.py").write_text(
        "class INetworkDefinition: ...\nclass IBuilderConfig: ...\nclass ILayer: ...\n__version__ = '8.6.1'\n"
    )
    code = """
from graphkit.run import trt
found = trt.load("tensorrt")
for feature in ("unfused", "compute_capability", "debug", "progress", "metadata"):
    assert not found.has(feature)
    print(found.lacks(feature))
"""
    lines = in_a_process(code, tmp_path).splitlines()
    assert len(lines) == 5 and all(line.startswith("TensorRT 8.6.1 cannot ") for line in lines)


def test_a_process_uses_one_tensorrt(tmp_path: Path) -> None:
    code = LOAD.format(which="rtx") + LOAD.format(which="tensorrt")
    (tmp_path / "tensorrt.py").write_text("__version__ = '10.12.0'")
    assert "use tensorrt in a process of its own" in in_a_process(code, tmp_path)


def test_weights_are_seeded() -> None:
    assert with_weights(HEAD + "g (float[1] x) => (float[1] y) { y = Add(x, w) }", w=(1,)).graph.initializer
