"""The ``align-if-branches`` pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphkit import Pass

if TYPE_CHECKING:
    from graphkit import Graph, Tally
    from graphkit.model.graph import Node
    from graphkit_passes._alignment import Alignment
    from graphkit_passes._ifs import Decisions, Place
    from graphkit_passes._losing import Losing


class AlignIfBranches(Pass):
    """Give the branches of an If the same number of dims, or keep the branch that is proven to run.

    ## Why
    `x.squeeze(1)` of a dim that PyTorch does not know is exported as an If: Squeeze when the dim is 1, else
    Identity. The two branches have different ranks, and TensorRT builds no engine with such an If: "Must
    have inputs with equal ranks when condition is not a build-time constant"; version 8 wants equal shapes.

    Such an If is mended in the first of these ways that is possible:

    1. The condition is decided, because the dim is proven: the branch that runs takes the place of the If.
    2. Both branches only give one tensor another shape, and whoever reads the result does not look at it (a
       Reshape to a constant shape): the If goes, and the readers get the tensor itself.
    3. Whoever reads the result takes leading dims of 1 as if they were not there (it broadcasts with a tensor
       of as many dims, or is a Reshape): the branch with fewer dims gets an Unsqueeze.

    Ifs whose branches have equal ranks stay; [fold-if](fold-if.md) decides those.

    ## Example
    ```
    r = If (is_one) <
      then_branch = t () => (a) { a = Squeeze (x, axis) },
      else_branch = e () => (b) { b = Identity (x) }
    >
    y = Reshape (r, flat)                   # flat is the initializer {-1}
    ```
    becomes
    ```
    y = Reshape (x, flat)
    ```

    ## When it refuses
    - The result is an output of the model or of a loop: its caller sees the rank.
    - A node that reads the result does something else for another rank: MatMul, Transpose, a Reshape with a 0
      in its shape, an operator that broadcasts with a tensor of fewer dims. The report names it. `fix-shapes`
      mends that: with a dim that is known, the condition is decided.
    - The rank of one branch is not known, and the other one squeezes.
    - The branches give different dtypes.

    ## Issues
    [TensorRT#1650](https://github.com/NVIDIA/TensorRT/issues/1650) ·
    [TensorRT#1731](https://github.com/NVIDIA/TensorRT/issues/1731) ·
    [TensorRT#2846](https://github.com/NVIDIA/TensorRT/issues/2846) ·
    [TensorRT#4603](https://github.com/NVIDIA/TensorRT/issues/4603)

    ## Source
    [If](https://onnx.ai/onnx/operators/onnx__If.html) ·
    https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-with-conditionals.html
    """

    name = "align-if-branches"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Keep the branches that are decided, round by round; then align the others."""
        from graphkit_passes._alignment import Alignment
        from graphkit_passes._ifs import Decisions, all_ifs
        from graphkit_passes._losing import Losing

        while ifs := all_ifs(graph):
            placing, decisions = Losing(graph), Decisions(graph, ifs)
            alignment = Alignment(graph, decisions.proven, placing)
            done = _keep(graph, ifs, decisions, alignment, placing)
            done = done or sum(_align(node, alignment) for _, node in ifs)
            placing.sweep()
            tally.rewrite(done)
            if not done:
                for scope, node in ifs:
                    _tell(scope, node, decisions, alignment, tally)
                break


def _keep(graph: Graph, ifs: list[Place], decisions: Decisions, alignment: Alignment, placing: Losing) -> int:
    """Put the branch that runs in the place of uneven Ifs; returns how many went."""
    from graphkit_passes._ifs import contradicted, keep_branches

    decided: list[tuple[Graph, Node, bool]] = []
    ends = {id(t) for t in graph.outputs}
    wrong = {}
    for scope, node in ifs:
        then = decisions.taken(scope, node) if alignment.uneven(node) else None
        if then is not None:
            wrong[id(node)] = [t for t, _ in contradicted(decisions.types, node, then)]
            if not any(id(t) in ends for t in wrong[id(node)]):
                decided.append((scope, node, then))
    gone = keep_branches(graph, decided, placing)
    for tensor in (t for key in gone for t in wrong[key]):
        tensor.shape = None  # nobody relies on what an inner tensor is said to be
    return len(gone)


def _align(node: Node, alignment: Alignment) -> int:
    """Align one If if every reader allows it; returns whether that was done."""
    places = alignment.uneven(node)
    if not places or any(alignment.obstacle(node, k) for k in places) or _mixed(node, alignment):
        return 0
    source = alignment.same_source(node)
    if source is not None:
        alignment.bypass(node, source)
        return 1
    for place in places:
        alignment.align(node, place)
    return 1


def _mixed(node: Node, alignment: Alignment) -> str | None:
    """What is wrong with the dtypes of the branches."""
    for pair in alignment.results(node):
        first, second = (alignment.types.dtype(t) for t in pair)
        if first is not None and second is not None and first != second:
            return f"one branch gives {first}, the other {second}"
    return None


def _tell(scope: Graph, node: Node, decisions: Decisions, alignment: Alignment, tally: Tally) -> None:
    """Refuse an If that is still uneven, or may be."""
    mixed = _mixed(node, alignment)
    if mixed is not None:
        tally.refuse(scope, node, mixed)
        return
    for place in alignment.uneven(node):
        reason = alignment.obstacle(node, place)
        if reason is not None:
            tally.refuse(scope, node, f"{reason}; {decisions.why_not(node)}")
            return
    for pair in alignment.results(node):
        makers = [t.inputs[0].op for t in pair if t.inputs]
        unknown = next((t for t in pair if alignment.types.shape(t) is None), None)
        if unknown is not None and "Squeeze" in makers and len(set(makers)) > 1:
            tally.refuse(
                scope, node, f"it squeezes in one branch, and the rank of '{unknown.name}' is not known"
            )
            return
