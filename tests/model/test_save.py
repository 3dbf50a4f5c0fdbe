"""Saving: all of it appears, or the folder holds exactly what was there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.errors import BadInput, BadOutput
from graphkit.model import atomic, disk, save
from graphkit.model.file import ModelFile, check_out, write_atomic

NEW = b"new model " * 50
# Every call of the system that saving can make; one of them fails.
CALLS = [
    "open",
    "write",
    "fsync",
    "replace",
    "mkdir",
    "chmod",
    "read",
    "stat",
    "fstat",
    "lseek",
    "copy_file_range",
]


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every path below ``folder`` with its mode and content (the target, for a symlink)."""
    tree = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        elif path.is_file():
            content = path.read_bytes()
        tree[str(path.relative_to(folder))] = (status.st_mode, content)
    return tree


def make(root: Path, *, there: bool) -> tuple[ModelFile, Path]:
    """A model with two data files in ``in``, and a path in ``out``, which holds a file if ``there``."""
    (root / "in" / "sub").mkdir(parents=True)
    (root / "out").mkdir()
    (root / "in" / "m.onnx").write_bytes(b"old model")
    (root / "in" / "w.bin").write_bytes(b"w" * 5000)
    (root / "in" / "sub" / "v.bin").write_bytes(b"v" * 70)
    if there:
        (root / "out" / "m.onnx").write_bytes(b"there before")
        (root / "out" / "m.onnx").chmod(0o640)
    return ModelFile.load(root / "in" / "m.onnx"), root / "out" / "m.onnx"


