"""Inputs from a user: every form that Polygraphy and numpy have, and one line for what does not fit."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

from graphkit.errors import BadInput
from graphkit.run.inputs import load_inputs

MODEL = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["" : 17]>
    g (float[n,3] x, int64[n] ids, float16[2] h = {1, 2}) => (float[n,3] y) { y = Relu (x) }"""
)
ONE = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["" : 17]> g (float[n,3] x) => (float[n,3] y) { y = Relu (x) }"""
)
BF16 = onnx.parser.parse_model(
    """<ir_version: 8, opset_import: ["" : 17]> g (bfloat16[2] x) => (bfloat16[2] y) { y = Relu (x) }"""
)
X, IDS = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([4, 5])


def check(found: list[dict[str, Any]], count: int = 1) -> None:
    assert len(found) == count
    for number, feed in enumerate(found):
        assert list(feed) == ["x", "ids"]  # h has a default
        np.testing.assert_array_equal(feed["x"], X + number)
        np.testing.assert_array_equal(feed["ids"], IDS)
        assert feed["x"].dtype == np.float32 and feed["ids"].dtype == np.int64


def test_numpy_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", ids=IDS, x=X + 1)
    np.savez_compressed(tmp_path / "a.npz", ids=IDS, x=X)
    (tmp_path / "notes.txt").write_text("no inputs")
    check(load_inputs(tmp_path / "a.npz", MODEL))
    check(load_inputs(str(tmp_path), MODEL), 2)
    np.save(tmp_path / "x.npy", X)
    ((feed),) = load_inputs(tmp_path / "x.npy", ONE)
    np.testing.assert_array_equal(feed["x"], X)


def test_polygraphys_forms(tmp_path: Path) -> None:
    from polygraphy.json import save_json

    save_json([{"x": X, "ids": IDS}, {"x": X + 1, "ids": IDS}], str(tmp_path / "in.json"))
    check(load_inputs(tmp_path / "in.json", MODEL), 2)
    (tmp_path / "neighbour.py").write_text("START = 0\n")
    (tmp_path / "loader.py").write_text(
        "import numpy as np\nfrom neighbour import START\n"
        "def load_data():\n"
        "    for n in range(START, 2):\n"
        "        x = np.arange(6, dtype=np.float32).reshape(2, 3) + n\n"
        "        yield {'x': x, 'ids': np.array([4, 5])}\n"
        "def several():\n    return list(load_data())\n"
    )
    check(load_inputs(tmp_path / "loader.py", MODEL), 2)
    check(load_inputs(f"{tmp_path}/loader.py:several", MODEL), 2)


def test_bfloat16_from_numpys_file(tmp_path: Path) -> None:
    """numpy saves bfloat16 as two raw bytes."""
    np.savez(tmp_path / "a.npz", x=np.array([1, 2], ml_dtypes.bfloat16))
    ((feed),) = load_inputs(tmp_path / "a.npz", BF16)
    assert feed["x"].dtype == ml_dtypes.bfloat16 and feed["x"].astype(float).tolist() == [1, 2]


def test_seeded() -> None:
    first, second = load_inputs(None, MODEL, count=2, seed=7, shapes={"x": (5, 3)})
    assert first["x"].shape == (5, 3) and first["ids"].shape == (5,)
    assert not np.array_equal(first["x"], second["x"])
    (again,) = load_inputs(None, MODEL, seed=7, shapes={"x": (5, 3)})
    assert again["x"].tobytes() == first["x"].tobytes()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": X}, "lacks the input 'ids'; it gives x"),
        ({"x": X, "ids": IDS, "z": X}, "'z' is no input of the model, which takes x, ids"),
        ({"x": X.astype(float), "ids": IDS}, "input 'x' should be float32 [n,3], and is float64 [2,3]"),
        ({"x": X.T, "ids": IDS}, "input 'x' should be float32 [n,3], and is float32 [3,2]"),
        ({"x": X[0], "ids": IDS}, "input 'x' should be float32 [n,3], and is float32 [3]"),
        ({"x": X, "ids": IDS.astype(np.int32)}, "input 'ids' should be int64 [n], and is int32 [2]"),
        ({"x": X, "ids": np.arange(3)}, "the dim 'n' is 2 in 'x', and 3 in 'ids'; give both the same"),
        ({}, "lacks the input 'x'; it gives none"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    one_line(tmp_path / "a.npz", says)


def one_line(spec: Path | str, says: str, model: onnx.ModelProto = MODEL) -> None:
    with pytest.raises(BadInput) as caught:
        load_inputs(spec, model)
    said = str(caught.value)
    assert says in said and str(spec).partition(":")[0] in said and said.isprintable(), said


def pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npz", b"no zip", "is no .npz of numpy"),
        ("a.npz", b"", "is no .npz of numpy"),
        ("x.npy", pickled(), "is one array, and the model takes 2 (x, ids); give a .npz"),
        ("a.json", b"{", "is no .json of Polygraphy"),
        ("a.json", b"3", "gives int, not arrays by input name"),
        ("a.json", b"[3]", "set 0 is int, not arrays by input name"),
        ("a.json", b"[]", "holds no inputs; give a .npz"),
        ("a.bin", b"x", "is no form of inputs; give a .npz"),
        ("a.py", b"def other(): pass", "its load_data() failed"),
        ("a.py", b"def load_data(): raise KeyError('boom')", "its load_data() failed: 'boom'"),
        ("a.py", b"raise SystemExit(3)", "its load_data() failed"),
        ("a.py", b"def load_data(): return {'x': 'text', 'ids': [1]}", "input 'x' should be float32"),
    ],
)
def test_files_that_are_no_inputs(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    one_line(tmp_path / name, says)


def test_more_that_are_none(tmp_path: Path) -> None:
    one_line(tmp_path, "holds no inputs")
    one_line(tmp_path / "none.npz", "cannot be read: No such file")
    one_line(tmp_path / "none", "there is no such file")
    one_line(f"{tmp_path}/none.py:load", "there is no such file")
    (tmp_path / "x.npy").write_bytes(pickled())
    one_line(tmp_path / "x.npy", "is no .npy of numpy", ONE)
    stream = io.BytesIO()
    np.savez(stream, x=np.array([{}], object))
    (tmp_path / "a.npz").write_bytes(stream.getvalue())
    one_line(tmp_path / "a.npz", "its array 'x' cannot be read")
