"""Mutations of a model as a protobuf message: it says absurd things about its tensors, nodes and files."""

from __future__ import annotations

import random
from collections.abc import Sequence

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper

Random = random.Random
HUGE = (-1, 0, -(1 << 63), (1 << 63) - 1, 1 << 62, 1 << 40, 1 << 32, (1 << 31) - 1, 1 << 31, 1 << 24, 100_000)
LOCATIONS = (
    *("../outside/secret.bin", "sub/../../outside/secret.bin", "/etc/passwd", "/dev/zero", "link.bin"),
    *("zero", "fifo", "sub", "", ".", "..", "weights.bin", "huge.bin", "model.onnx", "missing.bin", "a\0b"),
    *("C:\\windows\\system32", "~/x", "weights.bin/", "folder/secret.bin", "x" * 5000, "file:///etc/passwd"),
)
OPS = (
    *(
        "ConstantOfShape",
        "Expand",
        "Tile",
        "Range",
        "Pad",
        "Resize",
        "Loop",
        "If",
        "Scan",
        "Reshape",
        "Concat",
    ),
    *("Conv", "MatMul", "Gemm", "Sigmoid", "Mul", "Swish", "Cast", "Gather", "GatherND", "Slice", "Squeeze"),
    *("Unsqueeze", "Transpose", "Split", "SequenceAt", "SequenceConstruct", "ConcatFromSequence", "OneHot"),
    *("QuantizeLinear", "DequantizeLinear", "LayerNormalization", "BatchNormalization", "Where", "TopK"),
    *("NonMaxSuppression", "LSTM", "GridSample", "Shape", "Identity", "Einsum", "Constant", "NoSuchOp", ""),
)
NAMES = ("", " ", "a/b", "../x", "x" * 10_000, "\n", "\x00", "%s%n", "名前", "__proto__", "y", "x", "input")


def graphs(model: ModelProto) -> list[GraphProto]:
    """The main graph and those below it."""
    found, left = [], [model.graph]
    while left:
        graph = left.pop()
        found.append(graph)
        left += [
            g
            for n in graph.node
            for a in n.attribute
            for g in (*([a.g] if a.HasField("g") else []), *a.graphs)
        ]
    return found


def nodes(model: ModelProto) -> list[NodeProto]:
    """All nodes, those of functions too."""
    return [n for g in graphs(model) for n in g.node] + [n for f in model.functions for n in f.node]


def attributes(model: ModelProto) -> list[AttributeProto]:
    """All attributes."""
    return [a for n in nodes(model) for a in n.attribute]


def tensors(model: ModelProto) -> list[TensorProto]:
    """All constants."""
    found = [t for g in graphs(model) for t in g.initializer]
    found += [s for g in graphs(model) for t in g.sparse_initializer for s in (t.values, t.indices)]
    return found + [a.t for a in attributes(model) if a.HasField("t")]


def pick(rng: Random, found: Sequence[object]) -> object | None:
    """One of them, None when there is none."""
    return rng.choice(found) if found else None


def dims(model: ModelProto, rng: Random) -> None:
    """A tensor, an input or an annotation has an absurd dim, or another number of them."""
    shapes = [t.dims for t in tensors(model)]
    infos = [i for g in graphs(model) for i in (*g.input, *g.output, *g.value_info)]
    declared = [i.type.tensor_type.shape for i in infos if i.type.HasField("tensor_type")]
    if declared and rng.random() < 0.5:
        shape = rng.choice(declared)
        if shape.dim and rng.random() < 0.7:
            rng.choice(shape.dim).dim_value = rng.choice(HUGE)
        elif rng.random() < 0.5:
            shape.dim.add().dim_param = rng.choice(NAMES)
        else:
            del shape.dim[:]
    elif shapes:
        found = rng.choice(shapes)
        if found and rng.random() < 0.7:
            found[rng.randrange(len(found))] = rng.choice(HUGE)
        else:
            found.extend([rng.choice((1, 0, *HUGE))] * rng.choice((1, 2, 70)))


