"""The first bytes of engines, as TensorRT-RTX writes them here, and of files that are none."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import onnx
import onnx.parser
import pytest

from graphkit.engine.layers import LayerMap, layers_path
from graphkit.errors import BadEngine
from graphkit.run.engine_file import EngineFile, refusal
from graphkit.run.engine_header import EngineHeader, is_engine, other_kind
from graphkit.run.trt import Trt

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) { y = Relu (x) }"""
RTX = Trt("tensorrt_rtx", "1.4.0.76", None)
# What TensorRT 10 writes first; version 10.3.0.26.
TEN = b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(100)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    from graphkit.run.build import build

    folder = tmp_path_factory.mktemp("header")
    onnx.save(onnx.parser.parse_model(TEXT), folder / "m.onnx")
    build(folder / "m.onnx", folder / "m.engine", compute_capabilities=["8.9"])
    return folder / "m.engine"


def test_a_real_engine(engine: Path) -> None:
    from graphkit.run.trt import load

    data = engine.read_bytes()
    header = EngineHeader.of(data)
    assert header == EngineHeader(True, load().numbers, len(data))
    EngineFile.load(engine).check(load())


@pytest.mark.parametrize("share", [0.999, 0.5, 40, 27, 5])
def test_an_engine_that_is_cut_short(engine: Path, tmp_path: Path, share: float) -> None:
    data = engine.read_bytes()
    length = int(share * len(data)) if share < 1 else int(share)
    (tmp_path / "e").write_bytes(data[:length])
    with pytest.raises(BadEngine, match=f"e: is cut short: it has {length} (of {len(data)} )?bytes; copy"):
        EngineFile.load(tmp_path / "e")


def test_an_engine_of_another_version(engine: Path, tmp_path: Path) -> None:
    data = bytearray(engine.read_bytes())
    for change, says in ((24, "is of version 9"), (25, "is of version [0-9]+.9")):
        (tmp_path / "e").write_bytes(data[:change] + b"\x09" + data[change + 1 :])
        with pytest.raises(BadEngine, match=f"{says}.* TensorRT-RTX 1.4.0.76 is here; build the engine"):
            EngineFile.load(tmp_path / "e").check(RTX)
    (tmp_path / "e").write_bytes(TEN)
    with pytest.raises(BadEngine, match="is an engine of TensorRT, .* try --trt tensorrt"):
        EngineFile.load(tmp_path / "e").check(RTX)
    (tmp_path / "e").write_bytes(data)
    with pytest.raises(BadEngine, match="is an engine of TensorRT-RTX, .* try --trt rtx"):
        EngineFile.load(tmp_path / "e").check(Trt("tensorrt", "10.3.0.26", None))


def test_nothing_is_claimed_of_a_header_that_is_not_known(tmp_path: Path) -> None:
    assert EngineHeader.of(TEN) == EngineHeader(False, (10, 3, 0, 26))
    assert EngineHeader.of(b"ptrt" + bytes(200)) == EngineHeader(False)
    newer = struct.pack("<4sIIIQ4B", b"vtrt", 0, 3, 0, 1 << 40, 2, 0, 0, 1)
    assert EngineHeader.of(newer) == EngineHeader(True)
    assert EngineHeader.of(bytes(200)) is None and not is_engine(b"") and EngineHeader.of(b"") is None
    for data in (TEN, newer, bytes(200), bytes(range(256))):
        (tmp_path / "e").write_bytes(data)
        EngineFile.load(tmp_path / "e")


def test_the_layer_map_knows_how_long_an_engine_was(tmp_path: Path) -> None:
    """Where the header does not say it; whatever TensorRT makes of the half that is there."""
    (tmp_path / "e.engine").write_bytes(TEN)
    record = {"engine": {"bytes": len(TEN) * 2, "sha256": "0" * 64}}
    LayerMap((), "log", record).save(layers_path(tmp_path / "e.engine"))
    file = EngineFile.load(tmp_path / "e.engine")
    said = ["generated on an incompatible device"]
    short = f"is cut short: it has {len(TEN)} of {2 * len(TEN)}"
    assert short in str(refusal(file, said, "TensorRT 10", False))
    layers_path(tmp_path / "e.engine").write_text("{")
    assert "built for another GPU" in str(refusal(file, said, "TensorRT 10", False))
    other = str(refusal(file, ["Version tag does not match"], "TensorRT 11", False))
    assert "is of version 10.3.0.26, and TensorRT 11 is here" in other


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04rest", "is an archive, such as a capture"),
        (b"some text\n", "is text, and no engine"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "run `git lfs pull`"),
        (onnx.parser.parse_model(TEXT).SerializeToString(), "is an ONNX model, and no engine"),
        (
            (n := len(json.dumps({"task": "detect"}))).to_bytes(4, "little") + b'{"task": "detect"}' + TEN,
            rf"has {n + 4} bytes of metadata before the engine.*tail -c \+{n + 5} FILE",
        ),
    ],
)
def test_what_is_plainly_something_else(data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(data)
    with pytest.raises(BadEngine, match=says):
        EngineFile.load(tmp_path / "e")


def test_a_file_that_may_be_anything() -> None:
    assert other_kind(bytes(range(256))) == "" and other_kind(TEN) == ""
