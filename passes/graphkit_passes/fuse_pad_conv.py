"""The ``fuse-pad-conv`` pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphkit import Graph, NotApplicable, Pass, Tally
from graphkit.model.graph import Node, Tensor
from graphkit.model.operators import attribute, domain_of
from graphkit_passes._fusing import Fusing
from graphkit_passes._shared import FLOATS

_READERS = ("Conv", "MaxPool", "AveragePool")
_NOT_NEGATIVE = ("Relu", "Sigmoid", "Abs", "Exp", "Softmax", "Softplus", "HardSigmoid")


class FusePadConv(Pass):
    """Fold a Pad into the padding of the convolutions and pools behind it.

    ## Why
    Keras writes the padding of a strided convolution as a node of its own, and PyTorch does for `ZeroPad2d`.
    The node copies the whole tensor, and keeps a builder from fusing what lies before it with the
    convolution. Conv, MaxPool and AveragePool can pad by themselves.

    | the Pad | goes into |
    |---|---|
    | zeros | Conv; AveragePool that counts its padding, or has none yet (`count_include_pad` becomes 1) |
    | −∞ | MaxPool |
    | zeros, behind Relu, Sigmoid and others that are never negative | MaxPool |

    ## Example
    ```
    p = Pad (x, [0, 0, 0, 0, 0, 0, 1, 1])
    y = Conv <strides = [2, 2]> (p, w)
    ```
    becomes
    ```
    y = Conv <strides = [2, 2], pads = [0, 0, 1, 1]> (x, w)
    ```

    ## When it refuses
    - The Pad is not constant, pads with another value than the operator does, or in another mode.
    - It pads batch or channels, or crops.
    - Something else reads the padded tensor too, or the graph returns it.
    - The operator has `auto_pad` SAME_UPPER or SAME_LOWER, which depend on the size of the input.
    - A pool rounds its size up (`ceil_mode`), returns indices, or would pad as much as its kernel is wide.
    - An AveragePool has padding already that it does not count.

    ## Source
    [Pad](https://onnx.ai/onnx/operators/onnx__Pad.html) ·
    [AveragePool](https://onnx.ai/onnx/operators/onnx__AveragePool.html)
    """

    name = "fuse-pad-conv"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Fold every Pad all of whose readers can pad."""
        fusing = Fusing(graph, tally)
        fusing.run(frozenset({"Pad"}), lambda scope, node: _fuse(fusing, scope, node))


@dataclass(frozen=True)
class _Padding:
    """What a Pad does: elements at the begin and the end of each spatial axis, and their value."""

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    value: float


def _fuse(fusing: Fusing, graph: Graph, node: Node) -> bool:
    out = node.outputs[0]
    readers = list({id(n): n for n in out.outputs}.values())
    known = [n for n in readers if n.op in _READERS and not domain_of(n)]
    if not known or graph.opset < 7:
        return False
    here = all(fusing.is_here(graph, n) and _reads_once(n, out) for n in readers)
    if len(known) < len(readers) or not here or fusing.is_end(graph, out):
        raise NotApplicable(f"'{out.name}' is read elsewhere too, or returned")
    padding = _padding(fusing, graph, node)
    if not any(padding.begins + padding.ends):
        return False
    plans = [_plan(graph, n, padding, node.inputs[0]) for n in readers]
    inputs = list(node.inputs)
    for reader, attrs in zip(readers, plans, strict=True):
        reader.attrs.pop("auto_pad", None)
        reader.attrs.update(attrs)
        graph.rewire(reader, out, inputs[0])
    fusing.remove(graph, [node])
    fusing.drop(graph, inputs[1:])
    return True


def _reads_once(node: Node, tensor: Tensor) -> bool:
    return [i for i, t in enumerate(node.inputs) if t is tensor] == [0]


def _padding(fusing: Fusing, graph: Graph, node: Node) -> _Padding:
    """What the Pad does to the spatial axes; NotApplicable if it does anything else."""
    mode = attribute(graph, node, "mode")
    if mode not in ("constant", b"constant"):
        raise NotApplicable(f"its mode is {mode if isinstance(mode, str) else 'not known'}")
    if graph.opset < 11:
        pads, value = attribute(graph, node, "pads"), attribute(graph, node, "value")
    else:
        pads, value = _pads(fusing, graph, node), _value(fusing, graph, node)
    if not isinstance(pads, list) or not isinstance(value, float):
        raise NotApplicable("its pads are given by the caller of the function")
    if min(pads, default=0) < 0:
        raise NotApplicable("it crops: some of its pads are negative")
    half = len(pads) // 2
    if any(pads[:2]) or any(pads[half : half + 2]):
        raise NotApplicable("it pads the batch or the channels")
    return _Padding(tuple(pads[2:half]), tuple(pads[half + 2 :]), value)


def _pads(fusing: Fusing, graph: Graph, node: Node) -> list[int]:
    """The pads of all axes."""
    given = [int(v) for v in fusing.values(graph, node.inputs[1], "pads").reshape(-1)]
    if len(node.inputs) < 4 or not node.inputs[3].name:
        return given
    rank = fusing.known.rank(graph, node.inputs[0])
    if rank is None:
        raise NotApplicable(
            f"the rank of '{node.inputs[0].name}' is not known, and its pads are of some axes"
        )
    pads = [0] * (2 * rank)
    axes = [int(a) for a in fusing.values(graph, node.inputs[3], "axes").reshape(-1)]
    for place, axis in enumerate(axes):
        pads[axis % rank] = given[place]
        pads[axis % rank + rank] = given[place + len(axes)]
    return pads


def _value(fusing: Fusing, graph: Graph, node: Node) -> float:
    """What the Pad pads with."""
    if len(node.inputs) < 3 or not node.inputs[2].name:
        return 0.0
    value = fusing.values(graph, node.inputs[2], "value")
    if value.dtype.name not in FLOATS:
        raise NotApplicable(f"it pads {value.dtype.name}")
    return float(value.reshape(-1)[0])


def _plan(graph: Graph, node: Node, padding: _Padding, x: Tensor) -> dict[str, Any]:
    """The attributes with which ``node`` pads itself; NotApplicable if it cannot."""
    auto = attribute(graph, node, "auto_pad")
    if auto not in (None, "NOTSET", "VALID"):
        raise NotApplicable(
            f"the auto_pad of the {node.op} is {auto if isinstance(auto, str) else 'not known'}"
        )
    size = len(padding.begins)
    own = attribute(graph, node, "pads") or [0] * (2 * size)
    if auto == "VALID":
        own = [0] * (2 * size)
    if not isinstance(own, list) or len(own) != 2 * size:
        raise NotApplicable(f"the pads of the {node.op} are not known, or do not fit")
    pads = [a + b for a, b in zip(own, padding.begins + padding.ends, strict=True)]
    attrs: dict[str, Any] = {"pads": pads}
    if node.op == "Conv":
        if padding.value != 0:
            raise NotApplicable(f"it pads with {padding.value:g}, and a Conv with 0")
        return attrs
    _require_plain_pool(graph, node, pads)
    if node.op == "AveragePool":
        return attrs | _counted(graph, node, padding, any(own))
    if padding.value != -np.inf and not (padding.value == 0 and _never_negative(graph, node, x)):
        raise NotApplicable(f"it pads with {padding.value:g}, and a MaxPool with -inf")
    return attrs


def _require_plain_pool(graph: Graph, node: Node, pads: list[int]) -> None:
    if any(t.name for t in node.outputs[1:]):
        raise NotApplicable(f"the {node.op} returns indices too")
    if attribute(graph, node, "ceil_mode") not in (None, 0):
        raise NotApplicable(f"the {node.op} rounds its size up, by where its padding ends")
    kernel = attribute(graph, node, "kernel_shape")
    if not isinstance(kernel, list) or any(p >= k for p, k in zip(pads, kernel * 2, strict=True)):
        raise NotApplicable(f"it pads as much as the kernel of the {node.op} is wide")


def _counted(graph: Graph, node: Node, padding: _Padding, has_own: bool) -> dict[str, Any]:
    """An AveragePool counts what a Pad put there, so it has to count its own padding."""
    if padding.value != 0:
        raise NotApplicable(f"it pads with {padding.value:g}, and an AveragePool with 0")
    counts = attribute(graph, node, "count_include_pad")
    if counts != 1 and (counts != 0 or has_own):
        raise NotApplicable("the AveragePool has padding already, and does not count it")
    return {"count_include_pad": 1}


def _never_negative(graph: Graph, node: Node, x: Tensor) -> bool:
    """Whether zeros beside ``x`` cannot be the largest of a window, unless they are one of the largest."""
    if attribute(graph, node, "dilations") not in (None, []) and any(
        d != 1 for d in attribute(graph, node, "dilations")
    ):
        return False
    maker = graph.producer(x)
    return maker is not None and maker.op in _NOT_NEGATIVE and not domain_of(maker)
