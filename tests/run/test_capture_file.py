"""Capture files: what goes in comes out, numpy alone opens them, and damaged ones are refused in one line."""

from __future__ import annotations

import io
import json
import os
import random
import time
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from graphkit.engine.layers import EngineTensor, Kernel, LayerMap
from graphkit.errors import BadCapture, BadOutput
from graphkit.run import storage
from graphkit.run.capture_file import (
    Capture,
    CaptureWriter,
    capture_to_run_results,
    is_capture,
    save_run_results,
)

META = {"trt": {"module": "tensorrt_rtx", "version": "1.4.0.76"}, "marked": True, "specialization": "none"}
LAYERS = LayerMap((Kernel("k", "t", ("conv0",), (), (EngineTensor("h", (2, 3), "float32"),)),), "log")


def numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    """Any bits, in any dtype and shape, in C or Fortran order, whole or strided."""
    dtype = numpy_dtype(draw(st.sampled_from(sorted(storage.DTYPES))))
    dims = tuple(draw(st.lists(st.integers(0, 5), max_size=4)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    bits = rng.integers(0, 256, (*dims, dtype.itemsize), np.uint8)
    if dtype == np.bool_:
        bits &= 1
    elif dtype.itemsize == 1 and dtype.name in ("int4", "uint4", "float4_e2m1fn"):
        bits &= 15
    array = bits.reshape(-1).view(dtype).reshape(dims)
    match draw(st.integers(0, 2)):
        case 1:
            return np.asfortranarray(array)
        case 2 if dims:
            return np.repeat(array, 2, axis=0)[::2]
    return array


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


@settings(max_examples=150)
@given(
    st.lists(arrays(), max_size=6),
    st.sampled_from([0, 200, 1 << 20]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[NDArray[Any]],
    memory: int,
    compress: bool,
    share: bool,
    file: bool,
) -> None:
    path = tmp_path_factory.mktemp("c") / "a.capture" if file else None
    with CaptureWriter(path, META, LAYERS, memory=memory, compress=compress, share=share) as writer:
        for label in ("one", "two"):
            writer.begin_run(label)
            for number, value in enumerate(values):
                writer.add_input(f"in/{number}", value)
                writer.add_output(f"../out {number}\n", value)
                writer.add_tensor("same name", value)
    found = writer.capture
    assert found.layers == LAYERS and found.marked and found.path == path
    assert [r.label for r in found.runs] == ["one", "two"]
    for run in found.runs:
        for mapping in (run.inputs, run.outputs):
            for value, lazy in zip(values, mapping.values(), strict=True):
                assert (
                    same(lazy.read(), value) and lazy.dims == value.shape and lazy.dtype == value.dtype.name
                )
        for n, (value, tensor) in enumerate(zip(values, run.tensors, strict=True)):
            assert same(tensor.read(), value) and (tensor.call, tensor.order) == (n, n)
            assert same(np.asarray(tensor), value)
    if share:
        assert [a.key for a in found.runs[0].arrays()] == [b.key for b in found.runs[1].arrays()]
    if path is not None:
        assert is_capture(path) and [p.name for p in path.parent.iterdir()] == ["a.capture"]


def write(path: Path, *, compress: bool = False) -> Path:
    with CaptureWriter(path, META, LAYERS, compress=compress) as writer:
        writer.begin_run("run")
        writer.add_input("x", np.arange(6, dtype=np.float32).reshape(2, 3))
        writer.add_output("y", np.arange(3).astype(ml_dtypes.bfloat16))
        writer.add_tensor("h", np.arange(5).astype(ml_dtypes.int4))
        writer.add_tensor("h", np.zeros(2000, np.float16))
    return path


@pytest.mark.parametrize("compress", [False, True])
def test_numpy_alone_opens_it(tmp_path: Path, compress: bool) -> None:
    with np.load(write(tmp_path / "c", compress=compress), allow_pickle=False) as archive:
        meta = json.loads(bytes(archive["meta"]))
        assert meta["schema"] == "graphkit.capture/1" and json.loads(bytes(archive["layers"]))["kernels"]
        (run,) = meta["runs"]
        np.testing.assert_array_equal(archive[run["inputs"][0]["key"]], np.arange(6).reshape(2, 3))
        assert archive[run["outputs"][0]["key"]].dtype == np.uint16
        assert [t["call"] for t in run["tensors"]] == [0, 1] and run["tensors"][0]["dtype"] == "int4"
        np.testing.assert_array_equal(archive[run["tensors"][0]["key"]], [0x10, 0x32, 0x04])


def test_what_numpy_saves_again_is_read(tmp_path: Path) -> None:
    with np.load(write(tmp_path / "c")) as archive:
        np.savez_compressed(tmp_path / "again.npz", **{k: archive[k] for k in archive.files})
    one, two = Capture.load(tmp_path / "c"), Capture.load(tmp_path / "again.npz")
    for a, b in zip(one.runs[0].arrays(), two.runs[0].arrays(), strict=True):
        assert same(a.read(), b.read())


def test_raw_values_from_a_device(tmp_path: Path) -> None:
    with CaptureWriter(None, META) as writer:
        writer.begin_run("run")
        writer.add_tensor("q", np.array([0x21, 0xF3], np.uint8), "int4", (3,))
        writer.add_output("f", np.array([[0x38]], np.uint8), "float8_e4m3fn", (1, 1))
        with pytest.raises(ValueError):
            writer.add_tensor("q", np.zeros(3, np.uint8), "int4", (3,))
        with pytest.raises(BadOutput, match="dtype 'complex64'"):
            writer.add_tensor("q", np.zeros(3, np.complex64))
    (run,) = writer.capture.runs
    assert run.tensors[0].read().astype(int).tolist() == [1, 2, 3] and run.tensors[0].nbytes == 2
    assert run.outputs["f"].read().astype(float).tolist() == [[1.0]]


def test_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_text("mine")
    with pytest.raises(KeyError), CaptureWriter(path, META, memory=1) as writer:
        writer.begin_run("run")
        writer.add_tensor("t", np.zeros(100))
        raise KeyError("x")
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(BadOutput, match="there is no folder"), CaptureWriter(tmp_path / "no/c", META):
        pass


def refused(data: bytes, folder: Path) -> str:
    """Load a capture, and all that is in it; what that says when it refuses, in one line."""
    path = folder / "bad.capture"
    path.write_bytes(data)
    try:
        for array in Capture.load(path).runs[0].arrays():
            array.read()
    except BadCapture as error:
        said = str(error)
        assert said.startswith(str(path)) and said.isprintable() and len(said) < 600, said
        return said
    return ""


@pytest.mark.parametrize("compress", [False, True])
def test_every_cut_is_noticed(tmp_path: Path, compress: bool) -> None:
    data = write(tmp_path / "c", compress=compress).read_bytes()
    for end in [*range(0, len(data), max(1, len(data) // 400)), len(data) - 1]:
        assert refused(data[:end], tmp_path), end
    assert "is empty" in refused(b"", tmp_path)


@pytest.mark.parametrize("compress", [False, True])
def test_flipped_bits_change_no_value(tmp_path: Path, compress: bool) -> None:
    """A flip is refused, or it lies where nothing is read (padding, times, attributes)."""
    data = write(tmp_path / "c", compress=compress).read_bytes()
    whole = [a.read().tobytes() for a in Capture.load(tmp_path / "c").runs[0].arrays()]
    rng, said = random.Random(1), 0
    for _ in range(600):
        broken = bytearray(data)
        broken[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        if refused(bytes(broken), tmp_path):
            said += 1
        else:
            got = Capture.load(tmp_path / "bad.capture")
            assert [a.read().tobytes() for a in got.runs[0].arrays()] == whole
    assert said > 300


def archive(entries: dict[str, Any], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of arrays; bytes go in as they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as out:
        for name, value in entries.items():
            if not isinstance(value, bytes):
                buffer = io.BytesIO()
                np.save(buffer, value, allow_pickle=True)
                value = buffer.getvalue()
            out.writestr(name if "." in name else f"{name}.npy", value)
    return stream.getvalue()


def meta(tensor: object = None, **change: Any) -> NDArray[np.uint8]:
    """A meta entry with one output, changed."""
    runs = [{"label": "", "inputs": [], "outputs": [] if tensor is None else [tensor], "tensors": []}]
    return text({"schema": "graphkit.capture/1", "runs": runs} | change)


def text(document: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


GOOD = {"name": "y", "dtype": "float32", "dims": [2, 3], "key": "k"}


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"a": np.zeros(3)}, "is an archive, but not a capture of graphkit: it has no entry 'meta'"),
        ({"meta": np.zeros(3)}, "should hold uint8"),
        ({"meta": np.zeros(3, np.uint8)}, "has no JSON in its entry 'meta'"),
        ({"meta": np.frombuffer(b"[" * 100_000, np.uint8)}, "has no JSON"),
        ({"meta": text([1])}, "its meta has another schema"),
        ({"meta": meta(schema="graphkit.layers/1")}, "another schema"),
        (
            {"meta": meta(schema="graphkit.capture/2")},
            "newer format 2, and this graphkit reads up to 1; update",
        ),
        ({"meta": meta(schema="graphkit.capture/x")}, "schema version 'x', which is no number"),
        ({"meta": meta(runs={})}, "has no list of runs"),
        ({"meta": meta(runs=[3])}, "has int for a run, where dict was expected"),
        (
            {"meta": meta(runs=[{"label": 1, "inputs": [], "outputs": [], "tensors": []}])},
            "int for the label",
        ),
        (
            {"meta": meta(runs=[{"label": "", "inputs": {}, "outputs": [], "tensors": []}])},
            "dict for 'inputs'",
        ),
        ({"meta": meta(3)}, "has int for a tensor"),
        ({"meta": meta(GOOD)}, "entry 'k' is missing"),
        ({"meta": meta(GOOD | {"dims": [2, -3]})}, "-3 for a dim of 'y'"),
        ({"meta": meta(GOOD | {"dims": [2, True]})}, "True for a dim of 'y'"),
        ({"meta": meta(GOOD | {"dims": [10**30]})}, "for a dim of 'y'"),
        ({"meta": meta(GOOD | {"dims": [1] * 65})}, "has 65 dims"),
        ({"meta": meta(GOOD | {"dtype": "object"})}, "has the dtype 'object', which is not known here"),
        ({"meta": meta(GOOD | {"name": "a\nb", "dtype": 3})}, r"int for the dtype of 'a\nb'"),
        (
            {"meta": meta(GOOD), "k": np.zeros((2, 3), np.float64)},
            "should hold float32 [2, 3], but its header says",
        ),
        ({"meta": meta(GOOD), "k": np.zeros((3, 2), np.float32)}, "should hold float32 [2, 3]"),
        ({"meta": meta(GOOD), "k": np.asfortranarray(np.zeros((2, 3), np.float32))}, "'fortran_order': True"),
        ({"meta": meta(GOOD), "k": np.array([{"a": 1}], object)}, "'descr': '|O'"),
        ({"meta": meta(GOOD), "k": b"no array"}, "its header says"),
        ({"meta": meta(GOOD), "k": b""}, "its header says"),
        (
            {"meta": meta(GOOD | {"key": "../k"}), "../k.npy": np.zeros((2, 3), np.float32)},
            "no array of a capture",
        ),
        ({"meta": meta(), "/etc/x.npy": np.zeros(1)}, "no array of a capture"),
        ({"meta": meta(), "run.py": b"import os"}, "no array of a capture"),
        ({"meta": meta(), "layers": text({"schema": "other"})}, "layer map that cannot be read"),
        ({"meta": meta(), "layers": text(3)}, "layer map that cannot be read"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_documents_that_are_no_capture(
    tmp_path: Path, entries: dict[str, Any], says: str, method: int
) -> None:
    assert says in refused(archive(entries, method), tmp_path)


def test_sizes_that_lie(tmp_path: Path) -> None:
    big = GOOD | {"dims": [1 << 40]}
    header = archive({"k": np.zeros((2, 3), np.float32)})
    assert "should hold" in refused(archive({"meta": meta(big), "k": np.zeros((2, 3), np.float32)}), tmp_path)
    # A directory that claims 4 TB for an entry of a few bytes.
    data = bytearray(archive({"meta": meta(GOOD), "k": np.zeros((2, 3), np.float32)}, zipfile.ZIP_DEFLATED))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (0xFFFF_FFF0).to_bytes(4, "little")
    assert "more than it can hold" in refused(bytes(data), tmp_path)
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as out, pytest.warns(UserWarning):
        for _ in range(2):
            out.writestr("meta.npy", b"")
    assert "two entries of one name" in refused(twice.getvalue(), tmp_path)
    assert "not a .npz" in refused(b"PK\x03\x04" + header[4:60], tmp_path)
    lzma = archive({"meta": meta()}, zipfile.ZIP_LZMA)
    assert "packed in an unusual way" in refused(lzma, tmp_path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadCapture, match="cannot be read: No such file"):
        Capture.load(tmp_path / "none")
    with pytest.raises(BadCapture, match="directory"):
        Capture.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadCapture, match="not a regular file"):
        Capture.load(tmp_path / "pipe")
    assert not is_capture(tmp_path / "none") and not is_capture(tmp_path / "pipe")
    (tmp_path / "text").write_text("PK, but not that")
    assert not is_capture(tmp_path / "text")


def test_export_to_polygraphy(tmp_path: Path) -> None:
    from polygraphy.comparator import RunResults

    found = Capture.load(write(tmp_path / "c"))
    ((_, (iteration,)),) = capture_to_run_results(found)
    assert set(iteration) == {"y", "h", "h#1"}
    save_run_results(found, tmp_path / "r.json")
    ((_, (again,)),) = RunResults.load(str(tmp_path / "r.json"))
    np.testing.assert_array_equal(again["y"], np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(again["h"], np.arange(5, dtype=np.float32))
    assert again["h#1"].dtype == np.float16


def test_writing_is_fast(tmp_path: Path) -> None:
    """100 tensors of 60 MB in all cost well under a second, here in a loose bound for busy machines."""
    rng = np.random.default_rng(0)
    values = [rng.random(150_000, np.float32) for _ in range(100)]
    start = time.perf_counter()
    with CaptureWriter(tmp_path / "c", META) as writer:
        writer.begin_run("run")
        for number, value in enumerate(values):
            writer.add_tensor(str(number), value)
    for tensor in writer.capture.runs[0].tensors:
        assert tensor.read()[0] == values[tensor.order][0]
    assert time.perf_counter() - start < 1.5
