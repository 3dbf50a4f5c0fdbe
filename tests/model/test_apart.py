"""A result never takes the place of what it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from graphkit.errors import BadOutput
from graphkit.model.apart import check_apart


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose weights lie in a file of their own."""
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    x, y = (helper.make_tensor_value_info(n, 1, [1, 64]) for n in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def test_what_is_read_is_not_replaced(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "0.npz").touch()
    (tmp_path / "link").symlink_to(model)
    read = {"the model": model, "the inputs": folder, "the map": tmp_path / "none.json"}
    for target, says in (
        (model, "would replace the model; name another file"),
        (tmp_path / "link", "would replace the model"),
        (tmp_path / "inputs" / ".." / "m.onnx", "would replace the model"),
        (tmp_path / "w.bin", "would replace a part of the model"),
        (folder / "0.npz", "would replace a part of the inputs"),
    ):
        with pytest.raises(BadOutput, match=says):
            check_apart(target, read)


def test_anything_else_may_be_written(model: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("other")
    read = {"the model": model, "nothing": tmp_path / "none", "no model": tmp_path / "bad.onnx"}
    (tmp_path / "bad.onnx").write_text("bad")
    for target in (tmp_path / "other", tmp_path / "new", tmp_path / "none", tmp_path):
        check_apart(target, read)
