"""What becomes of a batch in operators that compute: which axes they mix."""

from __future__ import annotations

from collections.abc import Sequence

from graphkit import NotApplicable
from graphkit.model.graph import Node, Tensor
from graphkit_passes._batch_flow import Flow, Size, Walk, follows

_UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Dropout Elu Erf Exp Floor
Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink
Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"""
_BROADCAST = """Add And BitwiseAnd BitwiseOr BitwiseXor Clip Div Equal Greater GreaterOrEqual Less LessOrEqual
Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"""
_FIRST = """AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalLpPool
GlobalMaxPool GroupNormalization InstanceNormalization LpPool MaxPool SpaceToDepth"""


@follows(*_UNARY.split())
def unary(walk: Walk, node: Node) -> None:
    """Element by element."""
    if id(node.inputs[0]) in walk.vectors:
        if node.op not in ("Cast", "Identity"):
            raise NotApplicable(f"it computes {node.op} of the batch")
        walk.sizes(node.outputs[0], walk.vectors[id(node.inputs[0])])
        return
    walk.only(node, 0)
    flow = walk.batched(node.inputs[0])
    for tensor in node.outputs:
        walk.set(tensor, flow.axis, flow.inner)


@follows(*_BROADCAST.split())
def broadcast(walk: Walk, node: Node) -> None:
    """Element by element, over several tensors."""
    given = [t for t in node.inputs if t.name]
    if any(id(t) in walk.vectors for t in given):
        walk.sizes(node.outputs[0], _product(walk, node))
        return
    rank = max(walk.rank(t) for t in given)
    found = aligned(walk, node, given, rank, 0)
    for tensor in node.outputs:
        walk.set(tensor, found.axis, found.inner)


def _product(walk: Walk, node: Node) -> list[Size]:
    """Sizes times or divided by whole numbers."""
    sizes, factors = (walk.vectors.get(id(t)) for t in node.inputs[:2])
    values = None if sizes is None else walk.graph.value(node.inputs[1])
    if sizes is None and factors is not None and node.op == "Mul":
        sizes, values = factors, walk.graph.value(node.inputs[0])
    if node.op not in ("Mul", "Div") or sizes is None or values is None or values.size != 1:
        raise NotApplicable(f"it computes {node.op} of the batch")
    factor = int(values.reshape(()))
    if node.op == "Mul":
        return [Size(s.number and s.number * factor, s.batch) for s in sizes]
    if any(s.batch and (s.number is None or s.number % factor) for s in sizes):
        raise NotApplicable("it divides the batch")
    return [Size(s.number and s.number // factor, s.batch) for s in sizes]


def aligned(walk: Walk, node: Node, given: Sequence[Tensor], rank: int, skipped: int) -> Flow:
    """Where tensors that broadcast to ``rank`` dims have the batch, counted in these.

    The others have one row there. ``skipped``: how many of the last dims do not broadcast.
    """
    found = {
        Flow(rank - walk.rank(t) + walk.batched(t).axis, walk.batched(t).inner)
        for t in given
        if walk.flow(t) is not None
    }
    if len(found) != 1 or any(f.axis >= rank - skipped for f in found):
        raise NotApplicable("its inputs have the batch on different axes")
    (flow,) = found
    for place, tensor in enumerate(node.inputs):
        axis = flow.axis - (rank - walk.rank(tensor)) if tensor.name else -1
        if axis < 0 or walk.flow(tensor) is not None or all(tensor is not t for t in given):
            continue
        if walk.shape(tensor)[axis] != 1:
            if walk.shape(tensor)[axis] != walk.size or flow.inner != 1:
                raise NotApplicable(f"dim {axis} of '{tensor.name}', which has no batch, is not 1")
            walk.replace_input(node, place, walk.single(tensor, axis))
    return flow


@follows(*_FIRST.split())
def first_axis(walk: Walk, node: Node) -> None:
    """Row by row of the first axis."""
    walk.only(node, 0)
    flow = walk.batched(node.inputs[0])
    if flow.axis:
        raise NotApplicable(f"'{node.inputs[0].name}' has the batch on axis {flow.axis}, not on the first")
    if node.op == "BatchNormalization" and any(t.name for t in node.outputs[1:]):
        raise NotApplicable("it trains: its statistics are those of the batch")
    if node.op == "MaxPool" and any(t.name for t in node.outputs[1:]):
        raise NotApplicable("its indices count through the batch")
    for tensor in node.outputs:
        walk.set(tensor, 0, flow.inner)


@follows("MatMul")
def matmul(walk: Walk, node: Node) -> None:
    """Rows of the left, columns of the right, and dims in front of both are apart."""
    a, b = node.inputs
    ranks = walk.rank(a), walk.rank(b)
    flows = walk.flow(a), walk.flow(b)
    y = node.outputs[0]
    if min(ranks) < 2:
        left = flows[0]
        if ranks[1] == 1 and left is not None and flows[1] is None and left.axis < ranks[0] - 1:
            walk.set(y, left.axis, left.inner)
            return
        raise NotApplicable("it is a product with a vector that has the batch")
    rank = max(ranks)
    behind = [None if f is None else r - f.axis for f, r in zip(flows, ranks, strict=True)]
    if behind == [2, None] and flows[0] is not None:
        walk.set(y, rank - 2, flows[0].inner)
    elif behind == [None, 1] and flows[1] is not None:
        walk.set(y, rank - 1, flows[1].inner)
    elif any(n in (1, 2) for n in behind):
        raise NotApplicable("it sums over the batch")
    else:
        flow = aligned(walk, node, [a, b], rank, 2)
        walk.set(y, flow.axis, flow.inner)


@follows("Gemm")
def gemm(walk: Walk, node: Node) -> None:
    """Rows of the left."""
    walk.only(node, 0, 2)
    flow = walk.batched(node.inputs[0])
    if flow.axis != (1 if walk.attr(node, "transA") else 0):
        raise NotApplicable("it sums over the batch")
    bias = walk.input(node, 2)
    if bias is not None and walk.rank(bias) == 2:
        _require_rows(walk, node, bias, flow)
    walk.set(node.outputs[0], 0, flow.inner)


def _require_rows(walk: Walk, node: Node, bias: Tensor, flow: Flow) -> None:
    own = walk.flow(bias)
    if own is not None and own != Flow(0, flow.inner):
        raise NotApplicable("its bias has the batch on another axis")
    if own is None and walk.shape(bias)[0] != 1:
        if walk.shape(bias)[0] != walk.size or flow.inner != 1:
            raise NotApplicable(f"'{bias.name}', which has no batch, has several rows")
        walk.replace_input(node, 2, walk.single(bias, 0))


@follows(
    "Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "CumSum", "LayerNormalization", "RMSNormalization"
)
def along(walk: Walk, node: Node) -> None:
    """Along one axis, or from one axis on."""
    walk.only(node, 0)
    flow, rank = walk.batched(node.inputs[0]), walk.rank(node.inputs[0])
    if node.op == "CumSum":
        (axis,) = walk.ints(node, 1, "axis") or [0]
    else:
        axis = int(walk.attr(node, "axis"))
    onward = "Normalization" in node.op and node.op != "LpNormalization"
    onward = onward or ("max" in node.op and walk.graph.opset < 13)
    if flow.axis == axis % rank or (onward and flow.axis > axis % rank):
        raise NotApplicable("it works along the batch")
    for tensor in node.outputs:
        walk.set(tensor, flow.axis, flow.inner)


@follows(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin",
)  # fmt: skip
def reduction(walk: Walk, node: Node) -> None:
    """Over some axes."""
    walk.only(node, 0)
    flow, rank = walk.batched(node.inputs[0]), walk.rank(node.inputs[0])
    axes = [int(walk.attr(node, "axis"))] if node.op.startswith("Arg") else walk.ints(node, 1, "axes")
    if not axes and walk.attr(node, "noop_with_empty_axes"):
        axes = []
    elif not axes:
        axes = list(range(rank))
    gone = {a % rank for a in axes}
    if flow.axis in gone:
        raise NotApplicable("it reduces the batch")
    kept = walk.attr(node, "keepdims", 1)
    walk.set(node.outputs[0], flow.axis - (0 if kept else sum(a < flow.axis for a in gone)), flow.inner)


@follows("TopK")
def top_k(walk: Walk, node: Node) -> None:
    """Along an axis."""
    walk.only(node, 0)
    flow = walk.batched(node.inputs[0])
    if flow.axis == int(walk.attr(node, "axis")) % walk.rank(node.inputs[0]):
        raise NotApplicable("it sorts the batch")
    for tensor in node.outputs:
        walk.set(tensor, flow.axis, flow.inner)


@follows("QuantizeLinear", "DequantizeLinear")
def quantization(walk: Walk, node: Node) -> None:
    """Element by element; scales along an axis are not along the batch."""
    walk.only(node, 0)
    flow = walk.batched(node.inputs[0])
    scales = walk.shape(node.inputs[1])
    rank = walk.rank(node.inputs[0])
    if any(d != 1 for d in scales) and int(walk.attr(node, "axis", 1)) % rank == flow.axis:
        raise NotApplicable("its scales are along the batch")
    walk.set(node.outputs[0], flow.axis, flow.inner)


@follows("LSTM", "GRU", "RNN")
def recurrent(walk: Walk, node: Node) -> None:
    """Sequence by sequence: x is [time, batch, size], initial states are [directions, batch, size]."""
    walk.only(node, 0, 5, 6)
    flow = walk.batched(node.inputs[0])
    if walk.attr(node, "layout") or flow != Flow(1) or walk.input(node, 4) is not None:
        raise NotApplicable("the batch is not on axis 1 of its input, or it has lengths of sequences")
    for place in (5, 6):
        state = walk.input(node, place)
        if state is not None and walk.flow(state) is None:
            walk.replace_input(node, place, walk.grown(state, 1, node))
        elif state is not None and walk.flow(state) != Flow(1):
            raise NotApplicable("an initial state has the batch on another axis")
    for place, tensor in enumerate(node.outputs):
        walk.set(tensor, 1 if place else 2)


@follows("Einsum")
def einsum(walk: Walk, node: Node) -> None:
    """A label that the result has."""
    equation = walk.attr(node, "equation")
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    left, arrow, result = text.partition("->")
    terms = left.split(",")
    flows = [walk.flow(t) for t in node.inputs]
    labels = {t[f.axis] for t, f in zip(terms, flows, strict=True) if f is not None and f.axis < len(t)}
    if not arrow or "." in text or len(labels) != 1 or result.count(next(iter(labels), "")) != 1:
        raise NotApplicable(f"'{text}' mixes the batch")
    (label,) = labels
    if any((label in t) != (f is not None) or t.count(label) > 1 for t, f in zip(terms, flows, strict=True)):
        raise NotApplicable(f"'{text}' has the batch in an input that has none")
    if any(f is not None and f.inner != 1 for f in flows):
        raise NotApplicable("the batch is in a dim with others")
    walk.set(node.outputs[0], result.index(label))
