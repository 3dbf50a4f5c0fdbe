"""Non-maximum suppression behind a head: by TensorRT's plug-in, by ONNX's operator, or by plain ones.

https://github.com/NVIDIA/TensorRT/tree/main/plugin/efficientNMSPlugin ·
https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphkit import Graph
from graphkit.model.graph import Node, Tensor
from graphkit.model.surgeon import GsGraph, GsNode, Variable

OUTPUTS = ("num_dets", "det_boxes", "det_scores", "det_classes")
F32, I64, BOOL = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)
_END = (1 << 31) - 1


@dataclass(frozen=True)
class Settings:
    """What a detection is; ``center``: the head gives centers and sizes, else corners."""

    score: float
    iou: float
    most: int
    agnostic: bool
    center: bool
    candidates: int


class Writer:
    """Appends nodes to a graph; arrays become constants."""

    def __init__(self, graph: Graph, of: Sequence[Node], settings: Settings) -> None:
        self.graph, self.settings, self._of = graph, settings, of

    def __call__(self, op: str, *inputs: Any, outputs: int = 1, domain: str = "", **attrs: Any) -> Any:
        given = [t if hasattr(t, "inputs") or t is None else self.constant(t) for t in inputs]
        names = [f"nms_{op.lower()}" + (f"_{i}" if i else "") for i in range(outputs)]
        made = self.graph.add(op, given, attrs, outputs=names, domain=domain, of=self._of)
        return made[0] if outputs == 1 else made

    def constant(self, values: Any) -> Tensor:
        """A constant, whole numbers as int64."""
        array = np.asarray(values)
        return self.graph.constant(array.astype(I64) if array.dtype == int else array, "nms_constant")

    def part(self, x: Tensor, start: int, end: int) -> Tensor:
        """Elements of the last of three dims."""
        if self.graph.opset < 10:
            return self("Slice", x, starts=[start], ends=[end], axes=[2])
        return self("Slice", x, [start], [end], [2])

    def squeezed(self, x: Tensor, axis: int) -> Tensor:
        """Without a dim of 1."""
        if self.graph.opset < 13:
            return self("Squeeze", x, axes=[axis])
        return self("Squeeze", x, [axis])

    def unsqueezed(self, x: Tensor, axis: int) -> Tensor:
        """With a dim of 1."""
        if self.graph.opset < 13:
            return self("Unsqueeze", x, axes=[axis])
        return self("Unsqueeze", x, [axis])

    def head(self, y: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] and scores [B, A, C] from what the head gives."""
        if kind == "yolov8":
            rows = self("Transpose", y, perm=[0, 2, 1])
            return self.part(rows, 0, 4), self.part(rows, 4, _END)
        return self.part(y, 0, 4), self("Mul", self.part(y, 5, _END), self.part(y, 4, 5))

    def corners(self, boxes: Tensor) -> Tensor:
        """Boxes as x1, y1, x2, y2."""
        if not self.settings.center:
            return boxes
        middle, size = self.part(boxes, 0, 2), self.part(boxes, 2, 4)
        half = self("Mul", size, np.float32(0.5))
        return self("Concat", self("Sub", middle, half), self("Add", middle, half), axis=2)

    # -- the three ways

    def efficient(self, boxes: Tensor, scores: Tensor) -> list[Tensor]:
        """The plug-in of TensorRT."""
        s = self.settings
        attrs: dict[str, Any] = {
            "plugin_version": "1", "background_class": -1, "box_coding": int(s.center), "score_activation": 0,
            "score_threshold": s.score, "iou_threshold": s.iou, "max_output_boxes": s.most,
        }  # fmt: skip
        if s.agnostic:
            attrs["class_agnostic"] = 1
        return list(self("EfficientNMS_TRT", boxes, scores, outputs=4, domain="TRT", **attrs))

    def operator(self, boxes: Tensor, scores: Tensor) -> list[Tensor]:
        """ONNX's NonMaxSuppression; what it selects is scattered, and the best of each image taken."""
        s = self.settings
        scores, classes = self._by_box(scores)
        by_class = self("Transpose", scores, perm=[0, 2, 1])
        limits = [np.array([s.most], I64), np.array([s.iou], F32), np.array([s.score], F32)]
        chosen = self("NonMaxSuppression", boxes, by_class, *limits, center_point_box=int(s.center))
        none = self(
            "ConstantOfShape", self("Shape", by_class), value=self.graph.constant(np.array([-1], F32))
        )
        kept = self("ScatterND", none, chosen, self("GatherND", by_class, chosen))
        flat = self("Reshape", kept, [0, -1])
        best, places = self("TopK", flat, [s.most], outputs=2, axis=1)
        count = self("Gather", self("Shape", by_class), np.array(2))
        rows = self("Mod", places, count)
        kinds = (
            self("Div", places, count) if classes is None else self("GatherElements", classes, rows, axis=1)
        )
        return self._told(best, self._rows(self.corners(boxes), rows), kinds)

    def loop(self, boxes: Tensor, scores: Tensor) -> list[Tensor]:
        """The best candidates, which of them overlap, and a Loop that ends when nothing changes any more."""
        s = self.settings
        scores, classes = self._by_box(scores)
        count = self("Gather", self("Shape", scores), np.array(2))
        best, places = self("TopK", self("Reshape", scores, [0, -1]), [s.candidates], outputs=2, axis=1)
        rows = self("Div", places, count)
        kinds = (
            self("Mod", places, count) if classes is None else self("GatherElements", classes, rows, axis=1)
        )
        found = self._rows(self.corners(boxes), rows)
        hides = self._hides(found, None if classes is not None else kinds)
        valid = self("Cast", self("Greater", best, np.float32(s.score)), to=1)
        kept = self._settled(valid, hides)
        marked = self("Where", self("Greater", kept, np.float32(0.5)), best, np.float32(-1))
        final, order = self("TopK", marked, [s.most], outputs=2, axis=1)
        return self._told(final, self._rows(found, order), self("GatherElements", kinds, order, axis=1))

    def _by_box(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Without regard to classes each box has its best score alone, [B, A, 1], and its class [B, A]."""
        if not self.settings.agnostic:
            return scores, None
        best = (
            self("ReduceMax", scores, [2], keepdims=1)
            if self.graph.opset >= 18
            else self("ReduceMax", scores, axes=[2], keepdims=1)
        )
        return best, self("ArgMax", scores, axis=2, keepdims=0)

    def _rows(self, boxes: Tensor, places: Tensor) -> Tensor:
        """The boxes [B, M, 4] at ``places`` [B, M]."""
        wide = self("Concat", *([self.unsqueezed(places, 2)] * 4), axis=2)
        return self("GatherElements", boxes, wide, axis=1)

    def _told(self, scores: Tensor, boxes: Tensor, classes: Tensor) -> list[Tensor]:
        """The four outputs; behind the last detection zeros, and -1 for the class."""
        found = self("Greater", scores, np.float32(self.settings.score))
        whole = self("Cast", found, to=6)
        number = (
            self("ReduceSum", whole, [1], keepdims=1)
            if self.graph.opset >= 13
            else self("ReduceSum", whole, axes=[1], keepdims=1)
        )
        return [
            number,
            self("Where", self.unsqueezed(found, 2), boxes, np.float32(0)),
            self("Where", found, scores, np.float32(0)),
            self("Where", found, self("Cast", classes, to=6), np.int32(-1)),
        ]

    def _hides(self, boxes: Tensor, kinds: Tensor | None) -> Tensor:
        """[B, K, K]: 1 where the better candidate of the row overlaps the one of the column too much."""
        first, last = self.part(boxes, 0, 2), self.part(boxes, 2, 4)
        if not self.settings.center:  # corners may come in any order
            first, last = self("Min", first, last), self("Max", first, last)
        low = self("Max", self.unsqueezed(first, 2), self.unsqueezed(first, 1))
        high = self("Min", self.unsqueezed(last, 2), self.unsqueezed(last, 1))
        shared = self._area(self("Max", self("Sub", high, low), np.float32(0)), 3)
        own = self._area(self("Sub", last, first), 2)
        both = self("Sub", self("Add", self.unsqueezed(own, 2), self.unsqueezed(own, 1)), shared)
        over = self("Greater", self("Div", shared, both), np.float32(self.settings.iou))
        over = self("And", over, self("Greater", shared, np.float32(0)))
        if kinds is not None:
            over = self("And", over, self("Equal", self.unsqueezed(kinds, 2), self.unsqueezed(kinds, 1)))
        count = self.settings.candidates
        better = np.arange(count)[:, None] < np.arange(count)[None]
        return self("Cast", self("And", over, better[None]), to=1)

    def _area(self, sides: Tensor, axis: int) -> Tensor:
        """Width times height, which are the two elements of an axis."""
        width, height = (self("Gather", sides, np.array(n), axis=axis) for n in (0, 1))
        return self("Mul", width, height)

    def _settled(self, valid: Tensor, hides: Tensor) -> Tensor:
        """Which candidates no better one that is kept hides: [B, K], found by repetition.

        Each time round at least one candidate more, from the best on, is final.
        """
        trips = self.constant(np.array(self.settings.candidates, I64))
        body = _Body(self, valid, hides).graph()
        return self("Loop", trips, np.array(True), valid, body=body)


class _Body:
    """One round: what is valid and not hidden by what the last round kept; on while that changes."""

    def __init__(self, writer: Writer, valid: Tensor, hides: Tensor) -> None:
        self._model, self._opset = writer.graph.model, writer.graph.opset
        self._half, self._axis = writer.constant(np.float32(0.5)), writer.constant([1])
        self._valid, self._hides = valid, hides
        self._nodes: list[Node] = []

    def _variable(self, name: str, dtype: np.dtype[Any], shape: list[int] | None = None) -> Tensor:
        return Variable(self._model.fresh_name(f"nms_{name}"), dtype=dtype, shape=shape)

    def _add(self, op: str, *inputs: Tensor, dtype: np.dtype[Any] = F32, **attrs: Any) -> Tensor:
        made = self._variable(op.lower(), dtype)
        name = self._model.fresh_name(f"nms_{op}")
        self._nodes.append(GsNode(op, name, attrs, list(inputs), [made]))
        return made

    def _moved(self, op: str, x: Tensor) -> Tensor:
        """Squeeze or Unsqueeze on axis 1."""
        return self._add(op, x, axes=[1]) if self._opset < 13 else self._add(op, x, self._axis)

    def graph(self) -> Any:
        """The body of the Loop."""
        given = [
            self._variable("round", I64, []),
            self._variable("on", BOOL, []),
            self._variable("kept", F32),
        ]
        hidden = self._moved("Squeeze", self._add("MatMul", self._moved("Unsqueeze", given[2]), self._hides))
        free = self._add("Cast", self._add("Less", hidden, self._half, dtype=BOOL), to=1)
        after = self._add("Mul", free, self._valid)
        moved = self._add("ReduceSum", self._add("Abs", self._add("Sub", after, given[2])), keepdims=0)
        more = self._add("Greater", moved, self._half, dtype=BOOL)
        return GsGraph(self._nodes, given, [more, after], name="nms_round", opset=self._opset)