def failing(patch: pytest.MonkeyPatch, call: str, nth: int, code: int) -> Callable[[], bool]:
    """Makes the ``nth`` call of os.``call`` (or fcntl.ioctl) fail; the result says whether it did."""
    module: Any = fcntl if call == "ioctl" else os
    real, count = getattr(module, call), 0

    def fake(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == nth:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    patch.setattr(module, call, fake)
    return lambda: count >= nth


def one_line(error: BaseException) -> bool:
    return str(error).isprintable() and ";" in str(error)


@pytest.mark.parametrize("there", [False, True])
def test_saves_elsewhere_with_its_data(tmp_path: Path, there: bool) -> None:
    source, out = make(tmp_path, there=there)
    save.save([NEW[:10], memoryview(NEW)[10:]], out, source, {"w.bin", "sub/v.bin"})
    umask = os.umask(0)
    os.umask(umask)
    plain = stat.S_IFREG | (0o666 & ~umask)
    tree = snapshot(tmp_path / "out")
    assert tree.pop("sub")[0] & stat.S_IFDIR
    assert tree == {
        "m.onnx": (stat.S_IFREG | 0o640 if there else plain, NEW),
        "w.bin": (plain, b"w" * 5000),
        "sub/v.bin": (plain, b"v" * 70),
    }


def test_saves_beside_the_source_and_shares_the_data(tmp_path: Path) -> None:
    source, _ = make(tmp_path, there=False)
    data = tmp_path / "in" / "w.bin"
    before = data.stat()
    for out in (tmp_path / "in" / "n.onnx", tmp_path / "out" / ".." / "in" / "o.onnx"):
        save.save([NEW], out, source, {"w.bin", "sub/v.bin"})
        assert out.read_bytes() == NEW
    assert (data.stat().st_ino, data.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(os.listdir(tmp_path / "in")) == ["m.onnx", "n.onnx", "o.onnx", "sub", "w.bin"]


def test_out_may_be_the_input_even_when_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphkit.model.file.MAP_OVER", 4)
    source, _ = make(tmp_path, there=False)
    assert source.path is not None
    save.save([source.data[:3], b" NEW ", source.data[3:]], source.path, source, {"w.bin"})
    assert source.path.read_bytes() == b"old NEW  model"
    assert bytes(source.data) == b"old model"


def test_symlink_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    source, out = make(tmp_path, there=True)
    (tmp_path / "in" / "link.onnx").symlink_to(out)
    (tmp_path / "in" / "new.onnx").symlink_to("fresh.onnx")
    save.save([NEW], tmp_path / "in" / "link.onnx", source, {"w.bin"})
    save.save([NEW], tmp_path / "in" / "new.onnx", source, {"w.bin"})
    assert (tmp_path / "in" / "link.onnx").is_symlink() and out.read_bytes() == NEW
    assert (tmp_path / "in" / "fresh.onnx").read_bytes() == NEW


def test_identical_data_is_kept_and_different_data_is_not_overwritten(tmp_path: Path) -> None:
    source, out = make(tmp_path, there=True)
    place = tmp_path / "out" / "w.bin"
    place.write_bytes(b"w" * 5000)
    inode = place.stat().st_ino
    save.save([NEW], out, source, {"w.bin"})
    assert place.stat().st_ino == inode
    for other in (b"w" * 4999 + b"x", b"short", b""):
        place.write_bytes(other)
        before = snapshot(tmp_path)
        with pytest.raises(BadOutput, match="another data file") as error:
            save.save([b"newer"], out, source, {"w.bin", "sub/v.bin"})
        assert one_line(error.value) and snapshot(tmp_path) == before
    place.unlink()
    place.hardlink_to(tmp_path / "in" / "w.bin")
    save.save([NEW], out, source, {"w.bin"})


@pytest.mark.parametrize("kind", ["directory", "fifo", "symlink out", "dangling", "folder is a file"])
def test_what_is_in_the_way_of_the_data_is_refused(tmp_path: Path, kind: str) -> None:
    source, out = make(tmp_path, there=True)
    place = tmp_path / "out" / "w.bin"
    if kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "symlink out":
        place.symlink_to(tmp_path / "elsewhere")
    elif kind == "dangling":
        (tmp_path / "out" / "sub").symlink_to(tmp_path)
    else:
        (tmp_path / "out" / "sub").write_bytes(b"")
    before = snapshot(tmp_path)
    with pytest.raises(BadOutput) as error:
        save.save([NEW], out, source, {"w.bin", "sub/v.bin"})
    assert one_line(error.value) and snapshot(tmp_path) == before


def test_data_file_is_never_overwritten_by_the_model(tmp_path: Path) -> None:
    source, _ = make(tmp_path, there=False)
    (tmp_path / "in" / "w.onnx").write_bytes(b"weights")
    (tmp_path / "in" / "alias.onnx").symlink_to("w.onnx")
    (tmp_path / "out" / "up.onnx").symlink_to(tmp_path / "in" / "w.onnx")
    before = snapshot(tmp_path)
    for out in ("in/w.onnx", "in/alias.onnx", "out/w.onnx", "out/up.onnx"):
        with pytest.raises(BadOutput, match="is a data file that the model names") as error:
            save.save([NEW], tmp_path / out, source, {"w.onnx"})
        assert one_line(error.value) and snapshot(tmp_path) == before


def test_locations_that_leave_or_clash_are_refused(tmp_path: Path) -> None:
    source, out = make(tmp_path, there=True)
    (tmp_path / "in" / "link").symlink_to("sub")
    (tmp_path / "in" / "b").mkdir()
    (tmp_path / "in" / "b" / "v.bin").write_bytes(b"other")
    (tmp_path / "out" / "sub").mkdir()
    (tmp_path / "out" / "b").symlink_to("sub")
    before = snapshot(tmp_path)
    for locations in (["../in/w.bin"], ["/etc/passwd"], ["missing"], ["sub"]):
        with pytest.raises(BadInput) as refused:
            save.save([NEW], out, source, locations)
        assert one_line(refused.value) and snapshot(tmp_path) == before
    for locations in (["sub/../w.bin"], ["sub/v.bin", "b/v.bin"]):
        with pytest.raises(BadOutput) as error:
            save.save([NEW], out, source, locations)
        assert one_line(error.value) and snapshot(tmp_path) == before
    with pytest.raises(BadInput, match="no folder"):
        save.save([NEW], out, ModelFile.from_bytes(NEW), ["w.bin"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("out", "end it in .onnx"),
        ("report.json", "end it in .onnx"),
        ("dir.onnx", "is a directory"),
        ("fifo.onnx", "not a regular file"),
        ("null.onnx", "not a regular file"),
        ("loop.onnx", "cannot be written|not a regular file"),
        ("missing/m.onnx", "there is no folder"),
        ("plain/m.onnx", "Not a directory|not a folder"),
        ("x" * 300 + ".onnx", "File name too long"),
        ("a\0b.onnx", "null"),
        ("a\n\x1b[31m/m.onnx", "there is no folder"),
    ],
)
def test_bad_out_is_refused_early(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "dir.onnx").mkdir()
    os.mkfifo(tmp_path / "fifo.onnx")
    (tmp_path / "null.onnx").symlink_to("/dev/null")
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    (tmp_path / "plain").touch()
    before = snapshot(tmp_path)
    for function in (check_out, lambda out: save.save([NEW], out, ModelFile.from_bytes(NEW), ())):
        with pytest.raises(BadOutput, match=says) as error:
            function(tmp_path / name)
        assert one_line(error.value)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("which", ["folder", "file"])
def test_out_without_permission_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    out = tmp_path / "m.onnx"
    out.touch()
    denied = Path(os.path.realpath(tmp_path if which == "folder" else out))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != denied)
    with pytest.raises(BadOutput, match="permission denied"):
        check_out(out)


@pytest.mark.parametrize("name", ["m.onnx", "M.ONNX", "m.pb", "m.onnxtxt", "m.onnxtext"])
def test_out_is_checked_without_touching_anything(tmp_path: Path, name: str) -> None:
    assert check_out(tmp_path / name) == Path(os.path.realpath(tmp_path)) / name
    assert not os.listdir(tmp_path)


def test_model_over_2_gib_is_refused(tmp_path: Path) -> None:
    block = memoryview(bytes(1 << 20))
    with pytest.raises(BadOutput, match="2 GiB") as error:
        save.save([block] * 2048, tmp_path / "m.onnx", ModelFile.from_bytes(NEW), ())
    assert one_line(error.value) and not os.listdir(tmp_path)


def test_reports_are_written_the_same_way(tmp_path: Path) -> None:
    write_atomic(tmp_path / "report.json", [b"{", bytearray(b'"a":'), memoryview(b"1}")])
    assert (tmp_path / "report.json").read_bytes() == b'{"a":1}'
    parts = [os.urandom(size) for size in (0, 1, 1 << 20, 3, (1 << 20) + 1, 1 << 19, 1 << 19, 1)]
    write_atomic(tmp_path / "report.json", iter(parts))
    assert (tmp_path / "report.json").read_bytes() == b"".join(parts)

    def interrupted() -> Any:
        yield b"half"
        raise KeyboardInterrupt

    before = snapshot(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "report.json", interrupted())
    assert snapshot(tmp_path) == before


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    write_atomic(tmp_path / "x", [NEW])
    assert (tmp_path / "x").read_bytes() == NEW


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "mkdir", "copy_file_range", "ioctl"])
def test_each_failing_call_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, there: bool
) -> None:
    source, out = make(tmp_path, there=there)
    before = snapshot(tmp_path)
    failures = 0
    for nth in range(1, 20):
        with monkeypatch.context() as patch:
            happened = failing(patch, call, nth, errno.ENOSPC)
            try:
                save.save([NEW], out, source, {"w.bin", "sub/v.bin"})
            except (BadOutput, BadInput) as error:
                failures += 1
                assert "No space left on device" in str(error) and one_line(error)
                assert snapshot(tmp_path) == before
                continue
        assert not happened() or call in ("fsync", "open")  # syncing the folder may fail
        break
    assert out.read_bytes() == NEW
    assert failures >= 1


