"""What a verification would take in memory, before anything large is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import ModelProto

from graphkit.compare import pairing
from graphkit.run import outline
from graphkit.run.shapes import Shape
from graphkit.run.uses import facts

COPIES = 3  # ONNX Runtime holds the bytes, the parsed message and the tensors made from it
COMPARED = 6  # the copies in double that a comparison makes, over float32
FLAG = "--verify-memory"


def of_weights(inline: int, external: int) -> int:
    """Bytes that one loaded model takes: its own bytes three times over, external data once."""
    return COPIES * inline + external


def tensor_sizes(model: ModelProto, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Bytes of each tensor whose shape follows from these input shapes; unknown ones are left out."""
    found = facts(model, shapes, outline.constants(model))
    sizes = {}
    for name in found.types:
        shape = found.shape(name)
        if shape is not None:
            count = 1
            for n in shape:
                count *= n
            sizes[name] = count * max(outline.item_bits(found.elem_type(name)), 8) // 8
    return sizes


def of_run(model: ModelProto, shapes: Mapping[str, Shape], exposed: Sequence[str]) -> int:
    """The most that is alive at once, the tensors read out of both models, and room to compare the largest.

    A tensor of unknown size counts nothing.
    """
    sizes = tensor_sizes(model, shapes)
    outputs = [o.name for o in model.graph.output]
    read = sum(sizes.get(n, 0) for n in {*outputs, *exposed})
    largest = max((sizes.get(n, 0) for n in outputs), default=0)
    return _alive(model, sizes) + 2 * read + COMPARED * largest


def _alive(model: ModelProto, sizes: Mapping[str, int]) -> int:
    """Bytes of inputs and activations at the worst moment, each freed after its last reader."""
    last = {name: number for number, node in enumerate(model.graph.node) for name in pairing.reads(node)}
    alive = most = sum(sizes.get(i.name, 0) for i in model.graph.input)
    made: set[str] = set()
    for number, node in enumerate(model.graph.node):
        made.update(name for name in node.output if name)
        alive += sum(sizes.get(n, 0) for n in node.output if n)
        most = max(most, alive)
        done = {n for n in (*pairing.reads(node), *node.output) if n in made and last.get(n, -1) <= number}
        made -= done
        alive -= sum(sizes.get(n, 0) for n in done)
    return most


def refusal(estimate: int, limit: int) -> str:
    """Why a model over the limit was not run, and the flag to raise."""
    return (
        f"running it would take about {_size(estimate)} of memory, over the limit of {_size(limit)}; "
        f"raise it with {FLAG} {_ceil_gib(estimate)}G"
    )


def _size(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 29 else f"{count / (1 << 20):.1f} MiB"


def _ceil_gib(count: int) -> int:
    return -(-count // (1 << 30))


def total(parts: Sequence[bytes | memoryview]) -> int:
    """Bytes in all the parts."""
    return sum(len(p) for p in parts)
