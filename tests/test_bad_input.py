"""Files that are no model are refused: exit code 2, one line that says so, and nothing written."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from graphkit.cli import main
from tests.refusal import GOOD, good, one_line, refused, refused_apart
from tests.wiretools import END, START, chunk, integer, tag, varint


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model.onnx", good())
    return out.getvalue()


def _graph(payload: bytes) -> bytes:
    """A model whose GraphProto has these bytes."""
    return integer(1, 10) + chunk(7, payload) + chunk(8, integer(2, 21))


def _nested_ifs(levels: int) -> bytes:
    """Ifs in one another, made on the wire: protobuf itself gives up at 100 messages."""
    graph = chunk(1, chunk(4, "Neg") + chunk(1, "x") + chunk(2, "y"))
    for _ in range(levels):
        graph = chunk(1, chunk(4, "If") + chunk(2, "y") + chunk(5, chunk(1, "then_branch") + chunk(6, graph)))
    return _graph(graph)


def _nested_types(levels: int) -> bytes:
    kind = chunk(1, integer(1, 1))
    for _ in range(levels):
        kind = chunk(4, chunk(1, kind))
    return _graph(chunk(11, chunk(1, "x") + chunk(2, kind)))


NOT_MODELS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one_byte": lambda: b"\x08",
    "text": lambda: b"this is no model, and no protobuf either\n" * 20,
    "html": lambda: b"<!DOCTYPE html>\n<html><title>404 Not Found</title></html>\n",
    "git_lfs_pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7944593\n",
    "json": lambda: b'{"graph": {"node": []}}',
    "png": lambda: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0",
    "zip": _zip,
    "gzip": lambda: gzip.compress(good(), mtime=0),
    "pickle": lambda: pickle.dumps({"weights": [1.0, 2.0]}),
    "zeros": lambda: bytes(4096),
    "ones": lambda: b"\xff" * 4096,
    "tensor": lambda: onnx.TensorProto(dims=[2], data_type=1, name="w").SerializeToString(),
    "no_graph": lambda: onnx.ModelProto(ir_version=10, producer_name="p").SerializeToString(),
    "truncated": lambda: good()[: len(good()) // 2],
    "appended": lambda: good() + b"\0\0\0\0",
    "twice_and_garbage": lambda: good() + good()[:-3],
    "huge_length": lambda: integer(1, 10) + tag(7, 2) + varint((1 << 63) - 1) + b"abc",
    "length_past_2_gib": lambda: integer(1, 10) + tag(7, 2) + varint(1 << 31) + b"abc",
    "field_zero": lambda: good() + b"\2\0",
    "wire_type_7": lambda: good() + b"\x0f",
    "varint_of_11_bytes": lambda: good() + tag(5, 0) + b"\xff" * 10 + b"\1",
    "group_not_closed": lambda: good() + tag(99, START),
    "group_not_opened": lambda: good() + tag(99, END),
    "groups_in_groups": lambda: good() + tag(99, START) * 20000 + tag(99, END) * 20000,
    "nested_ifs_60": lambda: _nested_ifs(60),
    "nested_ifs_2000": lambda: _nested_ifs(2000),
    "nested_types_200": lambda: _nested_types(200),
    "nested_types_3000": lambda: _nested_types(3000),
    "graph_is_garbage": lambda: _graph(b"\xff\xff\xff"),
    "node_is_garbage": lambda: _graph(chunk(1, b"\x0a\x7f")),
    "attribute_is_garbage": lambda: _graph(chunk(1, chunk(5, b"\x32\x7f"))),
    "tensor_is_garbage": lambda: _graph(chunk(5, b"\x0a\x7f")),
    "function_is_garbage": lambda: good() + chunk(25, b"\x0a\x7f"),
    "opset_is_garbage": lambda: good() + chunk(8, b"\x0a\x7f"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_MODELS)
def test_not_a_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(NOT_MODELS[name]())
    said = refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert "in.onnx" in said


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_download_that_broke_off(kept: float, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(good()[: int(len(good()) * kept)])
    said = refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert "in.onnx: is cut short: it has " in said and "download or export it again" in said


@pytest.mark.parametrize(
    "name", ["text", "html", "json", "png", "zip", "huge_length", "wire_type_7", "no_graph"]
)
def test_what_is_no_model_is_not_called_cut_short(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(NOT_MODELS[name]())
    said = refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert "cut short" not in said and "check that the file is the one you mean" in said


def test_a_git_lfs_pointer_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(NOT_MODELS["git_lfs_pointer"]())
    said = refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")
    assert "is a Git LFS pointer, not the model itself; run `git lfs pull`" in said


def test_a_path_is_printed_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.onnx").write_bytes(NOT_MODELS["json"]())
    monkeypatch.chdir(tmp_path)
    assert refused(tmp_path, "in.onnx", "-o", "out.onnx").startswith("graphkit: error: in.onnx: not an")


@pytest.mark.parametrize(
    "name", ["empty", "text", "truncated", "zip", "nested_ifs_2000", "nested_types_3000"]
)
def test_not_a_model_apart(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(NOT_MODELS[name]())
    refused_apart(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx")


TEXTS = {
    "prose": "hello, this is no model\n",
    "half": GOOD[: len(GOOD) // 2],
    "no_graph": '<ir_version: 10, opset_import: ["" : 21]>\n',
    "binary": "\0\1\2\3",
    "empty": "",
    "blank": "\n\n",
    "brackets": "g (" * 5000,
    "many_lines": "<ir_version: 10>\n" + "junk {\n" * 400,
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnxtxt").write_text(TEXTS[name])
    refused(tmp_path, tmp_path / "in.onnxtxt", "-o", tmp_path / "out.onnx")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "in.onnxtxt").write_bytes(b"\xff\xfe\xff" + GOOD.encode("utf-16"))
    refused(tmp_path, tmp_path / "in.onnxtxt", "-o", tmp_path / "out.onnx")


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "in.onnx")
    return folder / "in.onnx"


def _link(folder: Path, target: str) -> Path:
    (folder / "in.onnx").symlink_to(target)
    return folder / "in.onnx"


def _folder(folder: Path) -> Path:
    (folder / "in.onnx").mkdir()
    return folder / "in.onnx"


NOT_FILES: dict[str, Callable[[Path], Path | str]] = {
    "missing": lambda folder: folder / "in.onnx",
    "missing_folder": lambda folder: folder / "no" / "in.onnx",
    "directory": _folder,
    "dangling_link": lambda folder: _link(folder, "nowhere.onnx"),
    "link_to_itself": lambda folder: _link(folder, "in.onnx"),
    "empty_name": lambda folder: "",
    "newline_in_name": lambda folder: folder / "a\nb.onnx",
    "escape_in_name": lambda folder: folder / "a\x1b[31mb.onnx",
    "name_too_long": lambda folder: folder / ("n" * 300 + ".onnx"),
    "nul_device": lambda folder: "/dev/null",
}


@pytest.mark.parametrize("name", NOT_FILES)
def test_not_a_file(name: str, tmp_path: Path) -> None:
    refused(tmp_path, NOT_FILES[name](tmp_path), "-o", tmp_path / "out.onnx")


def test_fifo_is_not_waited_for(tmp_path: Path) -> None:
    refused_apart(tmp_path, _fifo(tmp_path), "-o", tmp_path / "out.onnx")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_not_readable(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    path.write_bytes(good())
    path.chmod(0)
    result = CliRunner().invoke(main, ["rewrite", str(path), "-o", str(tmp_path / "out.onnx")])
    assert result.exit_code == 2
    one_line(result.stderr)
