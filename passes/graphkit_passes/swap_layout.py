"""The ``swap-layout`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphkit import BadOption, Bridge, Graph, Pass, Tally, rest
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit.model.surgeon import Variable
from graphkit.rewrite.suggest import did_you_mean
from graphkit_passes._edit import (
    Names,
    Types,
    defaults,
    detach,
    is_default,
    is_tensor,
    lead,
    successor,
    trail,
)

Values = Mapping[str, np.ndarray[Any, Any]]


class SwapLayout(Pass):
    """Let a caller give an input, or take an output, with its channels last instead of first, or the reverse.

    `swap-layout:images=nhwc` declares an input that was NCHW as NHWC, and transposes it inside; `=nchw` is
    for one that was NHWC. An output is transposed at the end. Tensors of any rank from 3 on will do: `nhwc`
    means channels last, `nchw` channels behind the batch. The Transpose stands behind the Cast of an input,
    and in front of that of an output: TensorRT wants a uint8 to be cast first. What is asked for is done
    already where such a Transpose is all that reads the input, or makes the output, and where a Conv, pooling
    or normalization there tells that it is NCHW.

    ## Why
    Cameras, decoders and most image libraries give height, width, channel; PyTorch's models want the channels
    in front, TensorFlow's behind. A copy on the host costs more than a Transpose inside, which TensorRT does
    while it reads the input.

    ## Example
    `swap-layout:x=nhwc` on
    ```
    (float[1,3,8,8] x) => (float[1,4,6,6] y)
    y = Conv (x, w)
    ```
    gives
    ```
    (float[1,8,8,3] x) => (float[1,4,6,6] y)
    x_nchw = Transpose <perm = [0, 3, 1, 2]> (x)
    y = Conv (x_nchw, w)
    ```

    ## When it refuses
    - The rank is not known, or below 3, or it is no tensor.
    - An input has a default in the file.

    It stops, with nothing changed, when a name is no input or output.

    ## Issues
    [TensorRT#3985](https://github.com/NVIDIA/TensorRT/issues/3985)

    ## Source
    [Transpose](https://onnx.ai/onnx/operators/onnx__Transpose.html)
    """

    name = "swap-layout"
    group = "edit"

    layouts: Mapping[str, str] = rest(
        help="what the caller gives or takes: nhwc or nchw", metavar="NAME=nhwc"
    )

    def __post_init__(self) -> None:
        for name, layout in self.layouts.items():
            if layout not in ("nhwc", "nchw"):
                hint = did_you_mean(layout, ("nhwc", "nchw")) or "write nhwc or nchw"
                raise BadOption(f"swap-layout: {name}={layout} is no layout; {hint}")
        if not self.layouts:
            raise BadOption("swap-layout names no input or output; write swap-layout:images=nhwc")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Put in one Transpose for each end that has another layout."""
        ends = {t.name: t for t in (*graph.outputs, *defaults(graph), *graph.inputs)}
        inputs, types = {t.name for t in graph.inputs}, Types(graph)
        swapped: dict[str, list[int]] = {}
        for name, layout in self.layouts.items():
            if name not in ends:
                raise Names(graph, self.name).unknown("input or output", name, ends)
            shape = _shape(types, ends[name], name in inputs)
            reason = _problem(graph, ends[name], shape)
            if reason or shape is None:
                tally.refuse(graph, ends[name], reason)
                continue
            swap = _Swap(graph, layout, shape)
            done = swap.input(ends[name]) if name in inputs else swap.output(ends[name])
            if done:
                swapped[name] = swap.inward if name in inputs else swap.outward
            else:
                tally.note(f"'{name}' is {layout} already")
        self._tell(graph, tally, swapped, inputs)

    def _tell(self, graph: Graph, tally: Tally, swapped: Mapping[str, list[int]], inputs: set[str]) -> None:
        if not swapped:
            return
        outputs = [t.name for t in graph.outputs]
        given = {n: p for n, p in swapped.items() if n in inputs}
        made = {n: p for n, p in swapped.items() if n not in inputs}

        def feeds(new: Values) -> list[Values]:
            return [{n: np.transpose(v, given[n]) if n in given else v for n, v in new.items()}]

        def expected(rows: Sequence[Values]) -> Values:
            return {n: np.transpose(rows[0][n], made[n]) if n in made else rows[0][n] for n in outputs}

        tally.rewrite(len(swapped))
        told = ", ".join(f"'{n}' is {self.layouts[n]}" for n in swapped)
        tally.bridge(Bridge(says=told, feeds=feeds if given else None, outputs=expected if made else None))


def _shape(types: Types, tensor: Tensor, is_input: bool) -> list[Any] | None:
    """The shape of an input is what is declared; of an output, what is inferred."""
    if not is_tensor(tensor):
        return None
    if is_input:
        return None if tensor.shape is None else list(tensor.shape)
    return types.shape(tensor)


def _problem(graph: Graph, tensor: Tensor, shape: Sequence[Any] | None) -> str:
    if is_default(graph, tensor):
        return "it has a default in the file"
    if shape is None:
        return "its rank is not known, or it is no tensor"
    if len(shape) < 3:
        return f"it has {len(shape)} dims; a layout needs a batch, channels, and at least one more"
    if any(t is tensor for t in graph.inputs) and any(t is tensor for t in graph.outputs):
        return "it is an input and an output at once"
    return ""


class _Swap:
    """One end that is to have another layout; ``shape`` is what it has now."""

    def __init__(self, graph: Graph, layout: str, shape: Sequence[Any]) -> None:
        rank = len(shape)
        last, second = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
        self.graph, self.layout, self.other = graph, layout, _OTHER[layout]
        self.outward, self.inward = (last, second) if layout == "nhwc" else (second, last)
        """The permutations from the model's layout to the caller's, and back."""
        self.shape = [shape[i] for i in self.outward]

    def input(self, tensor: Tensor) -> bool:
        """Transpose an input, behind the Cast if there is one; False when it has that layout."""
        readers = self.graph.consumers(tensor)
        cast = readers[0] if len(readers) == 1 and _is(readers[0], "Cast") else None
        first = tensor if cast is None or all(n is not cast for n in self.graph.nodes) else cast.outputs[0]
        if self._has_it(self.graph.consumers(first), self.inward):
            return False
        if first is tensor:
            given = successor(self.graph, tensor, f"{tensor.name}_{self.other}")
            given.dtype, given.shape = tensor.dtype, self.shape
            self.graph.inputs[:] = [given if t is tensor else t for t in self.graph.inputs]
        else:
            tensor.shape = self.shape
            given = detach(self.graph, first, f"{first.name}_{self.layout}")
        lead(self.graph, "Transpose", given, first, {"perm": self.inward})
        return True

    def output(self, tensor: Tensor) -> bool:
        """Transpose an output, in front of the Cast if there is one; False when it has that layout."""
        maker = self.graph.producer(tensor)
        alone = maker is not None and _is(maker, "Cast") and not self.graph.consumers(tensor)
        last = maker.inputs[0] if maker is not None and alone else tensor
        if last.inputs and self._has_it(last.inputs, self.outward):
            return False
        if last is tensor or maker is None:
            made = successor(self.graph, tensor, f"{tensor.name}_{self.other}")
            made.dtype, made.shape = tensor.dtype, self.shape
            self.graph.outputs[:] = [made if t is tensor else t for t in self.graph.outputs]
        else:
            tensor.shape = self.shape
            made = Variable(self.graph.model.fresh_name(f"{last.name}_{self.layout}"))
            self.graph.rewire(maker, last, made)
        trail(self.graph, "Transpose", last, made, {"perm": self.outward})
        return True

    def _has_it(self, nodes: Sequence[Node], perm: list[int]) -> bool:
        """Whether the nodes at an end say that it has the layout: they transpose it, or need it so."""
        if self.layout == "nchw" and any(n.op in _CHANNELS_FIRST and not domain_of(n) for n in nodes):
            return True
        return bool(nodes) and all(
            _is(n, "Transpose") and attribute(self.graph, n, "perm") == perm for n in nodes
        )


def _is(node: Node, op: str) -> bool:
    return bool(node.op == op and not domain_of(node))


_OTHER = {"nhwc": "nchw", "nchw": "nhwc"}
_CHANNELS_FIRST = frozenset(
    ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization", "InstanceNormalization"]
)
