"""What becomes of a batch in operators that move dims and count them, and how constants let go of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes._batch_flow import Flow, Size, Walk, follows

_FAR = 1 << 30


@follows("Transpose")
def transpose(walk: Walk, node: Node) -> None:
    """The axis goes where the permutation says."""
    flow, rank = walk.batched(node.inputs[0]), walk.rank(node.inputs[0])
    perm = list(walk.attr(node, "perm", range(rank)[::-1]))
    walk.set(node.outputs[0], perm.index(flow.axis), flow.inner)


@follows("Reshape")
def reshape(walk: Walk, node: Node) -> None:
    """The axis before which, and behind which, there are as many elements as before."""
    x, target = node.inputs[0], node.inputs[1]
    flow = walk.flow(x)
    if flow is None:
        raise NotApplicable(f"the batch is in its shape, and not in '{x.name}'")
    sizes = _target(walk, target)
    if walk.attr(node, "allowzero") and Size(0) in sizes:
        raise NotApplicable("its allowzero is set, and a size is 0")
    if sizes[0] == Size(0) and flow.axis == 0:
        walk.set(node.outputs[0], 0, flow.inner)
        return
    known = all(isinstance(d, int) for d in (*walk.shape(x), *walk.shape(node.outputs[0])))
    place = _place(walk, x, node.outputs[0], flow) if known else _front(walk, flow, sizes)
    if any(s.batch and (n != place.axis or s.number != place.inner) for n, s in enumerate(sizes)):
        raise NotApplicable("its shape has the batch in another place")
    walk.set(node.outputs[0], place.axis, place.inner)
    if not sizes[place.axis].batch:
        _free(walk, node, sizes, flow, place)


def _target(walk: Walk, target: Tensor) -> list[Size]:
    """The elements of a shape."""
    found = walk.vectors.get(id(target))
    if found is not None:
        return list(found)
    values = walk.graph.value(target)
    if values is None:
        raise NotApplicable(f"its shape '{target.name}' is not constant")
    return [Size(int(v)) for v in values]


def _place(walk: Walk, x: Tensor, y: Tensor, flow: Flow) -> Flow:
    """Where the batch is after a Reshape of fixed shapes; as near to where it was as can be."""
    before, after = walk.fixed(x), walk.fixed(y)
    front = prod(before[: flow.axis])
    row = flow.inner * prod(before[flow.axis + 1 :])
    found = [
        Flow(n, size // walk.size)
        for n, size in enumerate(after)
        if prod(after[:n]) == front
        and size % walk.size == 0
        and size // walk.size * prod(after[n + 1 :]) == row
    ]
    if not found:
        raise NotApplicable(f"it mixes the batch of '{x.name}' with other dims")
    return min(found, key=lambda f: (f.inner != 1, f.inner != flow.inner, abs(f.axis - flow.axis)))


def _front(walk: Walk, flow: Flow, sizes: Sequence[Size]) -> Flow:
    """The same where dims are not fixed: the batch is, and stays, in front."""
    first = sizes[0]
    if flow.axis == 0 and first in (Size(flow.inner, True), Size(walk.size * flow.inner)):
        return Flow(0, flow.inner)
    raise NotApplicable("its shapes are not fixed, so where the batch goes is not known")


def _free(walk: Walk, node: Node, sizes: Sequence[Size], flow: Flow, place: Flow) -> None:
    """Write 0 or -1 in the place of the batch."""
    axis, target = place.axis, node.inputs[1]
    copies = place == flow and not walk.attr(node, "allowzero")
    if sizes[axis].number == -1 or (sizes[axis].number == 0 and axis == flow.axis):
        return
    new: list[int] = []
    for n, size in enumerate(sizes):
        number = size.number
        if number is None or (number == -1 and not copies):
            number = walk.fixed(node.outputs[0])[n]
        new.append(number)
    new[axis] = 0 if copies else -1
    walk.replace_input(node, 1, lambda: walk.constant(new, target))


@follows("Flatten")
def flatten(walk: Walk, node: Node) -> None:
    """Dims in front of the axis, and those behind, become one each."""
    x = node.inputs[0]
    flow, shape = walk.batched(x), walk.shape(x)
    axis = int(walk.attr(node, "axis"))
    axis = axis + len(shape) if axis < 0 else axis
    start, end = (0, axis) if flow.axis < axis else (axis, len(shape))
    around = [*shape[start : flow.axis], *shape[flow.axis + 1 : end]]
    if any(d != 1 for d in shape[start : flow.axis]) or not all(isinstance(d, int) for d in around):
        raise NotApplicable(f"it mixes the batch of '{x.name}' with other dims")
    inside = prod(d for d in around if isinstance(d, int))
    walk.set(node.outputs[0], 0 if flow.axis < axis else 1, flow.inner * inside)


@follows("Unsqueeze", "Squeeze")
def squeeze(walk: Walk, node: Node) -> None:
    """Dims of 1 come and go; of a vector of sizes nothing changes."""
    x, y = node.inputs[0], node.outputs[0]
    if id(x) in walk.vectors:
        walk.sizes(y, walk.vectors[id(x)])
        return
    flow, axes, rank = walk.batched(x), walk.ints(node, 1, "axes"), walk.rank(x)
    if node.op == "Unsqueeze":
        new = {a % (rank + len(axes or [])) for a in axes or []}
        kept = [n for n in range(rank + len(new)) if n not in new]
        walk.set(y, kept[flow.axis], flow.inner)
        return
    if axes is None:
        axes = [n for n, d in enumerate(walk.fixed(x)) if d == 1]
    gone = {a % rank for a in axes}
    if flow.axis in gone:
        raise NotApplicable("it takes the batch away, which is 1")
    walk.set(y, flow.axis - sum(a < flow.axis for a in gone), flow.inner)


@follows("Shape")
def shape(walk: Walk, node: Node) -> None:
    """A vector of sizes, the batch among them."""
    flow = walk.batched(node.inputs[0])
    dims = walk.shape(node.inputs[0])
    found = [
        Size(flow.inner, True) if n == flow.axis else Size(d if isinstance(d, int) else None)
        for n, d in enumerate(dims)
    ]
    walk.sizes(node.outputs[0], found[walk.attr(node, "start", 0) : walk.attr(node, "end")])


@follows("ConstantOfShape")
def constant_of_shape(walk: Walk, node: Node) -> None:
    """One value in as many rows as the batch has."""
    sizes = walk.vectors.get(id(node.inputs[0]))
    if sizes is None:
        raise NotApplicable("its shape is computed from the values of the batch")
    places = [n for n, s in enumerate(sizes) if s.batch]
    if len(places) != 1:
        raise NotApplicable("its shape has the batch twice")
    walk.set(node.outputs[0], places[0], sizes[places[0]].number or 1)


@follows("Expand")
def expand(walk: Walk, node: Node) -> None:
    """Dims of 1 are repeated: a size that is the batch is left to the input, or makes the rows."""
    x, target = node.inputs
    sizes, flow, shape_ = _target(walk, target), walk.flow(x), walk.shape(x)
    rank = max(len(sizes), len(shape_))
    if flow is None:
        place = next((n for n, s in enumerate(sizes) if s.batch), 0)
        own = place - (rank - len(shape_)) + rank - len(sizes)
        if sum(s.batch for s in sizes) != 1 or (own >= 0 and shape_[own] != 1):
            raise NotApplicable("its shape has the batch where its input has other rows")
        walk.set(node.outputs[0], place + rank - len(sizes), sizes[place].number or 1)
        return
    axis = rank - len(shape_) + flow.axis
    place = axis - (rank - len(sizes))
    walk.set(node.outputs[0], axis, flow.inner)
    if place < 0 or sizes[place] in (Size(1), Size(flow.inner, True)):
        return
    if sizes[place] != Size(walk.size * flow.inner) or any(s.number is None or s.batch for s in sizes):
        raise NotApplicable("it repeats the batch")
    new = [s.number if n != place else 1 for n, s in enumerate(sizes)]
    walk.replace_input(node, 1, lambda: walk.constant([n or 0 for n in new], target))


@follows("Tile")
def tile(walk: Walk, node: Node) -> None:
    """Other axes are repeated."""
    walk.only(node, 0)
    flow, repeats = walk.batched(node.inputs[0]), walk.ints(node, 1, "repeats") or []
    if repeats[flow.axis] != 1:
        raise NotApplicable("it repeats the batch")
    walk.set(node.outputs[0], flow.axis, flow.inner)