def dtypes(model: ModelProto, rng: Random) -> None:
    """A dtype is another, or none that exists."""
    code = rng.choice((*range(-1, 27), 99, 1 << 30))
    infos = [i for g in graphs(model) for i in (*g.input, *g.output, *g.value_info)]
    places = [*tensors(model), *infos]
    one = pick(rng, places)
    if isinstance(one, TensorProto):
        one.data_type = code
    elif one is not None:
        one.type.tensor_type.elem_type = code  # type: ignore[attr-defined]


def content(model: ModelProto, rng: Random) -> None:
    """A constant's data are of another field, of another length, or of another value."""
    tensor = pick(rng, tensors(model))
    if not isinstance(tensor, TensorProto):
        return
    how = rng.randrange(6)
    if how == 0:
        tensor.raw_data = rng.randbytes(rng.choice((0, 1, 7, 8, 64)))
    elif how == 1:
        tensor.string_data.extend([b"\xff", b"12"])
    elif how == 2:
        tensor.int64_data.extend([rng.choice(HUGE)] * rng.randint(1, 5))
    elif how == 3:
        tensor.float_data.extend([float("nan"), 1e38])
    elif how == 4:
        tensor.data_type = TensorProto.INT64
        count = rng.randint(1, 4)
        tensor.dims[:] = [count]
        tensor.raw_data = b"".join(rng.choice(HUGE).to_bytes(8, "little", signed=True) for _ in range(count))
    else:
        tensor.ClearField("raw_data")


def strings(model: ModelProto, rng: Random) -> None:
    """Strings where numbers belong."""
    tensor = pick(rng, tensors(model))
    if isinstance(tensor, TensorProto):
        name, shape = tensor.name, list(tensor.dims)
        tensor.Clear()
        tensor.name, tensor.data_type = name, TensorProto.STRING
        tensor.dims[:] = shape
        tensor.string_data.extend([b"one"] * rng.choice((1, 2, 16)))


def attribute(model: ModelProto, rng: Random) -> None:
    """An attribute has another type, another value, another name, or is gone."""
    one = pick(rng, attributes(model))
    if not isinstance(one, AttributeProto):
        return
    how = rng.randrange(7)
    if how == 0:
        one.type = rng.choice((0, *range(1, 15)))
    elif how == 1:
        one.i, one.type = rng.choice(HUGE), rng.choice((one.type, AttributeProto.INT))
    elif how == 2:
        one.ints[:] = [rng.choice((1, 2, *HUGE)) for _ in range(rng.choice((0, 1, 2, 4, 100)))]
    elif how == 3:
        one.s, one.type = b"\xffno number", rng.choice((one.type, AttributeProto.STRING))
    elif how == 4:
        one.name = rng.choice(NAMES)
    elif how == 5:
        one.ref_attr_name = rng.choice(NAMES)
    else:
        one.Clear()


def names(model: ModelProto, rng: Random) -> None:
    """A name is empty, that of something else, or odd."""
    node = pick(rng, nodes(model))
    graph = rng.choice(graphs(model))
    known = [n for x in nodes(model) for n in (*x.input, *x.output)] + [t.name for t in graph.initializer]
    name = rng.choice((*NAMES, *known))
    values = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    if isinstance(node, NodeProto) and rng.random() < 0.7:
        field = rng.choice((node.input, node.output))
        if field and rng.random() < 0.8:
            field[rng.randrange(len(field))] = name
        else:
            node.name = name
    elif values:
        rng.choice(values).name = name


def external(model: ModelProto, rng: Random) -> None:
    """A constant lies in a file that is none of the model's, or at a place that the file has not."""
    tensor = pick(rng, tensors(model))
    if not isinstance(tensor, TensorProto):
        return
    if rng.random() < 0.8:
        tensor.ClearField("raw_data")
        tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key in ("location", "offset", "length", "checksum"):
        if rng.random() < 0.8 or key == "location":
            entry = tensor.external_data.add()
            entry.key = key
            numbers = ("0", "16", "-1", "1e9", "x", "", str(1 << 62), str(1 << 70), "9" * 5000)
            entry.value = rng.choice(LOCATIONS if key == "location" else numbers)
    if rng.random() < 0.3:
        tensor.dims[:] = [rng.choice((1 << 10, 1 << 28, 1 << 29, 1 << 40))]


