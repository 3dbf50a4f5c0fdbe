"""Capturing on a GPU: what the engine says is what the model computes, in every dtype and shape."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from graphkit.errors import BadEngine, BadInput, GraphkitError
from graphkit.run.capture import capture
from graphkit.run.capture_file import Capture

pytestmark = pytest.mark.gpu

CONV = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3,h,w] x, float[8,3,3,3] k) => (float[n,8,h,w] y, float[n,8,h,w] z) {
  c = Conv <pads = [1,1,1,1]> (x, k)
  s = Sigmoid (c)
  y = Mul (c, s)
  a = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (y)
  z = Conv <pads = [1,1,1,1]> (a, q)
}"""
LOOP = """<ir_version: 8, opset_import: ["" : 17]>
g (float[5,1,8] x) => (float[5,1,1,8] y)
<float[1,32,8] w, float[1,32,8] r> { y, h, c = LSTM <hidden_size = 8> (x, w, r) }"""
OTHER = """<ir_version: 8, opset_import: ["" : 17]> g (float[4,4] x) => (float[4,4] y) { y = Relu (x) }"""
FIND = """<ir_version: 8, opset_import: ["" : 17]>
g (float[4,4] x) => (int64[2,k] y) { y = NonZero (x) }"""


def weighted(text: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """A model with random weights of these names and shapes."""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    kept = [i for i in model.graph.input if i.name not in shapes]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    del model.graph.initializer[:]
    for name, shape in shapes.items():
        value = rng.standard_normal(shape).astype(np.float32) / 4
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return model


def built(
    folder: Path, model: onnx.ModelProto, *, marked: bool = True, profile: Any = None
) -> tuple[Path, Path]:
    """The model's file and its engine, built by TensorRT here, with nothing of graphkit."""
    from graphkit.run.trt import load

    trt: Any = load().module
    onnx.save(model, folder / "m.onnx")
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(str(folder / "m.onnx")), parser.get_error(0).desc()
    if marked:
        network.mark_unfused_tensors_as_debug_tensors()
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if profile:
        ours = builder.create_optimization_profile()
        for name, three in profile.items():
            ours.set_shape(name, *three)
        config.add_optimization_profile(ours)
    (folder / "m.engine").write_bytes(bytes(builder.build_serialized_network(network, config)))
    return folder / "m.onnx", folder / "m.engine"


def dynamic(folder: Path, **options: Any) -> tuple[Path, Path]:
    model = weighted(CONV, k=(8, 3, 3, 3), q=(8, 8, 3, 3))
    return built(folder, model, profile={"x": ((1, 3, 8, 8), (2, 3, 16, 16), (4, 3, 32, 32))}, **options)


def close_to_the_model(found: Capture, model: Path, atol: float = 0.02) -> None:
    """Outputs of every run are those of ONNX Runtime, within what TF32 leaves."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    for run in found.runs:
        expected = session.run(names, {n: a.read() for n, a in run.inputs.items()})
        for name, value in zip(names, expected, strict=True):
            np.testing.assert_allclose(
                run.outputs[name].read(), value, atol=atol, err_msg=f"{run.label} {name}"
            )


def test_a_sweep_over_the_profile(tmp_path: Path) -> None:
    files = dynamic(tmp_path)
    found = capture(*files, tmp_path / "c", shapes=("min", "opt", "max"))
    assert [r.shapes["x"] for r in found.runs] == [(1, 3, 8, 8), (2, 3, 16, 16), (4, 3, 32, 32)]
    assert found.marked and found.layers is not None and found.layers.kernels
    assert all(r.tensors and np.isfinite(t.read()).all() for r in found.runs for t in r.tensors)
    known = {t.name for k in found.layers.kernels for t in k.outputs}
    assert any(t.name in known for t in found.runs[0].tensors)
    close_to_the_model(found, files[0])


def test_the_same_bits_again(tmp_path: Path) -> None:
    """Without specialization the kernels of a dynamic engine stay: every run gives the same bits."""
    found = capture(*dynamic(tmp_path), iterations=4)
    assert found.meta["specialization"] in ("none", "")
    for run in found.runs[1:]:
        assert [a.key for a in run.arrays()] == [a.key for a in found.runs[0].arrays()]


@pytest.mark.parametrize("specialization", ["lazy", "eager"])
def test_other_strategies_compute_the_same(tmp_path: Path, specialization: str) -> None:
    files = dynamic(tmp_path)
    found = capture(*files, specialization=specialization, warmup=2)
    assert found.marked
    close_to_the_model(found, files[0])


def test_a_loop_keeps_its_iterations_apart(tmp_path: Path) -> None:
    files = built(tmp_path, weighted(LOOP, w=(1, 32, 8), r=(1, 32, 8)))
    found = capture(*files)
    close_to_the_model(found, files[0])
    calls: dict[str, int] = {}
    for tensor in found.runs[0].tensors:
        assert tensor.call == calls.get(tensor.name, 0)
        calls[tensor.name] = tensor.call + 1
    assert calls


def test_an_output_whose_size_only_the_run_tells(tmp_path: Path) -> None:
    try:
        files = built(tmp_path, onnx.parser.parse_model(FIND))
    except (AssertionError, TypeError):
        pytest.skip("this TensorRT builds no NonZero")
    x = np.zeros((4, 4), np.float32)
    x[1, 2] = x[3, 0] = 1
    np.save(tmp_path / "x.npy", x)
    found = capture(*files, inputs=tmp_path / "x.npy")
    np.testing.assert_array_equal(found.runs[0].outputs["y"].read(), np.nonzero(x))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(tmp_path: Path, dtype: str) -> None:
    text = f"""<ir_version: 9, opset_import: ["" : 17]>
    g ({dtype}[4,16] x) => ({dtype}[4,16] y) {{ a = MatMul (x, w)  s = Softmax (a)  y = MatMul (s, w) }}"""
    model = weighted(text, w=(16, 16))
    kind = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}[dtype]
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    cast = weight.astype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    del model.graph.initializer[:]
    model.graph.initializer.append(onnx.numpy_helper.from_array(cast, "w"))
    found = capture(*built(tmp_path, model))
    x, y = (
        a.read().astype(np.float64) for a in (*found.runs[0].inputs.values(), *found.runs[0].outputs.values())
    )
    assert found.runs[0].outputs["y"].dtype == dtype
    w = cast.astype(np.float64)
    a = np.exp(x @ w)
    np.testing.assert_allclose(y, a / a.sum(-1, keepdims=True) @ w, atol=0.02)


def test_no_marks_no_tensors(tmp_path: Path) -> None:
    files = dynamic(tmp_path, marked=False)
    found = capture(*files)
    assert not found.marked and not found.runs[0].tensors
    close_to_the_model(found, files[0])


def test_errors(tmp_path: Path) -> None:
    model, engine = dynamic(tmp_path)
    out = tmp_path / "c"
    data = engine.read_bytes()
    for broken, says in (
        (data[: len(data) // 2], "cut short"),
        (b"no engine" * 100, "is text, and no engine"),
        (bytes(range(256)) * 4, "is no TensorRT engine"),
    ):
        (tmp_path / "broken.engine").write_bytes(broken)
        with pytest.raises(BadEngine, match=says):
            capture(model, tmp_path / "broken.engine", out)
    with pytest.raises(BadInput, match="outside the profile"):
        capture(model, engine, out, shapes={"x": (1, 3, 64, 64)})
    (tmp_path / "other").mkdir()
    other, _ = built(tmp_path / "other", onnx.parser.parse_model(OTHER))
    with pytest.raises(BadEngine, match="is not the model's"):
        capture(other, engine, out)
    assert not out.exists()


def test_an_engine_for_another_gpu(tmp_path: Path) -> None:
    """Whatever TensorRT says of it, it is one line; on a GPU that it fits, it runs."""
    from graphkit.run.trt import load

    trt: Any = load().module
    if not load().has_compute_capability:
        pytest.skip("this TensorRT builds for the GPU that is here")
    onnx.save(
        weighted(CONV.replace("n,", "1,").replace("h,w", "8,8"), k=(8, 3, 3, 3), q=(8, 8, 3, 3)),
        tmp_path / "m",
    )
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, log).parse_from_file(str(tmp_path / "m"))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM75, 0)
    (tmp_path / "e").write_bytes(bytes(builder.build_serialized_network(network, config)))
    try:
        capture(tmp_path / "m", tmp_path / "e", tmp_path / "c")
    except GraphkitError as error:
        print(error)
        assert "\n" not in str(error) and not (tmp_path / "c").exists()


def test_it_is_fast(tmp_path: Path) -> None:
    """Recording costs little besides the run: a second capture of the same engine in one process."""
    files = dynamic(tmp_path)
    capture(*files, tmp_path / "c")
    start = time.perf_counter()
    capture(*files, tmp_path / "c")
    assert time.perf_counter() - start < 5


def test_the_command(tmp_path: Path) -> None:
    command: Sequence[str] = [sys.executable, "-m", "graphkit", "capture", *map(str, dynamic(tmp_path))]
    result = subprocess.run(
        [*command, "-o", str(tmp_path / "c")], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0 and "tensors between kernels" in result.stdout, result
    assert Capture.load(tmp_path / "c").marked