@settings(max_examples=150, deadline=None)
@given(
    call=st.sampled_from([*CALLS, "ioctl"]),
    nth=st.integers(1, 12),
    code=st.sampled_from(
        [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS, errno.EINVAL, errno.EXDEV]
    ),
    there=st.booleans(),
    beside=st.booleans(),
    clone=st.booleans(),
)
def test_any_failure_leaves_what_was_there(
    call: str, nth: int, code: int, there: bool, beside: bool, clone: bool
) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        source, out = make(Path(root), there=there)
        if beside:
            out = Path(root) / "in" / "m.onnx"
        before = snapshot(Path(root))
        with patch.context() as fault:
            if not clone:  # go on to read and write
                fault.setattr(os, "copy_file_range", None, raising=False)
            if clone or call != "copy_file_range":
                failing(fault, call, nth, code)
            try:
                save.save([NEW], out, source, {"w.bin", "sub/v.bin"})
            except (BadOutput, BadInput) as error:
                failed: Exception | None = error
            else:
                failed = None
        if failed is not None:
            assert one_line(failed)
            assert snapshot(Path(root)) == before
            return
        assert out.read_bytes() == NEW
        assert (out.parent / "w.bin").read_bytes() == b"w" * 5000
        assert (out.parent / "sub" / "v.bin").read_bytes() == b"v" * 70
        assert not [name for name in snapshot(Path(root)) if ".tmp" in name]


