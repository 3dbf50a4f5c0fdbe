"""``--shapes`` as a diff reads it: one shape or three of each input, and what else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphkit.compare.plan import dims_of, model_feeds, points
from graphkit.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
DETECTOR = ROOT / "fixtures" / "demo" / "detector.onnx"


def test_one_shape_is_one_point() -> None:
    assert points(["x=1x3x64x64"]) == [{"x": (1, 3, 64, 64)}]
    assert points(["x=8", "y=0x2"]) == [{"x": (8,), "y": (0, 2)}]
    assert points([]) == points({}) == []
    assert points({"x": (1, 2)}) == [{"x": (1, 2)}]


def test_min_opt_and_max_are_three_points() -> None:
    given = ["ids=1x8/1x16/4x32", "mask=1x8/1x16/4x32", "size=2"]
    assert points(given) == [
        {"ids": (1, n), "mask": (1, n), "size": (2,)}
        if n < 32
        else {"ids": (4, n), "mask": (4, n), "size": (2,)}
        for n in (8, 16, 32)
    ]


def test_a_name_may_hold_signs() -> None:
    assert dims_of("a=b/c:0=2x3") == ("a=b/c:0", [(2, 3)])


@pytest.mark.parametrize(
    "text",
    ["", "x", "x=", "=1x3", "x=1x", "x=axb", "x=1x3/2x3", "x=1/2/3/4", "x=-1x3", "x=1.5", "x=1,3", "x=1x3/"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="write NAME=1x3x64x64, or NAME=min/opt/max"):
        points([text])


def test_without_several_shapes_the_feeds_are_left_to_the_diff() -> None:
    assert model_feeds(DETECTOR, (), 0, (), 3) == (None, None)
    assert model_feeds(DETECTOR, (), 0, ["images=1x3x96x96"], 3) == (None, {"images": (1, 3, 96, 96)})


def test_each_of_three_shapes_gets_its_sets() -> None:
    dims = "x".join(map(str, (1, 3, 96, 96)))
    feeds, shapes = model_feeds(DETECTOR, (), 0, [f"images={dims}/{dims}/{dims}"], 2)
    assert shapes is None and feeds is not None and len(feeds) == 6
    again, _ = model_feeds(DETECTOR, (), 0, [f"images={dims}/{dims}/{dims}"], 2)
    other, _ = model_feeds(DETECTOR, (), 1, [f"images={dims}/{dims}/{dims}"], 2)
    assert again is not None and other is not None
    assert all(np.array_equal(a["images"], b["images"]) for a, b in zip(feeds, again, strict=True))
    assert not np.array_equal(feeds[0]["images"], other[0]["images"])


def test_files_come_before_shapes(tmp_path: Path) -> None:
    image = np.ones((1, 3, 96, 96), np.float32)
    np.savez(tmp_path / "a.npz", images=image)
    np.savez(tmp_path / "b.npz", images=image * 2)
    feeds, shapes = model_feeds(
        DETECTOR, [tmp_path / "a.npz", tmp_path / "b.npz"], 0, ["images=1x3x96x96"], 5
    )
    assert shapes is None and feeds is not None
    assert [float(f["images"].max()) for f in feeds] == [1, 2]
