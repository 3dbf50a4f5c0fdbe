"""What goes wrong with engines and captures: one line that says what and what to do, exit 2, nothing written.

Nothing here needs a GPU: what can be known without one is said before one is asked for.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from graphkit.cli import main
from graphkit.run import trt
from tests.compare import live

DEMO = Path(__file__).resolve().parents[2] / "fixtures" / "demo"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, an engine, a capture, and what may become of them."""
    folder = tmp_path_factory.mktemp("files")
    model, engine = live.built(folder)
    data = engine.read_bytes()
    (folder / "half.engine").write_bytes(data[: len(data) // 2])
    (folder / "older.engine").write_bytes(data[:25] + b"\x00" + data[26:])
    capture = (DEMO / "detector.capture").read_bytes()
    shutil.copy(DEMO / "detector.onnx", folder / "d.onnx")
    (folder / "d.capture").write_bytes(capture)
    (folder / "half.capture").write_bytes(capture[: len(capture) // 2])
    (folder / "newer.capture").write_bytes(newer(capture))
    (folder / "half.onnx").write_bytes((DEMO / "detector.onnx").read_bytes()[:20_000])
    (folder / "text").write_text("no model, no engine\n")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    shutil.copy(model, folder / "no_suffix")
    other = live.model()
    other.graph.initializer[0].raw_data = bytes(len(other.graph.initializer[0].raw_data))
    onnx.save(other, folder / "other.onnx")
    np.savez(folder / "wrong.npz", x=np.zeros((2, 8, 16, 17), np.float32))
    np.savez(folder / "unknown.npz", q=np.zeros((2, 8, 16, 16), np.float32))
    (folder / "script.py").write_text("def load_data(:\n")
    return folder


def newer(capture: bytes) -> bytes:
    """The capture with the schema of a later graphkit."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(capture)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "meta.npy":
                meta = json.loads(np.load(io.BytesIO(data)).tobytes()) | {"schema": "graphkit.capture/2"}
                entry = io.BytesIO()
                np.save(entry, np.frombuffer(json.dumps(meta).encode(), np.uint8))
                data = entry.getvalue()
            new.writestr(name, data)
    return stream.getvalue()


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def refused(folder: Path, patch: pytest.MonkeyPatch, command: str) -> str:
    """The one line; the folder is as it was."""
    patch.chdir(folder)
    before = state(folder)
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("\n") == 1 and result.stdout == "", result.output
    assert result.stderr.startswith("graphkit: error: ") and "internal error" not in result.stderr
    assert state(folder) == before
    return result.stderr


@pytest.mark.parametrize(
    ("files_given", "says"),
    [
        ("m.onnx half.engine", "half.engine: is cut short: it has "),
        ("m.onnx older.engine", "older.engine: is of version "),
        ("m.onnx d.capture", "d.capture: is an archive, such as a capture, and no engine"),
        ("m.onnx m.onnx", "m.onnx: is an ONNX model, and no engine; graphkit build"),
        ("m.onnx no_suffix", "no_suffix: is an ONNX model, and no engine; graphkit build"),
        ("m.onnx text", "text: is text, and no engine"),
        ("m.onnx empty", "empty: is empty"),
        ("m.onnx folder", "folder: cannot be read: is a directory"),
        ("m.onnx none", "none: there is no such file"),
        ("other.onnx m.engine", "m.engine: was built from another ONNX file"),
        ("m.engine m.onnx", "m.engine: not an ONNX model"),
        ("half.onnx m.engine", "half.onnx: is cut short: it has 20000 of "),
        ("m.onnx m.engine --shapes q=1x8x16x16", "'q' is no input of the model, which takes x"),
        ("m.onnx m.engine --inputs wrong.npz", "should be float32 [n,8,16,16], and is float32 [2,8,16,17]"),
        ("m.onnx m.engine --inputs unknown.npz", "'q' is no input of the model, which takes x"),
        ("m.onnx m.engine --inputs script.py", "script.py: its load_data() failed: invalid syntax"),
        ("m.onnx m.engine --run-results new", "--run-results new: is OUT too"),
        ("m.onnx m.engine --run-results m.onnx", "m.onnx: would replace the model"),
    ],
)  # fmt: skip
def test_capture(files: Path, monkeypatch: pytest.MonkeyPatch, files_given: str, says: str) -> None:
    assert says in refused(files, monkeypatch, f"capture {files_given} -o new")


@pytest.mark.parametrize("target", ["m.onnx", "m.engine", "m.layers.json"])
def test_a_capture_replaces_nothing_that_it_reads(
    files: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    assert f"{target}: would replace the" in refused(
        files, monkeypatch, f"capture m.onnx m.engine -o {target}"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("m.onnx half.engine", "half.engine: is cut short: it has "),
        ("m.onnx older.engine", "older.engine: is of version "),
        ("other.onnx m.engine", "m.engine: was built from another ONNX file"),
        ("m.onnx m.engine --shapes q=1x8x16x16", "'q' is no input of the model, which takes x"),
        ("m.onnx m.engine --inputs wrong.npz", "'x' should be float32"),
        ("m.engine m.onnx", "m.onnx is a model and m.engine is an engine; give the model first"),
        ("d.capture d.onnx", "d.onnx is a model and d.capture is a capture; give the model first"),
        ("m.engine m.engine", "m.engine: is an engine; name the model it was built from with --model"),
        ("m.onnx text", "text: is text, and no model, engine or capture"),
        ("m.onnx empty", "empty: is empty, and no model, engine or capture"),
        ("folder m.onnx", "folder: cannot be read: is a directory"),
        ("none m.onnx", "none: there is no such file"),
        ("m.onnx d.capture", "d.capture: was captured from an engine of another ONNX file"),
        ("half.onnx d.capture", "half.onnx: is cut short: it has 20000 of "),
        ("d.onnx half.capture", "half.capture: is cut short"),
        ("d.onnx newer.capture", "newer.capture: has the newer format 2"),
        ("d.onnx wrong.npz", "wrong.npz: is an archive, but not a capture"),
        ("d.onnx d.capture --inputs wrong.npz", "--inputs: a capture has run already"),
        ("d.onnx d.capture --model m.onnx", "--model: is for two engines or captures"),
        ("m.onnx other.onnx --determinism 2 --same-rows", "--determinism, --same-rows: needs an engine"),
        ("m.onnx other.onnx --shapes nonsense", "'nonsense' is not understood; write NAME=1x3x64x64"),
        ("m.onnx other.onnx --shapes q=1x1/1x1/1x1", "--shapes q: the model has no such input; it has x"),
        ("m.onnx other.onnx --shapes x=1x8x9x9", "has shape [1, 8, 9, 9] but the model wants"),
        ("m.onnx other.onnx --shapes x=1x8x16x16 --shapes x=2x8x16x16", "names input 'x' twice"),
        ("m.onnx other.onnx --shapes x=99999999999x8x16x16", "none could be made of at most"),
        ("m.onnx other.onnx --inputs unknown.npz", "'q' is no input of the model"),
        ("m.onnx other.onnx --inputs script.py", "its load_data() failed: invalid syntax"),
        ("m.onnx other.onnx --metric none.py:f", "metric file none.py: there is no such file"),
        ("m.onnx m.engine --report m.layers.json", "--report m.layers.json: would replace the layer map"),
        ("m.onnx d.onnx", "compare two models of one signature"),
    ],
)
def test_diff(files: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, says: str) -> None:
    assert says in refused(files, monkeypatch, f"diff {arguments} --no-drift")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("-o m.onnx", "m.onnx: would replace the model"),
        ("-o new --timing-cache m.onnx", "m.onnx: would replace the model"),
        ("-o new --timing-cache new", "--timing-cache new: is where the engine goes"),
        ("-o new --timing-cache folder", "folder: is a directory"),
    ],
)
def test_build(files: Path, monkeypatch: pytest.MonkeyPatch, options: str, says: str) -> None:
    command = f"build m.onnx --compute-capability 8.9 --shapes {live.OPTIONS['shapes'][0]} {options}"
    assert says in refused(files, monkeypatch, command)


@pytest.mark.parametrize(
    "command", ["capture m.onnx m.engine -o new", "diff m.onnx m.engine", "build m.onnx -o new"]
)
def test_no_tensorrt(files: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(trt, "_loaded", None)
    monkeypatch.setattr(trt, "_installed", lambda name: False)
    assert "TensorRT is not installed; install TensorRT from NVIDIA, or" in refused(
        files, monkeypatch, command
    )


def test_captures_need_no_tensorrt(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "_loaded", None)
    monkeypatch.setattr(trt, "_installed", lambda name: False)
    monkeypatch.chdir(files)
    assert CliRunner().invoke(main, ["diff", "d.capture", "d.capture"]).exit_code == 0
