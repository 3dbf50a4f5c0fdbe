"""What becomes of a batch in operators that join, cut and pick elements."""

from __future__ import annotations

from collections.abc import Sequence

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes._batch_flow import Flow, Size, Walk, follows

_FAR = 1 << 30


@follows("Concat")
def concat(walk: Walk, node: Node) -> None:
    """Along another axis; what has no batch is repeated for each row."""
    if any(id(t) in walk.vectors for t in node.inputs):
        walk.sizes(node.outputs[0], [s for t in node.inputs for s in _elements(walk, t)])
        return
    found = {walk.batched(t) for t in node.inputs if walk.flow(t) is not None}
    rank = walk.rank(node.inputs[0])
    if len(found) != 1 or next(iter(found)).axis == int(walk.attr(node, "axis")) % rank:
        raise NotApplicable("it joins along the batch, or its inputs have that on different axes")
    (flow,) = found
    for place, tensor in enumerate(node.inputs):
        if walk.flow(tensor) is None:
            if flow.inner != 1:
                raise NotApplicable(f"'{tensor.name}' has no batch")
            walk.replace_input(node, place, walk.grown(tensor, flow.axis, node))
    walk.set(node.outputs[0], flow.axis, flow.inner)


def _elements(walk: Walk, tensor: Tensor) -> Sequence[Size]:
    found = walk.vectors.get(id(tensor))
    if found is not None:
        return found
    values = walk.graph.value(tensor)
    if values is not None:
        return [Size(int(v)) for v in values.reshape(-1)]
    return [Size(None)] * walk.fixed(tensor)[0]


@follows("Split")
def split(walk: Walk, node: Node) -> None:
    """Along another axis."""
    walk.only(node, 0)
    flow = walk.batched(node.inputs[0])
    if flow.axis == int(walk.attr(node, "axis", 0)) % walk.rank(node.inputs[0]):
        raise NotApplicable("it splits the batch")
    for tensor in node.outputs:
        walk.set(tensor, flow.axis, flow.inner)


@follows("Slice")
def slice_(walk: Walk, node: Node) -> None:
    """Along other axes, or all of the batch."""
    x, y = node.inputs[0], node.outputs[0]
    starts, ends = walk.ints(node, 1, "starts") or [], walk.ints(node, 2, "ends") or []
    axes = walk.ints(node, 3, "axes") or list(range(len(starts)))
    steps = (walk.ints(node, 4, "steps") if walk.input(node, 4) is not None else None) or [1] * len(starts)
    if id(x) in walk.vectors:
        walk.sizes(y, walk.vectors[id(x)][starts[0] : ends[0] : steps[0]])
        return
    walk.only(node, 0)
    flow, rank = walk.batched(x), walk.rank(x)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % rank == flow.axis and (start, step) != (0, 1) or axis % rank == flow.axis and end < _FAR:
            raise NotApplicable("it slices the batch")
    walk.set(y, flow.axis, flow.inner)


@follows("Gather")
def gather(walk: Walk, node: Node) -> None:
    """From other axes of rows, or rows of indices; of a vector of sizes the elements."""
    x, indices = node.inputs
    axis, y = int(walk.attr(node, "axis", 0)), node.outputs[0]
    if id(x) in walk.vectors:
        places = walk.graph.value(indices)
        if places is None:
            raise NotApplicable("which sizes it takes is not constant")
        walk.sizes(y, [walk.vectors[id(x)][int(p)] for p in places.reshape(-1)])
        return
    flows = walk.flow(x), walk.flow(indices)
    axis = axis % walk.rank(x)
    if flows[0] is not None and flows[1] is None and flows[0].axis != axis:
        behind = walk.rank(indices) - 1 if flows[0].axis > axis else 0
        walk.set(y, flows[0].axis + behind, flows[0].inner)
    elif flows[0] is None and flows[1] is not None:
        walk.set(y, axis + flows[1].axis, flows[1].inner)
    else:
        raise NotApplicable("it takes rows out of the batch")


@follows("GatherElements")
def gather_elements(walk: Walk, node: Node) -> None:
    """Along another axis, row by row."""
    flows = [walk.batched(t) for t in node.inputs]
    if flows[0] != flows[1] or flows[0].axis == int(walk.attr(node, "axis", 0)) % walk.rank(node.inputs[0]):
        raise NotApplicable("it takes elements out of the batch")
    walk.set(node.outputs[0], flows[0].axis, flows[0].inner)


@follows("GatherND")
def gather_nd(walk: Walk, node: Node) -> None:
    """Within the rows that ``batch_dims`` takes together."""
    flows = [walk.batched(t) for t in node.inputs]
    if flows[0] != flows[1] or flows[0].axis >= int(walk.attr(node, "batch_dims", 0)):
        raise NotApplicable("it takes elements out of the batch")
    walk.set(node.outputs[0], flows[0].axis, flows[0].inner)


@follows("Pad")
def pad(walk: Walk, node: Node) -> None:
    """Other axes."""
    walk.only(node, 0)
    flow, rank = walk.batched(node.inputs[0]), walk.rank(node.inputs[0])
    pads, axes = walk.ints(node, 1, "pads") or [], list(range(rank))
    if walk.input(node, 3) is not None:
        axes = [a % rank for a in walk.ints(node, 3, "axes") or []]
    if flow.axis in axes and (pads[axes.index(flow.axis)] or pads[axes.index(flow.axis) + len(axes)]):
        raise NotApplicable("it pads the batch")
    walk.set(node.outputs[0], flow.axis, flow.inner)


@follows("Resize")
def resize(walk: Walk, node: Node) -> None:
    """Scales of 1 for the batch; sizes get it from the input."""
    walk.only(node, 0, 3)
    x, sizes = node.inputs[0], walk.input(node, 3)
    flow = walk.batched(x)
    if flow.axis or walk.attr(node, "axes") is not None:
        raise NotApplicable("the batch is not on its first axis, or it names its axes")
    if sizes is None:
        scales = walk.graph.value(node.inputs[1 if walk.graph.opset < 11 else 2])
        if scales is None or scales[0] != 1:
            raise NotApplicable("its scale of the batch is not 1")
    elif id(sizes) not in walk.vectors:
        _free_sizes(walk, node, sizes, flow)
    elif walk.vectors[id(sizes)][0] != Size(flow.inner, True):
        raise NotApplicable("its sizes do not begin with the batch")
    walk.set(node.outputs[0], 0, flow.inner)


def _free_sizes(walk: Walk, node: Node, sizes: Tensor, flow: Flow) -> None:
    """Let the first of the sizes be the batch."""
    values = walk.graph.value(sizes)
    if values is None or values[0] != walk.size or flow.inner != 1:
        raise NotApplicable(f"its sizes '{sizes.name}' do not begin with the batch")
    rest = [int(v) for v in values[1:]]

    def make() -> Tensor:
        parts = [walk.count(), walk.constant(rest, sizes)]
        return walk.graph.add("Concat", parts, {"axis": 0}, before=node, of=[node])[0]

    walk.replace_input(node, 3, make)
