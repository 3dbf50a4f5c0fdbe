"""The ``settle-branches`` pass beyond its fixtures: random layers behind the If, and a real model."""

from __future__ import annotations

import onnx
import onnx.parser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphkit import Model, load_pass
from graphkit.testing import run
from tests import corpus

slowly = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
HEADER = '<ir_version: 8, opset_import: ["": 17]>\n'

DEMANDS = {  # what stands behind the If, and the rank that it takes
    "y, h = GRU <hidden_size = 1> (a, w, r)": 3,
    "y = Transpose <perm = [1, 0]> (a)": None,  # of which inference does not see that it needs rank 2
    "y = Transpose <perm = [1, 0, 2]> (a)": 3,
    "y = Gemm (a, k)": 2,
    "y = Squeeze (a, last)": 3,
    "y = Relu (a)": None,
    "y = MatMul (a, k)": None,
}


@given(demand=st.sampled_from(sorted(DEMANDS)), swapped=st.booleans(), above=st.integers(0, 2))
@slowly
def test_the_branch_whose_rank_fits_stays(demand: str, swapped: bool, above: int) -> None:
    """The rank that a layer takes decides, also through nodes that only pass the tensor on."""
    first, second = ("p = Squeeze (x, last)", "q = Identity (x)")
    then, other = (second, first) if swapped else (first, second)
    chain = "".join(f"a{i + 1} = Neg (a{i})\n" for i in range(above))
    model = onnx.parser.parse_model(
        HEADER + "g (float[b,2,t] x, bool c, float[1,3,2] w, float[1,3,1] r, float[2,3] k) => (float[o] y) "
        "<int64[1] last = {-1}> {\n"
        f"a0 = If (c) <then_branch = u () => (float[d] {then[0]}) {{ {then} }}, "
        f"else_branch = v () => (float[e] {other[0]}) {{ {other} }}>\n"
        f"{chain} a = Identity (a{above})\n{demand}\n}}"
    )
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for branch in model.graph.node[0].attribute:
        branch.g.output[0].type.tensor_type.ClearField("shape")
    done, report = run("settle-branches", model)
    kept = [n.op_type for n in done.graph.node]
    rank = DEMANDS[demand]
    if rank is None:
        assert kept[0] == "If" and "can run" in report.refusals[0].reason
    else:
        assert kept[0] == ("Squeeze" if rank == 2 else "Identity") and report.rewrites == 1


def test_silero_loses_its_branches_on_ranks() -> None:
    """TorchScript's squeeze, and its recurrent layer for one sequence or several."""
    path = next(p for p in corpus.package_models("silero-vad") if p.name == "silero_vad_16k_op15.onnx")
    model = Model.load(path)
    load_pass("fold-constants").run(model)
    assert model.main.counts()["If"] > 0
    load_pass("settle-branches").run(model)
    load_pass("fold-constants").run(model)
    assert model.main.counts()["If"] == 0
