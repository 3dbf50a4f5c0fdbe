"""Fusion drift: the kernels of a marked build beside a plain one's, which never outlives the diff."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from graphkit.compare import drift
from graphkit.compare.drift import drifted, proven, twin, watch
from graphkit.engine.layers import LayerMap, layers_path, parse_inspector
from graphkit.errors import BadEngine
from tests.compare.live import built


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return built(tmp_path_factory.mktemp("drift"))


class Options:
    trt, drift = "auto", True


def test_the_plain_build_has_the_same_kernels(files: tuple[Path, Path]) -> None:
    layers = LayerMap.load(layers_path(files[1]))
    watched = watch(files[1], files[0], Options())
    assert watched is not None
    with watched:
        found = watched.result(layers.kernels)
    assert found.checked and found.different == () and found.kernels == len(layers.kernels) > 3


def test_what_only_one_build_has_is_named(files: tuple[Path, Path]) -> None:
    kernels = LayerMap.load(layers_path(files[1])).kernels
    split = [k for k in kernels if "node_of_s" not in k.onnx_nodes]
    odd = replace(kernels[1], name="odd", type="another")
    (silu,) = [k.name for k in kernels if "node_of_s" in k.onnx_nodes]
    assert drifted(kernels, split).different == (silu,)
    assert drifted([kernels[0], odd], kernels[:2]).different == tuple(sorted((odd.name, kernels[1].name)))
    assert drifted(kernels, kernels).different == ()


def test_nothing_is_watched_when_it_is_not_asked_or_not_known(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    options = Options()
    options.drift = False
    assert watch(files[1], files[0], options) is None
    assert watch(tmp_path / "no.engine", files[0], Options()) is None


def test_a_build_that_fails_is_a_reason(files: tuple[Path, Path], tmp_path: Path) -> None:
    tree = json.loads(layers_path(files[1]).read_text())
    tree["options"]["compute_capabilities"] = ["1.0"]
    engine = tmp_path / "m.engine"
    layers_path(engine).write_text(json.dumps(tree))
    watched = watch(engine, files[0], Options())
    assert watched is not None
    with watched:
        found = watched.result(())
    assert not found.checked and "--compute-capability 1.0" in found.reason


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt()])
def test_the_build_ends_with_the_diff(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A process that ends in the middle of a build may be aborted: the exit code would be a signal's."""
    going, ended = threading.Event(), threading.Event()

    def forever(*_: Any, progress: Callable[[str, int, int], None], **__: Any) -> None:
        going.set()
        try:
            for step in range(10_000):
                progress("building", step, 0)
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr(drift, "layer_list", forever)
    watched = watch(files[1], files[0], Options())
    assert watched is not None
    with pytest.raises(type(error)), watched:
        assert going.wait(10) and not ended.is_set()
        raise error
    assert ended.is_set()


def test_a_twin_is_proven_by_its_kernels(files: tuple[Path, Path]) -> None:
    made = twin(*files, "auto")
    assert made.parent != files[1].parent and made.name == files[1].name
    layers, mine = LayerMap.load(layers_path(made)), LayerMap.load(layers_path(files[1]))
    assert layers.meta["marked"] and layers.meta["options"] == mine.meta["options"]
    assert f"all {len(mine.kernels)} kernels are those of m.engine" in proven(
        files[1], layers.kernels, mine.kernels
    )
    names = json.dumps({"Layers": [k.name for k in mine.kernels]})  # of an engine built without detail
    bare = parse_inspector(names)
    assert proven(files[1], layers.kernels, bare)
    for other in (bare[1:], list(mine.kernels[:-1]), []):
        with pytest.raises(BadEngine, match="a rebuild with marks has other kernels"):
            proven(files[1], layers.kernels, other)
