"""Diffs of real engines on a GPU: with marks, without them, and rebuilt with them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import graphkit
from graphkit.run.build import build
from graphkit.run.engine_header import EngineHeader
from tests.compare.live import OPTIONS, model

pytestmark = pytest.mark.gpu


def built(folder: Path, *, plain: bool) -> tuple[Path, Path]:
    files = folder / "m.onnx", folder / "m.engine"
    onnx.save(model(), files[0])
    build(*files, plain=plain, shapes=OPTIONS["shapes"])
    return files


def test_a_marked_engine(tmp_path: Path) -> None:
    report = graphkit.diff(*built(tmp_path, plain=False), determinism=2, same_rows=True)
    assert report.ok, report.first_bad
    assert report.drift.checked and report.drift.different == ()
    assert report.coverage.paired == report.coverage.captured - report.coverage.copies > 0


def test_an_engine_without_marks_is_rebuilt_and_the_twin_proven(tmp_path: Path) -> None:
    files = built(tmp_path, plain=True)
    bare = graphkit.diff(*files)
    assert bare.ok and not bare.coverage.captured and any("--rebuild" in a for a in bare.advice)
    report = graphkit.diff(*files, rebuild=True)
    assert report.ok, report.first_bad
    assert report.coverage.captured and any("kernels are those of m.engine" in n for n in report.notes)


def test_the_header_of_an_engine_for_this_gpu(tmp_path: Path) -> None:
    from graphkit.run.trt import load

    data = built(tmp_path, plain=False)[1].read_bytes()
    header = EngineHeader.of(data)
    assert header is not None and header.rtx == load().is_rtx and header.size in (len(data), None)
    assert header.version[:2] in ((), load().numbers[:2])
