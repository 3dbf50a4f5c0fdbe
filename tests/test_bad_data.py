"""External data that is missing, too short, or outside of the model's folder is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.features.base import model
from tests.features.external import WEIGHTS, external, with_tensors
from tests.refusal import BRANCH, GOOD, SCRIPT, refused


def _escape(target: str) -> Callable[[Path], onnx.TensorProto]:
    def build(folder: Path) -> onnx.TensorProto:
        (folder / "secret.bin").write_bytes(WEIGHTS)
        (folder / "in" / "link.bin").symlink_to(folder / "secret.bin")
        (folder / "in" / "folder").symlink_to(folder)
        return external("w", target.format(folder=folder), length=16, offset=0)

    return build


def _reference(**keys: Any) -> Callable[[Path], onnx.TensorProto]:
    def build(folder: Path) -> onnx.TensorProto:
        (folder / "in" / "weights.bin").write_bytes(WEIGHTS[:64])
        return external("w", keys.pop("location", "weights.bin"), **keys)

    return build


def _no_location(folder: Path) -> onnx.TensorProto:
    out = external("w", "weights.bin")
    del out.external_data[:]
    return out


def _data_folder(folder: Path) -> onnx.TensorProto:
    (folder / "in" / "weights.bin").mkdir()
    return external("w", "weights.bin", length=16)


def _data_fifo(folder: Path) -> onnx.TensorProto:
    os.mkfifo(folder / "in" / "weights.bin")
    return external("w", "weights.bin", length=16)


BAD_DATA: dict[str, Callable[[Path], onnx.TensorProto]] = {
    "missing": _reference(location="other.bin", length=16),
    "parent": _escape("../secret.bin"),
    "parent_in_the_middle": _escape("sub/../../secret.bin"),
    "absolute": _escape("{folder}/secret.bin"),
    "absolute_inside": _escape("{folder}/in/link.bin"),
    "link": _escape("link.bin"),
    "linked_folder": _escape("folder/secret.bin"),
    "device": _reference(location="/dev/zero", length=16),
    "etc": _reference(location="../../../../../../../../etc/passwd", length=16),
    "directory": _data_folder,
    "fifo": _data_fifo,
    "no_location": _no_location,
    "empty_location": _reference(location="", length=16),
    "dot_location": _reference(location=".", length=16),
    "dots_location": _reference(location="..", length=16),
    "nul_in_location": _reference(location="a\0b", length=16),
    "newline_in_location": _reference(location="a\nb", length=16),
    "long_location": _reference(location="n" * 5000, length=16),
    "too_short": _reference(offset=60, length=16),
    "offset_past_end": _reference(offset=1 << 40, length=16),
    "offset_negative": _reference(offset=-16, length=16),
    "offset_no_number": _reference(offset="zero", length=16),
    "offset_enormous": _reference(offset="9" * 5000, length=16),
    "length_negative": _reference(offset=0, length=-1),
    "length_no_number": _reference(offset=0, length="16 bytes"),
    "length_wrong": _reference(offset=0, length=8),
    "windows_absolute": _reference(location="C:\\weights.bin", length=16),
}
PLACES: dict[str, Callable[[onnx.TensorProto], onnx.ModelProto]] = {
    "initializer": lambda tensor: with_tensors(tensor),
    "unused": lambda tensor: _appended(model(GOOD), tensor),
    "constant": lambda tensor: _constant(tensor),
    "branch": lambda tensor: _in_branch(tensor),
}


def _appended(made: onnx.ModelProto, tensor: onnx.TensorProto) -> onnx.ModelProto:
    made.graph.initializer.append(tensor)
    return made


def _constant(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model(GOOD)
    made.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], value=tensor))
    return made


def _in_branch(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model(BRANCH)
    made.graph.node[0].attribute[0].g.initializer.append(tensor)
    return made


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_cannot_be_used(name: str, tmp_path: Path) -> None:
    """Beside its source and elsewhere, without a pass and with one that reads the values."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "edits.py").write_text(SCRIPT)
    tensor = BAD_DATA[name](tmp_path)
    for place, build in PLACES.items():
        path = tmp_path / "in" / "model.onnx"
        path.write_bytes(build(tensor).SerializeToString())
        outs = [tmp_path / "out" / "model.onnx", tmp_path / "in" / "other.onnx"]
        for out in outs if place == "initializer" else outs[:1]:
            refused(tmp_path, path, "-o", out)
    path.write_bytes(with_tensors(tensor).SerializeToString())
    refused(tmp_path, path, "--pass", f"{tmp_path / 'edits.py'}:read", "-o", outs[0], "--no-verify")
