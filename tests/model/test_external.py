"""External data: references are read strictly and never lead out of the model's folder."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from graphkit.errors import BadInput
from graphkit.model.external import DataRef, data_ref, inside, read_external, resolve


def external(**entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "w.bin").write_bytes(bytes(range(100)))
    (model / "sub" / "v.bin").write_bytes(b"v")
    return model


def refused(error: pytest.ExceptionInfo[BadInput]) -> str:
    message = str(error.value)
    assert message.isprintable() and len(message) < 700
    assert ";" in message  # the next step
    return message


def test_inline_tensor_has_no_reference() -> None:
    assert data_ref(TensorProto(raw_data=b"1234")) is None
    tensor = external(location="w.bin")
    tensor.data_location = TensorProto.DEFAULT
    assert data_ref(tensor) is None


def test_reference_is_read_and_the_last_entry_counts() -> None:
    assert data_ref(external(location="w.bin")) == DataRef("w.bin", 0, None)
    tensor = external(location="w.bin", offset="4096", length="12", checksum="x", unknown="y")
    assert data_ref(tensor) == DataRef("w.bin", 4096, 12)
    tensor.external_data.add(key="offset", value="7")
    assert data_ref(tensor) == DataRef("w.bin", 7, 12)


@pytest.mark.parametrize("key", ["offset", "length"])
@pytest.mark.parametrize(
    "value", ["-1", "", " 1", "+1", "1e3", "0x10", "1_0", "٣", "9" * 19, "9" * 5000, "nan", "1\n"]
)
def test_number_that_is_none_is_refused(key: str, value: str) -> None:
    with pytest.raises(BadInput, match=f"tensor 'w': {key}") as error:
        data_ref(external(**{"location": "w.bin", key: value}))
    refused(error)


def test_missing_location_is_refused() -> None:
    for tensor in (external(offset="0"), external(location="")):
        with pytest.raises(BadInput, match="no location") as error:
            data_ref(tensor)
        refused(error)


def test_text_that_is_not_utf8_is_read_as_a_file_name(folder: Path) -> None:
    wire = external(location="w.bin").SerializeToString().replace(b"w.bin", b"\xff.bin")
    ref = data_ref(TensorProto.FromString(wire))
    assert ref is not None and os.fsencode(ref.location) == b"\xff.bin"
    with pytest.raises(BadInput, match="missing") as error:
        resolve(folder, ref, "w")
    refused(error)
    (folder / ref.location).write_bytes(b"x")
    assert bytes(read_external(folder, ref, "w")) == b"x"


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "sub/../../secret",
        "../model/w.bin",
        "..",
        ".",
        "sub/..",
        "sub/",
        "/etc/passwd",
        "//etc/passwd",
        "..\\secret",
        "sub\\v.bin",
        "C:\\secret",
        "C:secret",
        "\\\\host\\share",
        "w.bin\0.txt",
        "\0",
        "",
        "sub",
        "w.bin/",
        "w.bin/x",
        "missing.bin",
        "x" * 300,
        "a\nb",
    ],
)
def test_location_that_is_no_data_file_is_refused(folder: Path, location: str) -> None:
    with pytest.raises(BadInput, match="tensor 'layer'") as error:
        resolve(folder, DataRef(location), "layer", 1)
    refused(error)


def test_absolute_path_into_the_folder_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="absolute"):
        resolve(folder, DataRef(str(folder / "w.bin")), "layer")


def test_symlink_may_not_leave_the_folder(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to("loop")
    for location in ("link", "up/secret", "up/model/../secret", "loop"):
        with pytest.raises(BadInput) as error:
            resolve(folder, DataRef(location), "w")
        refused(error)
    (folder / "alias").symlink_to("w.bin")
    assert resolve(folder, DataRef("alias"), "w") == Path(os.path.realpath(folder)) / "w.bin"


def test_folder_may_be_a_symlink_or_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "alias").symlink_to("model")
    real = Path(os.path.realpath(folder)) / "w.bin"
    assert resolve(folder.parent / "alias", DataRef("w.bin"), "w") == real
    monkeypatch.chdir(folder)
    assert resolve(Path(), DataRef("./w.bin"), "w") == real
    assert resolve(Path("sub/.."), DataRef("sub/../w.bin"), "w") == real


def test_special_files_are_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "null").symlink_to("/dev/null")
    for location in ("fifo", "null"):
        for function in (resolve, read_external):
            with pytest.raises(BadInput) as error:
                function(folder, DataRef(location), "w")
            refused(error)
    with pytest.raises(BadInput, match="not a regular file"):
        resolve(Path("/dev"), DataRef("null"), "w")


def test_unreadable_file_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(BadInput, match="cannot be read: Permission denied"):
        resolve(folder, DataRef("w.bin"), "w")


def test_system_errors_on_the_way_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("graphkit.model.external.mapped", fail)
        with pytest.raises(BadInput, match="Cannot allocate memory") as error:
            read_external(folder, DataRef("w.bin"), "w")
        refused(error)
    monkeypatch.setattr(os.path, "realpath", fail)
    with pytest.raises(BadInput, match="Cannot allocate memory") as error:
        resolve(folder, DataRef("w.bin"), "w")
    monkeypatch.undo()
    refused(error)


def test_file_must_be_long_enough(folder: Path) -> None:
    for ref, nbytes in [
        (DataRef("w.bin"), 100),
        (DataRef("w.bin", 100), 0),
        (DataRef("w.bin", 88, 12), 12),
        (DataRef("w.bin", 88, 12), None),
    ]:
        assert resolve(folder, ref, "w", nbytes).name == "w.bin"
    for ref, nbytes in [
        (DataRef("w.bin"), 101),
        (DataRef("w.bin", 101), None),
        (DataRef("w.bin", 89, 12), None),
        (DataRef("w.bin", 1, 1 << 62), None),
        (DataRef("w.bin", (1 << 63) - 1, (1 << 63) - 1), None),
        (DataRef("w.bin", 0, 8), 12),
        (DataRef("w.bin", -1), None),
        (DataRef("w.bin", 0, -1), None),
    ]:
        with pytest.raises(BadInput, match="tensor 'w'") as error:
            resolve(folder, ref, "w", nbytes)
        refused(error)


def test_reads_the_bytes_between_offset_and_length(folder: Path) -> None:
    whole = bytes(range(100))
    assert bytes(read_external(folder, DataRef("w.bin"), "w")) == whole
    assert bytes(read_external(folder, DataRef("w.bin", 10), "w")) == whole[10:]
    assert bytes(read_external(folder, DataRef("w.bin", 10, 5), "w")) == whole[10:15]
    assert bytes(read_external(folder, DataRef("w.bin", 10, 0), "w")) == b""
    assert bytes(read_external(folder, DataRef("w.bin", 100), "w")) == b""
    assert read_external(folder, DataRef("w.bin"), "w").readonly
    (folder / "empty").touch()
    assert bytes(read_external(folder, DataRef("empty"), "w")) == b""


@given(st.integers(0, 120), st.none() | st.integers(0, 120))
def test_any_range_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, offset: int, length: int | None
) -> None:
    folder = tmp_path_factory.getbasetemp()
    data = bytes(range(100))
    (folder / "range.bin").write_bytes(data)
    ref = DataRef("range.bin", offset, length)
    if offset + (length or 0) <= 100:
        expected = data[offset:] if length is None else data[offset : offset + length]
        assert bytes(read_external(folder, ref, "w")) == expected
    else:
        with pytest.raises(BadInput):
            read_external(folder, ref, "w")


@given(
    st.lists(st.sampled_from(["..", ".", "a", "link", "", "w", "C:", "x\\y", "\0"]), max_size=6).map("/".join)
)
def test_no_location_leaves_the_folder(tmp_path_factory: pytest.TempPathFactory, location: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "closed"
    (folder / "a").mkdir(parents=True, exist_ok=True)
    if not (folder / "link").is_symlink():
        (folder / "link").symlink_to("../..")
    try:
        path = inside(folder, location, "w")
    except BadInput:
        return
    assert Path(os.path.realpath(folder)) in path.parents


def test_many_tensors_of_one_file_take_one_mapping(folder: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    try:
        views = [read_external(folder, DataRef("w.bin", i % 90, 10), "w") for i in range(500)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert bytes(views[7]) == bytes(range(7, 17))


def test_huge_sparse_file_is_not_read(folder: Path) -> None:
    with open(folder / "huge.bin", "wb") as file:
        file.truncate(1 << 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    view = read_external(folder, DataRef("huge.bin", 1 << 39, 1 << 38), "w")
    assert len(view) == 1 << 38 and view[123] == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