def test_the_first_error_is_told_when_cleaning_up_fails_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = make(tmp_path, there=True)
    failing(monkeypatch, "unlink", 1, errno.EIO)
    failing(monkeypatch, "rmdir", 1, errno.EIO)
    failing(monkeypatch, "replace", 3, errno.ENOSPC)
    with pytest.raises(BadOutput, match="No space left"):
        save.save([NEW], out, source, {"w.bin", "sub/v.bin"})
    assert out.read_bytes() == b"there before"


@pytest.mark.parametrize("name", ["m.onnx", "m.onnxtxt"])
def test_full_disk_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"there before")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w.bin").write_bytes(b"w" * 100_000)
    script = f"""
import resource, sys
from pathlib import Path
from graphkit.errors import BadOutput
from graphkit.model.file import ModelFile, save
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
model = ModelFile(None, Path("in"), memoryview(b"x"), b"t" * 5000)
for parts, locations in ([b"x" * 5000], ()), ([b"x"], ["w.bin"]):
    try:
        save(parts, Path({name!r}), model, locations, unchanged=True)
    except BadOutput as error:
        print(error)
"""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.count("File too large") == 2, run.stdout + run.stderr
    assert sorted(os.listdir(tmp_path)) == ["in", name]
    assert (tmp_path / name).read_bytes() == b"there before"


@pytest.mark.parametrize("way", ["clone", "range", "range stops", "plain", "plain after a part"])
def test_every_way_to_copy_gives_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    data = os.urandom(300_000)
    (tmp_path / "a").write_bytes(data)
    monkeypatch.setattr(disk, "CHUNK", 4096)

    def ioctl(target: int, request: int, source: int) -> int:
        assert request == 0x40049409
        if way != "clone":
            raise OSError(errno.EOPNOTSUPP, "no")
        return os.write(target, os.read(source, len(data)))

    done = 0

    def copy_file_range(source: int, target: int, count: int, at: int, to: int) -> int:
        nonlocal done
        if way == "plain" or (way == "plain after a part" and done):
            raise OSError(errno.EXDEV, "no")
        if way == "range stops" and done:
            return 0
        done += 1
        return os.pwrite(target, os.pread(source, min(count, 100_001), at), to)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(os, "copy_file_range", copy_file_range, raising=False)
    with open(tmp_path / "a", "rb") as source, open(tmp_path / "b", "wb") as target:
        disk.copy(source.fileno(), target.fileno())
    assert (tmp_path / "b").read_bytes() == data


def test_copy_without_the_system_s_help_and_of_a_file_that_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = make(tmp_path, there=True)
    monkeypatch.setattr(disk, "fcntl", None)
    monkeypatch.setattr(os, "copy_file_range", None, raising=False)
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "read", lambda fd, size: b"")
        with pytest.raises(BadOutput, match="shrank"):
            save.save([NEW], out, source, {"w.bin"})
    assert snapshot(tmp_path) == before
    save.save([NEW], out, source, {"w.bin"})
    assert (tmp_path / "out" / "w.bin").read_bytes() == b"w" * 5000


def test_large_data_is_copied_in_bounded_memory(tmp_path: Path) -> None:
    import resource

    source, out = make(tmp_path, there=False)
    with open(tmp_path / "in" / "w.bin", "wb") as file:
        file.truncate(200 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    save.save([NEW], out, source, {"w.bin"})
    save.save([NEW], out, source, {"w.bin"})  # compares
    assert (tmp_path / "out" / "w.bin").stat().st_size == 200 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_small_parts_share_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    write = os.write

    def counted(fd: int, data: Any) -> int:
        writes.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", counted)
    atomic.write_atomic(tmp_path / "x", [b"12345678"] * 10_000)
    assert writes == [80_000]
