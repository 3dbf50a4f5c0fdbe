"""The ``lower-gridsample`` pass beyond its fixtures: every mode, padding and alignment, and random sizes."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MODES = ("linear", "cubic", "nearest")
PADDINGS = ("zeros", "border", "reflection")


def build(
    mode: str, padding: str, aligned: bool, sizes: list[int], grid: list[int], opened: bool = False
) -> onnx.ModelProto:
    names = ",".join(["n" if opened else "2", "3", *map(str, sizes)])
    points = ",".join(
        ["n" if opened else "2", *("p" if opened and not n else str(s) for n, s in enumerate(grid))]
    )
    attrs = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {int(aligned)}'
    text = (
        f'<ir_version: 10, opset_import: ["": 20]>\ng (float[{names}] x, float[{points},{len(sizes)}] grid)'
    )
    out = ",".join(["n" if opened else "2", "3", *points.split(",")[1:]])
    return onnx.parser.parse_model(f"{text} => (float[{out}] y) {{ y = GridSample <{attrs}> (x, grid) }}")


@slowly
@given(
    mode=st.sampled_from(MODES),
    padding=st.sampled_from(PADDINGS),
    aligned=st.booleans(),
    sizes=st.lists(st.integers(2, 5), min_size=2, max_size=3),
    grid=st.lists(st.integers(1, 3), min_size=3, max_size=3),
    opened=st.booleans(),
)
def test_gathers_give_the_same(
    mode: str, padding: str, aligned: bool, sizes: list[int], grid: list[int], opened: bool
) -> None:
    if mode == "cubic":
        sizes = sizes[:2]
    model = build(mode, padding, aligned, sizes, grid[: len(sizes)], opened)
    after = assert_equivalent("lower-gridsample:form=gather", model)
    assert "GridSample" not in {n.op_type for n in after.graph.node}
    onnx.checker.check_model(after, full_check=True)
    assert run("lower-gridsample:form=gather", after)[0] == after


@pytest.mark.parametrize("mode", MODES)
def test_the_native_form_keeps_what_is_read_right(mode: str) -> None:
    model = build(mode, "zeros", False, [3, 4], [2, 2])
    after = assert_equivalent("lower-gridsample", model)
    kept = [n for n in after.graph.node if n.op_type == "GridSample"]
    assert len(kept) == (mode != "cubic")
    assert all(a.s != b"linear" for n in kept for a in n.attribute)
    assert run("lower-gridsample", after)[0] == after


def test_old_modes_stay() -> None:
    text = '<ir_version: 10, opset_import: ["": 16]>\n'
    text += "g (float[1,1,4,4] x, float[1,2,2,2] g) => (float[1,1,2,2] y)"
    model = onnx.parser.parse_model(f'{text} {{ y = GridSample <mode = "bicubic"> (x, g) }}')
    assert run("lower-gridsample", model)[0] == model


def test_nothing_is_reflected_in_a_dim_of_one() -> None:
    _, report = run("lower-gridsample:form=gather", build("linear", "reflection", True, [1, 4], [2, 2]))
    assert "nothing can be reflected in it" in report.refusals[0].reason
