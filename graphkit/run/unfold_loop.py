"""Loop and Scan, unrolled: one copy of the body for each iteration that this feed makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import GraphProto, NodeProto

from graphkit.run import outline
from graphkit.run.flat import NODES, Flat, Whole
from graphkit.run.scoping import Scope, name_of, renamed

ITERATIONS = 512
Body = Callable[[GraphProto, Scope, Sequence[str]], list[tuple[str, str]]]


def loop(flat: Flat, body: Body, node: NodeProto, scope: Scope) -> None:
    """Unroll a Loop; Whole when it runs too often, or not at all with something to stack."""
    graph = outline.attribute(node, "body")
    states = len(node.input) - 2
    if any(i.type.HasField("optional_type") for i in graph.input):
        raise Whole("it carries an optional, whose type changes when it is unrolled")
    count = _trips(flat, node, graph, scope)
    _check(flat, graph, count, stacks=len(graph.output) - 1 > states)
    first = scope.flat(node.input[1]) if node.input[1] else flat.constant("true", np.asarray(True))
    carried = [first, *(scope.flat(n) for n in node.input[2:])]
    outputs = [flat.declare(o, scope) for o in node.output]
    outputs += [""] * (len(graph.output) - 1 - len(outputs))
    stacked: list[list[str]] = [[] for _ in graph.output[1 + states :]]
    for number in range(count):
        names = dict(scope.names or {})
        rank = len(graph.input[0].type.tensor_type.shape.dim)
        counter = np.full((1,) * rank, number, np.int64)
        names[graph.input[0].name] = flat.constant(f"{graph.input[0].name}.{number}", counter)
        names.update({i.name: flat_name for i, flat_name in zip(graph.input[1:], carried, strict=True)})
        ends = outputs[:states] if number == count - 1 else [""] * states
        found = _iteration(flat, body, graph, node, scope, names, ["", *ends])
        carried = found[: 1 + states]
        for parts, name in zip(stacked, found[1 + states :], strict=True):
            parts.append(name)
    said = flat.said(node, scope)
    flat.deliver(zip(carried[1:], outputs[:states], strict=True), said)
    for parts, out in zip(stacked, outputs[states:], strict=True):
        if out:
            stack(flat, parts, out, 0, said)


def scan(flat: Flat, body: Body, node: NodeProto, scope: Scope) -> None:
    """Unroll a Scan of opset 9 or newer."""
    if flat.opset < 9:
        raise Whole("Scan before opset 9 has a batch dimension")
    graph = outline.attribute(node, "body")
    many = int(outline.attribute(node, "num_scan_inputs"))
    states = len(node.input) - many
    sources = [scope.flat(n) for n in node.input[states:]]
    results = len(graph.output) - states
    axes, ways = (_list(node, f"scan_input_{what}", many) for what in ("axes", "directions"))
    out_axes, out_ways = (_list(node, f"scan_output_{what}", results) for what in ("axes", "directions"))
    shapes = [flat.shape(s) for s in sources]
    axes = [a % len(s) for a, s in zip(axes, shapes, strict=True)]
    count = shapes[0][axes[0]]
    _check(flat, graph, count, stacks=results > 0)
    outputs = [flat.declare(o, scope) for o in node.output]
    carried, said = [scope.flat(n) for n in node.input[:states]], flat.said(node, scope)
    stacked: list[list[str]] = [[] for _ in range(results)]
    for number in range(count):
        names = dict(scope.names or {})
        slices = []
        for place, source in enumerate(sources):
            at = count - 1 - number if ways[place] else number
            index, inner = flat.constant("index", np.asarray(at, np.int64)), graph.input[states + place].name
            slices.append(
                flat.emit("Gather", [source, index], [flat.fresh(inner)], said, number, axis=axes[place])
            )
        names.update({i.name: n for i, n in zip(graph.input, [*carried, *slices], strict=True)})
        ends = outputs[:states] if number == count - 1 else [""] * states
        found = _iteration(flat, body, graph, node, scope, names, ends)
        carried = found[:states]
        for parts, name in zip(stacked, found[states:], strict=True):
            parts.append(name)
    flat.deliver(zip(carried, outputs[:states], strict=True), said)
    for place, (parts, out) in enumerate(zip(stacked, outputs[states:], strict=True)):
        if out:
            stack(flat, parts[::-1] if out_ways[place] else parts, out, out_axes[place], said)


def _iteration(
    flat: Flat,
    body: Body,
    graph: GraphProto,
    node: NodeProto,
    scope: Scope,
    names: dict[str, str],
    ends: Sequence[str],
) -> list[str]:
    """One copy of the body; gives the flat names of its results."""
    step = (graph.name, "body", name_of(node), node.op_type)
    inner = scope.inner(step, looped=True, names=names, targets=None)
    wanted = [*ends, *([""] * (len(graph.output) - len(ends)))]
    return [found for found, _ in body(graph, inner, wanted)]


def _trips(flat: Flat, node: NodeProto, graph: GraphProto, scope: Scope) -> int:
    """How often the loop runs: counted by one more output of it, which stacks one number a trip."""
    probe = renamed(node, scope.names or {})
    inner = outline.attribute(probe, "body")
    count, each = flat.fresh("trips"), "graphkit.trip"
    for attribute in probe.attribute:
        if attribute.name == "body":
            inner = attribute.g
    inner.node.add(op_type="Identity", input=[inner.input[0].name], output=[each])
    added = inner.output.add()
    added.CopyFrom(inner.input[0])
    added.name = each
    names = [flat.fresh(o or "unused") for o in node.output]
    names += [flat.fresh("unused") for _ in range(len(graph.output) - 1 - len(names))]
    del probe.output[:]
    probe.output.extend([*names, count])
    return int(flat.values([probe], [count])[count].shape[0])


def _check(flat: Flat, graph: GraphProto, count: int, *, stacks: bool) -> None:
    if count > ITERATIONS:
        raise Whole(f"it runs {count} iterations, more than {ITERATIONS}")
    if len(flat.nodes) + count * (len(graph.node) + 1) > NODES:
        raise Whole(f"unrolled it comes to more than {NODES} nodes")
    if count == 0 and stacks:
        raise Whole("it runs no iteration, so the shapes of what it stacks are not known")


def stack(flat: Flat, parts: Sequence[str], out: str, axis: int, said: str) -> None:
    """Tensors side by side along a new axis."""
    lifted = [unsqueeze(flat, part, flat.fresh(f"{part}.row"), axis, said) for part in parts]
    flat.emit("Concat", lifted, [out], said, axis=axis)


def unsqueeze(flat: Flat, name: str, out: str, axis: int, said: str, step: int | None = None) -> str:
    """One more axis; an input from opset 13 on, an attribute before."""
    if flat.opset < 13:
        return flat.emit("Unsqueeze", [name], [out], said, step, axes=[axis])
    axes = flat.constant("axes", np.asarray([axis], np.int64))
    return flat.emit("Unsqueeze", [name, axes], [out], said, step)


def _list(node: NodeProto, name: str, count: int) -> list[int]:
    return list(outline.attribute(node, name) or [0] * count)
