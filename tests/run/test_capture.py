"""Capturing, against an engine in Python behind TensorRT's calls: what happens from the plan to the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from graphkit.engine.layers import LayerMap
from graphkit.errors import BadEngine, BadInput, NoRuntime
from graphkit.run import capture as module
from graphkit.run.capture import capture
from graphkit.run.capture_file import Capture
from graphkit.run.engine_file import EngineFile, refusal
from tests.run.simulated import Context, Engine, host_device, trt

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,4] x) => (float[n,4] y, float[n,4] z) { y = Relu (x)  z = Neg (y) }"""
IO = {
    "x": (True, trt.float32, (-1, 4)),
    "y": (False, trt.float32, (-2, 4)),
    "z": (False, trt.float32, (-1, 4)),
}
PROFILE = {"x": ((1, 4), (2, 4), (5, 4))}

Values = Iterator[tuple[str, NDArray[Any], Any]]


def kernels(feed: Mapping[str, NDArray[Any]]) -> Values:
    """Two kernels and a loop of three steps; the int4 and fp8 tensors come packed, as from a GPU."""
    y = np.maximum(feed["x"], 0)
    yield "h", y * 2, trt.float32
    for step in range(3):
        yield "state", np.full((2, 2), step, np.float16), trt.float16
    yield "f8", y.astype(ml_dtypes.float8_e4m3fn), trt.fp8
    yield "bf", y.astype(ml_dtypes.bfloat16), trt.bfloat16
    yield "y", y, None
    yield "z", -y, None


@pytest.fixture
def engine() -> Engine:
    return Engine(IO, kernels, (PROFILE,))