def nest(model: ModelProto, rng: Random) -> None:
    """The graph lies in branches in branches."""
    if not model.graph.output:
        return
    name = model.graph.output[0].name
    branch = NodeProto()
    for depth in range(rng.choice((1, 3, 10, 25, 33, 60, 120))):
        inner = GraphProto(name=f"level{depth}")
        if depth == 0:
            inner.node.extend(model.graph.node)
            inner.output.extend(model.graph.output[:1])
        else:
            inner.node.extend([branch])
            inner.output.add().name = name
        branch = helper.make_node("If", ["fuzz_cond"], [name])
        for key in ("then_branch", "else_branch"):
            if depth < 6 or key == "then_branch":
                entry = branch.attribute.add()
                entry.name, entry.type = key, AttributeProto.GRAPH
                entry.g.CopyFrom(inner)
        if branch.ByteSize() > 200_000:
            break
    del model.graph.node[:]
    model.graph.node.extend([branch])
    model.graph.initializer.add(name="fuzz_cond", data_type=TensorProto.BOOL, int32_data=[1])


def cycle(model: ModelProto, rng: Random) -> None:
    """A node reads what follows from it."""
    found = list(rng.choice(graphs(model)).node)
    if found:
        node, later = rng.choice(found), rng.choice(found)
        if later.output:
            made = rng.choice(later.output)
            if node.input:
                node.input[rng.randrange(len(node.input))] = made
            else:
                node.input.append(made)


def ops(model: ModelProto, rng: Random) -> None:
    """A node is of another type, domain or overload."""
    node = pick(rng, nodes(model))
    if isinstance(node, NodeProto):
        if rng.random() < 0.7:
            node.op_type = rng.choice(OPS)
        else:
            node.domain = rng.choice(("ai.onnx", "ai.onnx.ml", "com.microsoft", "no.such", "../x.so", ""))


def opsets(model: ModelProto, rng: Random) -> None:
    """Another opset, none, or two."""
    version = rng.choice((-1, 0, 1, 5, 7, 9, 10, 11, 12, 13, 15, 17, 18, 19, 21, 24, 25, 26, 1000, 1 << 40))
    how = rng.randrange(4)
    if how == 0:
        model.ir_version = rng.choice((0, 1, 3, 4, 99, 1 << 40))
    elif how == 1:
        del model.opset_import[:]
    elif how == 2:
        model.opset_import.add(domain=rng.choice(("", "ai.onnx", "com.microsoft")), version=version)
    elif model.opset_import:
        rng.choice(model.opset_import).version = version


def functions(model: ModelProto, rng: Random) -> None:
    """Functions that call themselves, each other, or twice as often at each level."""
    count = rng.choice((1, 2, 5, 30))
    for i in range(count):
        to = rng.choice((i, (i + 1) % count, i + 1))
        calls = [
            helper.make_node(f"F{to}", ["a"], ["b"], domain="fuzz"),
            helper.make_node(f"F{to}", ["b"], ["c"], domain="fuzz"),
        ]
        body = calls if to < count else [helper.make_node("Neg", ["a"], ["c"])]
        model.functions.append(
            helper.make_function("fuzz", f"F{i}", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
        )
    model.opset_import.add(domain="fuzz", version=1)
    node = pick(rng, [n for n in model.graph.node if n.output])
    if isinstance(node, NodeProto):
        node.op_type, node.domain = "F0", "fuzz"
        del node.input[1:], node.output[1:], node.attribute[:]


def drop(model: ModelProto, rng: Random) -> None:
    """Something is gone, or there twice."""
    graph = rng.choice(graphs(model))
    field = rng.choice((graph.node, graph.initializer, graph.input, graph.output, graph.value_info))
    if field:
        at = rng.randrange(len(field))
        if rng.random() < 0.6:
            del field[at]
        else:
            field.append(field[at])


def arity(model: ModelProto, rng: Random) -> None:
    """A node has more or fewer inputs or outputs."""
    node = pick(rng, nodes(model))
    if isinstance(node, NodeProto):
        field = rng.choice((node.input, node.output))
        if field and rng.random() < 0.5:
            del field[rng.randrange(len(field)) :]
        else:
            field.extend([rng.choice(("", *field, "fuzz_more"))] * rng.choice((1, 3, 300)))
