"""The ``fold-if`` pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphkit import Pass

if TYPE_CHECKING:
    from graphkit import Graph, Tally
    from graphkit.model.graph import Node, Tensor
    from graphkit_passes._ifs import Decisions, Place
    from graphkit_passes._losing import Losing


class FoldIf(Pass):
    """Replace an If whose condition is known by the branch that always runs.

    A condition is known when it is a constant, or follows from constants and from dims and ranks that shape
    inference proves: `Equal(Shape(x)[1], 1)`, `Not(Equal(Size(Shape(x)), 2))`, `Cast(Shape(x)[0])`. Of an And
    or an Or, one part can be enough. Ifs inside of branches, loops and functions are decided too, and those
    that can be decided once another one is gone.

    ## Why
    PyTorch's exporters write an If where Python had one, and for each `squeeze` of a dim that they do not
    know. TensorRT wants both branches of an If to give the same shape or, since RTX, the same rank, and has
    to know every operator of the branch that never runs. The nodes of a branch cannot be fused with those
    around it either.

    ## Example
    ```
    (float[1,8] x) => (float[8] y)
    d = Gather (Shape (x), zero)
    c = Equal (d, one)
    y = If (c) <
      then_branch = t () => (a) { a = Squeeze (x, zero) },
      else_branch = e () => (b) { b = Identity (x) }
    >
    ```
    becomes
    ```
    y = Squeeze (x, zero)
    ```
    What fed only the condition, or only the branch that never runs, goes with it. Names that the branch
    shares with something else become new ones.

    ## When it refuses
    - The condition follows from an input of the model, a loop or a function, or from a dim that is not
      fixed: the report names it, and for a dim, the `fix-shapes` that decides it.
    - A constant of the branch is called like a tensor outside of it; `unique-names` comes first.
    - The branch gives other outputs than the If has.
    - An output of the model is declared with a shape that the branch which runs never has.

    ## Issues
    [TensorRT#1731](https://github.com/NVIDIA/TensorRT/issues/1731) ·
    [TensorRT#2846](https://github.com/NVIDIA/TensorRT/issues/2846) ·
    [TensorRT#1650](https://github.com/NVIDIA/TensorRT/issues/1650) ·
    [TensorRT#4603](https://github.com/NVIDIA/TensorRT/issues/4603)

    ## Source
    [If](https://onnx.ai/onnx/operators/onnx__If.html) ·
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-with-conditionals.html
    """

    name = "fold-if"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Decide all, replace what is decided, and look again at the others."""
        from graphkit_passes._ifs import all_ifs
        from graphkit_passes._losing import Losing

        reasons: dict[int, str] = {}
        while ifs := all_ifs(graph):
            gone, reasons = _round(graph, ifs, Losing(graph))
            tally.rewrite(gone)
            if not gone or not reasons:
                break
        for scope, node in all_ifs(graph):
            tally.refuse(scope, node, reasons.get(id(node), _NAMES))


_NAMES = "a constant of the branch that runs has the name of a tensor outside; unique-names comes first"


def _round(graph: Graph, ifs: list[Place], placing: Losing) -> tuple[int, dict[int, str]]:
    """Replace what can be decided now; returns how many went, and why others stay, by the node's id."""
    from graphkit_passes._ifs import Decisions, contradicted, keep_branches

    decisions = Decisions(graph, ifs)
    decided: list[tuple[Graph, Node, bool]] = []
    reasons: dict[int, str] = {}
    wrong: list[tuple[Node, Tensor]] = []
    for scope, node in ifs:
        then = decisions.taken(scope, node)
        reason = decisions.why_not(node) if then is None else _misfit(graph, decisions, node, then)
        if then is None or reason is not None:
            reasons[id(node)] = reason or ""
            continue
        decided.append((scope, node, then))
        wrong += [(node, t) for t, _ in contradicted(decisions.types, node, then)]
    gone = keep_branches(graph, decided, placing)
    for node, tensor in wrong:
        if id(node) in gone:
            tensor.shape = None  # nobody relies on what an inner tensor is said to be
    return len(gone), reasons


def _misfit(graph: Graph, decisions: Decisions, node: Node, then: bool) -> str | None:
    """Why the branch that runs cannot stand for the If; None when it can."""
    from graphkit_passes._ifs import branch, contradicted, spelled

    body = branch(node, then)
    if body is None or len(body.outputs) != len(node.outputs):
        return "the branch that runs does not give what the If gives"
    for tensor, found in contradicted(decisions.types, node, then):
        if any(t is tensor for t in graph.outputs):
            told = f"output '{tensor.name}' is declared {spelled(tensor.shape)}"
            return f"{told}, and the branch that runs makes it {spelled(found)}"
    return None
