"""The ``fuse-slice`` pass beyond its fixtures: random cuts of random axes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from graphkit.testing import assert_equivalent, run

slowly = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FAR = 2**63 - 1


class Cut(NamedTuple):
    """One axis of a Slice."""

    start: int
    end: int
    axis: int
    step: int


cuts = st.builds(
    Cut,
    start=st.sampled_from([0, 1, -3]),
    end=st.sampled_from([4, FAR, -1]),
    axis=st.integers(-3, 2),
    step=st.sampled_from([1, 2]),
)
slices = st.lists(cuts, min_size=1, max_size=2, unique_by=lambda c: c.axis % 3)


def model(chain: list[list[Cut]], opset: int, read: bool) -> onnx.ModelProto:
    """Slices in a row over [n,5,6]; with ``read`` something else reads what the first makes."""
    nodes, tensors = [], []
    for index, parts in enumerate(chain):
        parts = parts if opset >= 10 else [c._replace(step=1) for c in parts]
        lists = dict(
            zip(("starts", "ends", "axes", "steps"), map(list, zip(*parts, strict=True)), strict=True)
        )
        if opset < 10:
            del lists["steps"]
            nodes.append(helper.make_node("Slice", [f"t{index}"], [f"t{index + 1}"], **lists))
            continue
        names = [f"{n}{index}" for n in lists]
        tensors += [
            numpy_helper.from_array(np.array(v, np.int64), n)
            for n, v in zip(names, lists.values(), strict=True)
        ]
        nodes.append(helper.make_node("Slice", [f"t{index}", *names], [f"t{index + 1}"]))
    ends = [f"t{len(chain)}", *(["r"] if read else [])]
    nodes += [helper.make_node("Relu", ["t1"], ["r"])] if read else []
    infos = [
        helper.make_tensor_value_info("t0", 1, ["n", 5, 6]),
        *(helper.make_tensor_value_info(e, 1, None) for e in ends),
    ]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@slowly
@given(st.lists(slices, min_size=2, max_size=4), st.sampled_from([9, 10, 13, 18]), st.booleans())
def test_random_chains_keep_their_numbers_and_come_to_rest(
    chain: list[list[Cut]], opset: int, read: bool
) -> None:
    before = model(chain, opset, read)
    after = assert_equivalent("fuse-slice", before)
    again, second = run("fuse-slice", after)
    assert second.rewrites == 0
    assert again.SerializeToString() == after.SerializeToString()
    axes = [c.axis % 3 for parts in chain for c in parts]
    if len(set(axes)) == len(axes) and not read:
        assert len(after.graph.node) == 1
