"""Mutations that ask for a flood with few bytes: giant results, loops, sparse tensors of absurd dims."""

from __future__ import annotations

from collections.abc import Sequence

from _mutate_messages import HUGE, Random
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper


def ints(model: ModelProto, name: str, *values: int) -> str:
    """An int64 initializer."""
    model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
    return name


def giant(model: ModelProto, rng: Random) -> None:
    """Few bytes that ask for a flood, and something reads it."""
    n = rng.choice((1 << 14, 1 << 17, 1 << 20, 1 << 24, 1 << 28, 1 << 31, 1 << 40, 1 << 62))
    graph, tag = model.graph, f"fuzz{rng.randrange(1 << 30)}"
    one = f"{tag}_one"
    graph.initializer.append(helper.make_tensor(one, TensorProto.FLOAT, [1, 1], [1.0]))
    wide = rng.choice(([n], [n, n], [1, n, n]))
    kind = rng.choice(
        ("ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Loop", "Outer", "Double", "OneHot")
    )
    made: list[NodeProto]
    if kind == "ConstantOfShape":
        made = [helper.make_node(kind, [ints(model, f"{tag}_s", *wide)], [tag])]
    elif kind == "Expand":
        made = [helper.make_node(kind, [one, ints(model, f"{tag}_s", *wide)], [tag])]
    elif kind == "Tile":
        made = [helper.make_node(kind, [one, ints(model, f"{tag}_s", n, n)], [tag])]
    elif kind == "Range":
        parts = [f"{tag}_{i}" for i in range(3)]
        for part, value in zip(parts, (0, n, 1), strict=True):
            graph.initializer.append(helper.make_tensor(part, TensorProto.INT64, [], [value]))
        made = [helper.make_node(kind, parts, [tag])]
    elif kind == "Pad":
        made = [helper.make_node(kind, [one, ints(model, f"{tag}_s", n, 0, n, 0)], [tag])]
    elif kind == "Resize":
        made = [helper.make_node(kind, [one, "", "", ints(model, f"{tag}_s", n, n)], [tag], mode="nearest")]
    elif kind == "Outer":
        a, b = ints(model, f"{tag}_a", *range(2000)), f"{tag}_b"
        graph.initializer.append(helper.make_tensor(b, TensorProto.INT64, [2000, 1], list(range(2000))))
        made = [
            helper.make_node("Mul", [a, b], [f"{tag}_m"]),
            helper.make_node("Unsqueeze", [f"{tag}_m", ints(model, f"{tag}_x", 2, 3)], [f"{tag}_u"]),
        ]
        made += [helper.make_node("Mul", [f"{tag}_u", b], [tag])]
    elif kind == "Double":
        made = [helper.make_node("Concat", [one] * 2, [f"{tag}_0"], axis=0)]
        made += [
            helper.make_node("Concat", [f"{tag}_{i}"] * 2, [f"{tag}_{i + 1}"], axis=0)
            for i in range(rng.choice((20, 30, 40)))
        ]
        made.append(helper.make_node("Identity", [made[-1].output[0]], [tag]))
    elif kind == "OneHot":
        depth = ints(model, f"{tag}_d", n)
        made = [
            helper.make_node(
                kind, [ints(model, f"{tag}_i", *range(64)), depth, ints(model, f"{tag}_v", 0, 1)], [tag]
            )
        ]
    else:
        made = loop(model, tag, n)
    use(model, rng, made, tag)


def loop(model: ModelProto, tag: str, count: int) -> list[NodeProto]:
    """A loop of many steps."""
    count_in = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    go_on, same = (helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in "cd")
    value, result = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1]) for n in "vw")
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Neg", ["v"], ["w"])],
        "body",
        [count_in, go_on, value],
        [same, result],
    )
    model.graph.initializer.append(helper.make_tensor(f"{tag}_n", TensorProto.INT64, [], [count]))
    return [helper.make_node("Loop", [f"{tag}_n", "", f"{tag}_one"], [tag], body=body)]


def use(model: ModelProto, rng: Random, made: Sequence[NodeProto], name: str) -> None:
    """Put nodes first in the graph, and let a node or an output read the result."""
    graph = model.graph
    old = list(graph.node)
    readers = [n for n in old if n.input]
    if readers and rng.random() < 0.6:
        node = rng.choice(readers)
        node.input[rng.randrange(len(node.input))] = name
    else:
        graph.output.add().name = name
    del graph.node[:]
    graph.node.extend([*made, *old])


def sparse(model: ModelProto, rng: Random) -> None:
    """A few values in a tensor of absurd dims."""
    tag, n = (
        f"fuzz{rng.randrange(1 << 30)}",
        rng.choice((1 << 16, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, -1, 0)),
    )
    shape = [n] * rng.choice((1, 2, 3))
    values = helper.make_tensor(tag, TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = helper.make_tensor(
        "", TensorProto.INT64, [2], [0, rng.choice((1, n - 1, *HUGE))] if n < 1 << 63 else [0, 1]
    )
    if rng.random() < 0.5:
        model.graph.sparse_initializer.add(values=values, indices=indices, dims=shape)
        made: list[NodeProto] = []
    else:
        values.name = ""
        node = NodeProto(op_type="Constant", output=[tag])
        entry = node.attribute.add()
        entry.name, entry.type = "sparse_value", AttributeProto.SPARSE_TENSOR
        entry.sparse_tensor.values.CopyFrom(values)
        entry.sparse_tensor.indices.CopyFrom(indices)
        entry.sparse_tensor.dims[:] = shape
        made = [node]
    use(model, rng, made, tag)
