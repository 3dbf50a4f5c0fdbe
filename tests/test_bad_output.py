"""Outputs that cannot be written, disks that fill up: what was there before is there after."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from graphkit.cli import main
from tests.features.base import model
from tests.features.external import WEIGHTS, external, with_tensors
from tests.refusal import GOOD, good, one_line, refused, refused_apart, snapshot

OUTS = {
    "folder_missing": "no/out.onnx",
    "folder": "folder",
    "folder_named_like_a_model": "folder.onnx",
    "under_a_file": "in.onnx/out.onnx",
    "no_suffix": "out",
    "unknown_suffix": "out.txt",
    "device": "/dev/full",
    "device_folder": "/proc/out.onnx",
    "empty": "",
    "too_long": "n" * 300 + ".onnx",
    "link_to_itself": "loop.onnx",
    "newline": "no/a\nb.onnx",
    "fifo": "fifo.onnx",
}


@pytest.mark.parametrize("name", OUTS)
def test_outputs_that_cannot_be(name: str, tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(good())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "loop.onnx").symlink_to("loop.onnx")
    os.mkfifo(tmp_path / "fifo.onnx")
    out = tmp_path / OUTS[name] if OUTS[name] else ""
    refused(tmp_path, tmp_path / "in.onnx", "-o", out)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "in.onnx").write_bytes(good())
    (tmp_path / "locked").mkdir(mode=0o500)
    refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "locked" / "out.onnx")


def test_output_over_its_own_weights(tmp_path: Path) -> None:
    """OUT must not replace a data file that the model reads."""
    data = with_tensors(external("w", "weights.onnx", length=16)).SerializeToString()
    (tmp_path / "in.onnx").write_bytes(data)
    (tmp_path / "weights.onnx").write_bytes(WEIGHTS)
    refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "weights.onnx")


def test_another_file_where_the_data_should_go(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "in.onnx").write_bytes(
        with_tensors(external("w", "weights.bin", length=16)).SerializeToString()
    )
    (tmp_path / "weights.bin").write_bytes(WEIGHTS)
    (tmp_path / "out" / "weights.bin").write_bytes(WEIGHTS[::-1])
    assert "weights.bin" in refused(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out" / "out.onnx")


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_a_full_disk(there: bool, tmp_path: Path) -> None:
    """The file system takes only so much; what was there before is there after."""
    made = model(GOOD)
    made.graph.initializer.add(name="w", data_type=1, dims=[50000], raw_data=bytes(200000))
    (tmp_path / "in.onnx").write_bytes(made.SerializeToString())
    if there:
        (tmp_path / "out.onnx").write_bytes(b"precious")
    refused_apart(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out.onnx", limit=100_000)


def test_a_full_disk_for_the_data(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "in.onnx").write_bytes(
        with_tensors(external("w", "weights.bin", length=16)).SerializeToString()
    )
    (tmp_path / "weights.bin").write_bytes(WEIGHTS * 20)
    refused_apart(tmp_path, tmp_path / "in.onnx", "-o", tmp_path / "out" / "out.onnx", limit=100_000)


@pytest.mark.parametrize("call", ["write", "writev", "fsync", "replace"])
def test_any_step_of_saving_can_fail(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.onnx").write_bytes(good())
    (tmp_path / "out.onnx").write_bytes(b"precious")
    real, called = getattr(os, call), []

    def fail(first: Any, *rest: Any, **named: Any) -> Any:
        if call in ("write", "writev") and first in (1, 2):
            return real(first, *rest, **named)
        called.append(call)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    before = snapshot(tmp_path)
    result = CliRunner().invoke(
        main, ["rewrite", str(tmp_path / "in.onnx"), "-o", str(tmp_path / "out.onnx")]
    )
    monkeypatch.undo()
    if not called:
        pytest.skip(f"saving does not use os.{call}")
    assert result.exit_code == 2, (result.output, result.exception)
    one_line(result.stderr)
    assert snapshot(tmp_path) == before
