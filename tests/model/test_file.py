"""Reading models: what is no model file gets one line; the text format keeps all or is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphkit.errors import BadInput, BadOutput
from graphkit.model import file, text
from graphkit.model.file import ModelFile, save

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
TEXT = HEAD + "agraph (float[N] x) => (float[N] y) {\n   # a comment )))\n   y = Relu(x)\n}\n"


def model(**kwargs: object) -> onnx.ModelProto:
    values = [
        numpy_helper.from_array(np.array([1 / 3, np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32), "c"),
        numpy_helper.from_array(np.array([[1 / 3, 1e300, 5e-324]]), "d"),
        numpy_helper.from_array(np.arange(-3, 3), "i"),
    ]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["y"], name="/add 1")],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 6])],
        [helper.make_tensor_value_info("y", 1, ["N", 6])],
        values,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, **kwargs)


def one_line(error: BaseException) -> bool:
    return str(error).isprintable() and ";" in str(error) and len(str(error)) < 500


def test_reads_a_file_without_parsing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").write_bytes(b"any bytes")
    monkeypatch.chdir(tmp_path)
    loaded = ModelFile.load("m.onnx")
    assert (loaded.path, loaded.folder, loaded.text) == (tmp_path / "m.onnx", tmp_path, None)
    assert bytes(loaded.data) == b"any bytes" and loaded.data.readonly


def test_large_file_is_mapped(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "m.onnx"
    with open(path, "wb") as out:
        out.truncate(1 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = ModelFile.load(path)
    assert len(loaded.data) == 1 << 30 and loaded.data[5] == 0 and loaded.data.readonly
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    with open(path, "wb") as out:
        out.truncate(1 << 31)
    with pytest.raises(BadInput, match="2 GiB") as error:
        ModelFile.load(path)
    assert one_line(error.value)


def test_folder_of_a_symlink_is_where_the_link_is(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "hash").write_bytes(b"m")
    (tmp_path / "m.onnx").symlink_to("blobs/hash")
    loaded = ModelFile.load(tmp_path / "m.onnx")
    assert (loaded.path, loaded.folder) == (tmp_path / "m.onnx", tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.onnx", "no such file"),
        ("missing/m.onnx", "no such file"),
        ("empty.onnx", "is empty"),
        ("empty.onnxtxt", "is empty"),
        ("dir.onnx", "is a directory"),
        ("fifo.onnx", "not a regular file"),
        ("null.onnx", "not a regular file"),
        ("loop.onnx", "cannot be read"),
        ("empty.onnx/x", "cannot be read"),
        ("a\0b", "cannot be read"),
        ("x" * 300, "cannot be read"),
        ("new\nline\x1b[31m.onnx", "no such file"),
    ],
)
def test_what_is_no_model_file_is_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "empty.onnxtxt").touch()
    (tmp_path / "dir.onnx").mkdir()
    os.mkfifo(tmp_path / "fifo.onnx")
    (tmp_path / "null.onnx").symlink_to("/dev/null")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    with pytest.raises(BadInput, match=says) as error:
        ModelFile.load(tmp_path / name)
    assert one_line(error.value)


@pytest.mark.parametrize("call", ["open", "read", "fstat", "stat"])
def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")

    def fail(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(BadInput, match="Permission denied") as error:
        ModelFile.load(path)
    monkeypatch.undo()
    assert one_line(error.value)


def test_descriptor_of_a_file_that_turned_special_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"x")
    before = len(os.listdir("/proc/self/fd"))
    special = os.stat("/dev/null")
    monkeypatch.setattr(os, "fstat", lambda fd: special)
    with pytest.raises(BadInput, match="not a regular file"):
        ModelFile.load(path)
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before


def test_models_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = ModelFile.from_proto(model(), Path("somewhere"))
    assert (loaded.path, loaded.folder) == (None, Path("somewhere"))
    assert onnx.ModelProto.FromString(loaded.data) == model() and loaded.data.readonly
    assert bytes(ModelFile.from_bytes(bytearray(b"x")).data) == b"x"  # type: ignore[arg-type]

    class TooLarge:
        def SerializeToString(self) -> bytes:
            raise ValueError("Message onnx.ModelProto exceeds\nmaximum size")

    with pytest.raises(BadInput, match="model in memory") as error:
        ModelFile.from_proto(TooLarge())  # type: ignore[arg-type]
    assert one_line(error.value)


@pytest.mark.parametrize("suffix", [".onnxtxt", ".ONNXTXT", ".onnxtext"])
def test_text_is_read_and_written_back_exactly(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    for original in (TEXT.encode(), b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode()):
        path.write_bytes(original)
        loaded = ModelFile.load(path)
        assert loaded.text == original
        assert onnx.ModelProto.FromString(loaded.data).graph.node[0].op_type == "Relu"
        save([loaded.data], tmp_path / f"n{suffix}", loaded, (), unchanged=True)
        assert (tmp_path / f"n{suffix}").read_bytes() == original
    save([loaded.data], tmp_path / "n.onnx", loaded, (), unchanged=True)
    assert onnx.load(tmp_path / "n.onnx").graph.node[0].op_type == "Relu"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b" \n", "line 2, column 1: Identifier expected"),
        (b"\0" * 10, "line 1, column 1"),
        (b"hello", "line 1, column 6: Expected character = not found"),
        (TEXT[:-3].encode(), "line 4"),
        (TEXT.encode() + b"trailing", "line 6"),
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"\x08\x08\x12\x00:\x80", "not UTF-8"),
        (b"(" * 100_000, "nested deeper"),
        ((HEAD + "g (" + "seq(" * 300_000).encode(), "nested deeper"),
        (
            (HEAD + "g (bool x) => (bool y) { " + "y = If(x) <a = g () => (bool y) { " * 9999).encode(),
            "deeper",
        ),
        (
            (
                HEAD + "g (bool x) => (bool y) {" + "y=If(x)<a=g()=>(bool y) {" * 100 + "}>" * 100 + "}"
            ).encode(),
            "not ONNX",
        ),
        (b'<ir_version: 99999999999999999999999999, opset_import: ["" : 18]>', "not ONNX text .stoll"),
        (TEXT.replace("[N]", "[99999999999999999999]").encode(), "not ONNX text .stoll"),
        (TEXT.replace("Relu", "Elu<alpha=1e999>").encode(), "not ONNX text .Failed to parse float"),
        (b'"' * 999_999, "line 1"),
        (b'"' + b'\\"' * 500_000, "line 1"),
        (b"#" * 1_000_000, "line 1"),
        (b"<ir_version: " + b"\x1b\x07" * 1000, "line 1"),
    ],
)
def test_text_that_is_no_model_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "m.onnxtxt").write_bytes(content)
    with pytest.raises(BadInput, match=says) as error:
        ModelFile.load(tmp_path / "m.onnxtxt")
    assert one_line(error.value)


@settings(max_examples=200)
@given(st.data())
def test_mangled_text_is_read_or_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(TEXT)))
    stop = data.draw(st.integers(start, min(len(TEXT), start + 9)))
    mangled = TEXT[:start] + data.draw(st.text('<>(){}[]"\\#:=,0-eé\0 \n', max_size=9)) + TEXT[stop:]
    try:
        onnx.ModelProto.FromString(text.parse(mangled.encode(), "m"))
    except BadInput as error:
        assert one_line(error)


def test_nesting_is_counted_outside_of_strings_and_comments() -> None:
    many = "(" * 1000
    inside = TEXT.replace("Relu", f'Foo<a="{many}\\"{many}">').replace("# a comment", f'# "{many}')
    assert onnx.ModelProto.FromString(text.parse(inside.encode(), "m")).graph.node[0].op_type == "Foo"


def test_model_is_written_as_text_that_reads_back(tmp_path: Path) -> None:
    tensor = TensorProto(name="w", data_type=1, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    original = model()
    original.graph.initializer.append(tensor)
    expected = original.SerializeToString()
    original.graph.node[0].metadata_props.add(key=text.ORIGIN_KEY, value='{"pass": "silu"}')
    original.graph.initializer[0].metadata_props.add(key=text.ORIGIN_KEY, value="{}")
    (tmp_path / "w.bin").write_bytes(b"x" * 12)
    source = ModelFile.from_proto(original, tmp_path)
    save([source.data], tmp_path / "m.onnxtxt", source, {"w.bin"})
    assert "/add 1" in (tmp_path / "m.onnxtxt").read_text()
    again = ModelFile.load(tmp_path / "m.onnxtxt").data
    save([again], tmp_path / "n.onnxtxt", source, {"w.bin"})
    assert (tmp_path / "n.onnxtxt").read_bytes() == (tmp_path / "m.onnxtxt").read_bytes()
    theirs = {
        t.name: numpy_helper.to_array(t) for t in onnx.ModelProto.FromString(again).graph.initializer[:3]
    }
    for ours in onnx.ModelProto.FromString(expected).graph.initializer[:3]:
        assert numpy_helper.to_array(ours).tobytes() == theirs[ours.name].tobytes()


def with_change(change: str) -> onnx.ModelProto:
    changed = model()
    graph = changed.graph
    if change == "doc_string":
        graph.node[0].doc_string = "why"
    elif change == "metadata_props":
        graph.node[0].metadata_props.add(key="k", value="v")
    elif change == "training_info":
        changed.training_info.add()
    elif change == "denotation":
        graph.input[0].type.denotation = "IMAGE"
    elif change == "quantization_annotation":
        graph.quantization_annotation.add(tensor_name="x")
    elif change == "shape":
        graph.value_info.add(name="v").type.tensor_type.SetInParent()
    elif change == "values":
        graph.initializer[0].raw_data = graph.initializer[0].raw_data[:4] + b"\1\0\xc0\x7f" + bytes(16)
    elif change == "segment":
        graph.initializer[0].segment.begin = 0
    elif change == "not UTF-8":
        attribute = graph.node[0].attribute.add(name="blob", type=onnx.AttributeProto.STRING)
        attribute.s = b"\xff\xfe"
    elif change == "raw_data":
        graph.initializer[0].raw_data = b"123"
    return changed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("doc_string", "doc_string"),
        ("metadata_props", "metadata_props"),
        ("training_info", "training_info"),
        ("denotation", "denotation"),
        ("quantization_annotation", "quantization_annotation"),
        ("shape", "cannot hold"),
        ("values", "values of tensor 'c'"),
        ("segment", "segment"),
        ("not UTF-8", "this model"),
        ("raw_data", "cannot hold"),
    ],
)
def test_text_that_would_lose_something_is_refused(tmp_path: Path, change: str, says: str) -> None:
    source = ModelFile.from_proto(with_change(change))
    out = tmp_path / "m.onnxtxt"
    out.write_bytes(b"there before")
    with pytest.raises(BadOutput, match=says) as error:
        save([source.data], out, source, ())
    assert one_line(error.value) and "write .onnx" in str(error.value)
    assert os.listdir(tmp_path) == ["m.onnxtxt"] and out.read_bytes() == b"there before"


@pytest.mark.parametrize("data", [b"not a protobuf", b"\xff" * 20])
def test_bytes_that_are_no_model_are_not_written_as_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadOutput, match="text format cannot hold") as error:
        save([data], tmp_path / "m.onnxtxt", ModelFile.from_bytes(data), ())
    assert one_line(error.value) and not os.listdir(tmp_path)


def test_running_out_of_memory_is_not_a_bad_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onnx.parser.parse_model", exhausted)
    with pytest.raises(MemoryError):
        text.parse(TEXT.encode(), "m")
    with pytest.raises(MemoryError):
        text.render(model().SerializeToString(), "m")


def test_importing_it_does_not_import_onnx() -> None:
    script = "import sys, graphkit.model.file; assert not {'onnx', 'numpy'} & set(sys.modules)"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], env=env, check=True)


def test_names_that_others_import() -> None:
    assert all(hasattr(file, name) for name in file.__all__)