@pytest.fixture
def files(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A model and a file for its engine, which opens as ``engine``."""
    monkeypatch.setattr(module, "device", host_device)
    monkeypatch.setattr(module.Job, "_open", lambda self, log: engine)
    model, file = tmp_path / "m.onnx", tmp_path / "m.engine"
    onnx.save(onnx.parser.parse_model(TEXT), model)
    file.write_bytes(b"vtrt" + bytes(100))
    return model, file


def test_all_that_an_engine_says(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "run.capture"
    found = capture(*files, out, seed=3)
    again = Capture.load(out)
    for got in (found, again):
        assert got.marked and got.path == out
        assert got.meta["engine"]["sha256"] == hashlib.sha256(files[1].read_bytes()).hexdigest()
        assert got.meta["onnx"] == {
            "name": "m.onnx",
            "sha256": hashlib.sha256(files[0].read_bytes()).hexdigest(),
        }
        assert got.meta["device"]["compute_capability"] == "8.9" and got.meta["specialization"] == "none"
        assert str(tmp_path) not in json.dumps(dict(got.meta))
        (run,) = got.runs
        x = run.inputs["x"].read()
        assert x.shape == (2, 4) and x.dtype == np.float32
        y = np.maximum(x, 0)
        np.testing.assert_array_equal(run.outputs["y"].read(), y)
        np.testing.assert_array_equal(run.outputs["z"].read(), -y)
        assert [(t.name, t.call, t.order, t.dtype) for t in run.tensors] == [
            ("h", 0, 0, "float32"),
            ("state", 0, 1, "float16"),
            ("state", 1, 2, "float16"),
            ("state", 2, 3, "float16"),
            ("f8", 0, 4, "float8_e4m3fn"),
            ("bf", 0, 5, "bfloat16"),
        ]
        np.testing.assert_array_equal(run.tensors[0].read(), y * 2)
        assert [int(t.read()[0, 0]) for t in run.tensors[1:4]] == [0, 1, 2]
        np.testing.assert_array_equal(run.tensors[4].read(), y.astype(ml_dtypes.float8_e4m3fn))
        np.testing.assert_array_equal(run.tensors[5].read(), y.astype(ml_dtypes.bfloat16))


def test_in_memory_and_spilled_are_the_same(files: tuple[Path, Path]) -> None:
    held, spilled = capture(*files), capture(*files, memory=10)
    assert held.path is None and spilled.path is None
    for one, other in zip(held.runs[0].arrays(), spilled.runs[0].arrays(), strict=True):
        assert one.read().tobytes() == other.read().tobytes()
        assert not one.read().flags.writeable and not other.read().flags.writeable


def test_a_sweep_and_iterations(files: tuple[Path, Path], tmp_path: Path) -> None:
    found = capture(*files, tmp_path / "c", shapes=("min", "opt", "max"), iterations=2)
    assert [(r.label, r.shapes["x"]) for r in found.runs] == [
        (f"{point} iteration {i}", (rows, 4))
        for point, rows in (("min", 1), ("opt", 2), ("max", 5))
        for i in (0, 1)
    ]
    first, second = found.runs[:2]
    assert [a.key for a in first.arrays()] == [b.key for b in second.arrays()]  # equal bits are kept once
    assert len({t.key for t in first.tensors}) == len(first.tensors)


def test_sets_differ(files: tuple[Path, Path]) -> None:
    found = capture(*files, sets=2, shapes={"x": (3, 4)})
    assert [r.label for r in found.runs] == ["set 0", "set 1"]
    one, two = (r.inputs["x"].read() for r in found.runs)
    assert one.shape == (3, 4) and not np.array_equal(one, two)


def test_strategy_and_warmup(files: tuple[Path, Path], engine: Engine) -> None:
    found = capture(*files, specialization="lazy", warmup=2, iterations=2)
    (context,) = engine.contexts
    assert context.runs == 4 and len(found.runs) == 2
    strategies = trt.DynamicShapesKernelSpecializationStrategy
    assert context.config.dynamic_shapes_kernel_specialization_strategy == strategies.LAZY
    assert found.meta["options"]["warmup"] == 2 and found.meta["specialization"] == "lazy"


def test_the_second_profile_is_chosen(files: tuple[Path, Path], engine: Engine) -> None:
    engine.profiles = (PROFILE, {"x": ((8, 4), (8, 4), (9, 4))})
    engine.num_optimization_profiles = 2
    found = capture(*files, shapes={"x": (9, 4)})
    assert engine.contexts[0].active_optimization_profile == 1 and found.runs[0].shapes == {"x": (9, 4)}
    found = capture(*files, shapes="max")
    assert [(r.label, r.shapes["x"]) for r in found.runs] == [("max", (5, 4)), ("profile 1 max", (9, 4))]


def test_an_engine_without_marks(files: tuple[Path, Path], engine: Engine) -> None:
    engine.kernels = lambda feed: (v for v in kernels(feed) if v[0] in IO)
    found = capture(*files)
    assert not found.marked and not found.runs[0].tensors and set(found.runs[0].outputs) == {"y", "z"}


def test_dims_outside_the_profile(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"input 'x' of \[6,4\] is outside the profile: min \[1,4\], max \[5,4\]"
    ):
        capture(*files, tmp_path / "c", shapes={"x": (6, 4)})
    np.save(tmp_path / "x.npy", np.zeros((7, 4), np.float32))
    with pytest.raises(BadInput, match=r"\[7,4\] is outside the profile"):
        capture(*files, tmp_path / "c", inputs=tmp_path / "x.npy")
    with pytest.raises(BadInput, match="'q' is no input of the model, which takes x"):
        capture(*files, tmp_path / "c", shapes={"q": (6, 4)})
    assert not (tmp_path / "c").exists()


def test_an_exception_in_a_callback_comes_after_the_run(files: tuple[Path, Path], engine: Engine) -> None:
    ended = []

    def broken(feed: Mapping[str, NDArray[Any]]) -> Values:
        yield "h", np.zeros(3, np.float32), object()  # no dtype at all
        yield from kernels(feed)
        ended.append(True)

    engine.kernels = broken
    with pytest.raises(AttributeError):
        capture(*files)
    assert ended


def test_what_tensorrt_raises_is_one_line(
    files: tuple[Path, Path], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Context) -> list[str]:
        raise RuntimeError("shape inference failed\nmore")

    monkeypatch.setattr(Context, "infer_shapes", fails)
    with pytest.raises(BadEngine, match=r"m\.engine: shape inference failed$"):
        capture(*files)


def test_an_engine_that_does_not_run(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "execute_async_v3", lambda self, stream: False)
    with pytest.raises(BadEngine, match=r"m\.engine: the engine did not run"):
        capture(*files, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_dtype_nobody_knows_is_left_out(files: tuple[Path, Path], engine: Engine) -> None:
    class Odd:
        name = "FP2"

    engine.kernels = lambda feed: iter([("odd", np.zeros(3, np.uint8), Odd()), *kernels(feed)])
    found = capture(*files)
    assert found.meta["skipped"] == {"odd": "FP2"} and "odd" not in [t.name for t in found.runs[0].tensors]


def test_a_full_disk_leaves_nothing(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphkit.errors import BadOutput
    from graphkit.run.npz import NpzWriter

    def full(self: NpzWriter, key: str, array: NDArray[Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(NpzWriter, "add", full)
    before = set(tmp_path.iterdir())
    with pytest.raises(BadOutput, match="No space left on device"):
        capture(*files, tmp_path / "c", memory=1)  # in the callback
    assert set(tmp_path.iterdir()) == before


def test_another_onnx_file(files: tuple[Path, Path], tmp_path: Path) -> None:
    meta = {
        "onnx": {"sha256": "0" * 64},
        "engine": {"sha256": hashlib.sha256(files[1].read_bytes()).hexdigest()},
    }
    LayerMap((), "log", meta).save(files[1].with_suffix(".layers.json"))
    with pytest.raises(BadEngine, match="was built from another ONNX file .* --other-model"):
        capture(*files)
    assert capture(*files, other_model=True).meta["matched"] == "io"
    meta["onnx"]["sha256"] = hashlib.sha256(files[0].read_bytes()).hexdigest()
    LayerMap((), "log", meta).save(files[1].with_suffix(".layers.json"))
    assert capture(*files).meta["matched"] == "sha256"
    meta["engine"]["sha256"] = meta["onnx"]["sha256"] = "1" * 64  # a map of another engine says nothing
    LayerMap((), "log", meta).save(files[1].with_suffix(".layers.json"))
    assert capture(*files).meta["matched"] == "io"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w": (True, trt.float32, (1,))}, "the engine has an input 'w', which the model does not have"),
        ({"x": (True, trt.float16, (-1, 4))}, "input 'x' is float16 in the engine and float32 in the model"),
        ({"y": (False, trt.float32, (-2, 5))}, r"output 'y' has the dims \[\?,5\] in the engine"),
        ({"z": None}, "the engine lacks the output 'z'"),
    ],
)
def test_an_engine_of_another_model(
    files: tuple[Path, Path], engine: Engine, change: Mapping[str, Any], says: str
) -> None:
    engine.io = {k: v for k, v in (engine.io | dict(change)).items() if v is not None}
    engine.num_io_tensors = len(engine.io)
    with pytest.raises(BadEngine, match=says):
        capture(*files, other_model=True)


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            "Error Code 1: Cuda Runtime (CUDA driver version is insufficient: cudaError 35)",
            NoRuntime,
            "cudaError 35",
        ),
        ("TensorRT-RTX does not support this compute capability", NoRuntime, "does not support this compute"),
        (
            "The engine plan file is generated on an incompatible device, expecting compute 8.6 got 8.9",
            BadEngine,
            "built for another GPU",
        ),
        (
            "The engine plan file is not compatible with this version of TensorRT, expecting library version "
            "10.3.0.26 got 10.0.1.6, please rebuild.",
            BadEngine,
            "is of version 10.0.1.6, and TensorRT-RTX 1.4 is here",
        ),
        (
            "Version tag does not match. Current Version: 0, Serialized Engine Version: 4",
            BadEngine,
            "another version",
        ),
        (
            "Serialization assertion header.magicTag == kEXPECTED_MAGIC_TAG failed",
            BadEngine,
            "--trt tensorrt",
        ),
        ("Serialization assertion plan.header.size == blobSize failed.", BadEngine, "cut short or damaged"),
        ("Something else\nsecond line", BadEngine, "cannot open it: Something else; build"),
        ("", BadEngine, "it says nothing"),
    ],
)
def test_why_an_engine_does_not_open(tmp_path: Path, said: str, kind: type[Exception], words: str) -> None:
    (tmp_path / "e").write_bytes(b"vtrt" + bytes(40))
    error = refusal(EngineFile.load(tmp_path / "e"), said.splitlines(), "TensorRT-RTX 1.4", True)
    assert type(error) is kind and words in str(error) and "\n" not in str(error)
    (tmp_path / "e").write_bytes(bytes(range(256)))
    error = refusal(EngineFile.load(tmp_path / "e"), ["magic tag"], "TensorRT-RTX 1.4", True)
    assert "is no TensorRT engine" in str(error)
