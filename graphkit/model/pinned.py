"""Names used where GraphSurgeon cannot see: training graphs, and attributes that are lists of graphs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from graphkit.model import wire
from graphkit.model.messages import parse


def pinned_names(graphs: Iterable[onnx.GraphProto], training: Iterable[wire.Buffer]) -> frozenset[str]:
    """Every tensor name that those graphs and TrainingInfoProtos read; passes leave such tensors alone."""
    names: set[str] = set()
    stack = list(graphs)
    for view in training:
        info = parse(onnx.TrainingInfoProto, view)
        stack += [info.initialization, info.algorithm]
        for binding in (*info.initialization_binding, *info.update_binding):
            names.update((binding.key, binding.value))
    while stack:
        graph = stack.pop()
        names.update(o.name for o in graph.output)
        for node in graph.node:
            names.update(node.input)
            for attribute in node.attribute:
                stack.extend(attribute.graphs)
                if attribute.HasField("g"):
                    stack.append(attribute.g)
    return frozenset(names - {""})
