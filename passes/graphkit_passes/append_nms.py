"""The ``append-nms`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from graphkit import BadOption, Bridge, Graph, NotApplicable, Pass, Tally, option
from graphkit.model.graph import Tensor
from graphkit.model.infer import Types, infer
from graphkit_passes._nms import OUTPUTS, Settings, Writer

Values = Mapping[str, np.ndarray[Any, Any]]
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))  # of the levels of YOLOv5, YOLOv8 and their P6 models


class AppendNms(Pass):
    """Append non-maximum suppression to a detector that gives all of its boxes.

    The heads of YOLOv5 (`[B, boxes, 5 + classes]`: center, size, objectness, classes) and YOLOv8
    (`[B, 4 + classes, boxes]`) are replaced by four outputs: `num_dets` `[B, 1]`, `det_boxes` `[B, M, 4]` as
    corners x1, y1, x2, y2, `det_scores` `[B, M]` and `det_classes` `[B, M]`, best first. Behind the last one
    there are zeros, and -1 for the class. Further outputs of the model stay.

    ## Why
    An exported YOLO gives 25,200 boxes of 85 numbers. To copy them to the host and sort them there costs more
    than the network does.

    | `op` | what is appended | runs in |
    |---|---|---|
    | `efficient` | the plug-in `EfficientNMS_TRT` | TensorRT |
    | `onnx` | `NonMaxSuppression`, and four outputs made of it | ONNX Runtime, TensorRT from 8.0 on |
    | `loop` | TopK, the overlap of each two of the best `candidates`, a Loop | those, and TensorRT-RTX |

    A score of YOLOv5 is its objectness times that of the class. A box can be found as several classes, unless
    `class-agnostic` leaves it its best one and lets boxes of all classes hide each other.

    ## Example
    `append-nms:op=loop,max-boxes=100` makes of
    ```
    (float[1,3,640,640] images) => (float[1,25200,85] output0)
    ```
    ```
    (float[1,3,640,640] images) => (int32[1,1] num_dets, float[1,100,4] det_boxes,
                                    float[1,100] det_scores, int32[1,100] det_classes)
    ```

    ## When it refuses
    - No output, or several, have the shape of a head. `head=auto` also wants as many boxes as the strides 8,
      16, 32 (and 64) make of the input, three for each cell in YOLOv5 and one in YOLOv8: other heads, as that
      of YOLOX, are not decoded. `head` and `output` say it where sizes are open.
    - The head is no float32, or there are fewer boxes than `max-boxes` or `candidates`.
    - The opset is too old for what is appended: below 11 for `onnx` and `loop`.
    - A tensor is called as one of the new outputs.

    What `EfficientNMS_TRT` gives cannot be proven without TensorRT; the other two are held against numpy.

    ## Issues
    [TensorRT#1379](https://github.com/NVIDIA/TensorRT/issues/1379) ·
    [TensorRT#1220](https://github.com/NVIDIA/TensorRT/issues/1220)

    ## Source
    [EfficientNMS_TRT](https://github.com/NVIDIA/TensorRT/tree/main/plugin/efficientNMSPlugin) ·
    [NonMaxSuppression](https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html)
    """

    name = "append-nms"
    group = "mend"

    op: Literal["efficient", "onnx", "loop"] = option(default="efficient", help="what to append")
    head: Literal["auto", "yolov5", "yolov8"] = option(default="auto", help="how the model gives its boxes")
    output: str = option(
        default="", help="the output with the boxes; that which has their shape when left out"
    )
    score_threshold: float = option(default=0.25, help="a detection has a higher score")
    iou_threshold: float = option(default=0.45, help="a box hides others that overlap it more than this")
    max_boxes: int = option(default=100, help="how many detections an image can have")
    class_agnostic: bool = option(default=False, help="let boxes hide those of other classes too")
    boxes: Literal["center", "corners"] = option(
        default="center", help="whether the head gives centers and sizes, or corners"
    )
    candidates: int = option(default=1000, help="how many of the best boxes op=loop looks at")

    def __post_init__(self) -> None:
        if not 0 <= self.score_threshold <= 1 or not 0 <= self.iou_threshold <= 1:
            raise BadOption(f"{self.name}: a threshold is from 0 to 1")
        if self.max_boxes < 1 or self.candidates < self.max_boxes:
            raise BadOption(f"{self.name}: max-boxes is 1 at least, and no more than candidates")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Find the head, append, and say what the outputs are."""
        if [t.name for t in graph.outputs if t.name in OUTPUTS] == list(OUTPUTS):
            return
        types = infer(graph.model)
        try:
            place, kind = self._find(graph, types)
            self._require(graph, types, graph.outputs[place], kind)
        except NotApplicable as error:
            tally.refuse(graph, self.output or ", ".join(t.name for t in graph.outputs), str(error))
            return
        head = graph.outputs[place]
        shape = types.shape(head)
        made = self._append(graph, head, kind)
        for tensor, name, dtype, rest in zip(made, OUTPUTS, _DTYPES, ([1], [-1, 4], [-1], [-1]), strict=True):
            tensor.name = name
            tensor.dtype = np.dtype(dtype)
            tensor.shape = [
                None if shape is None else shape[0],
                *(self.max_boxes if d < 0 else d for d in rest),
            ]
        graph.outputs[place : place + 1] = made
        tally.rewrite()
        tally.bridge(self._crossing(head.name, kind, [t.name for t in graph.outputs]))

    @property
    def _settings(self) -> Settings:
        return Settings(
            self.score_threshold, self.iou_threshold, self.max_boxes, self.class_agnostic,
            self.boxes == "center", self.candidates,
        )  # fmt: skip

    def _append(self, graph: Graph, head: Tensor, kind: str) -> list[Tensor]:
        producer = graph.producer(head)
        writer = Writer(graph, [] if producer is None else [producer], self._settings)
        ways = {"efficient": writer.efficient, "onnx": writer.operator, "loop": writer.loop}
        return ways[self.op](*writer.head(head, kind))

    # -- which output

    def _find(self, graph: Graph, types: Types) -> tuple[int, str]:
        """The place of the output with the boxes, and the kind of head."""
        if self.output and all(t.name != self.output for t in graph.outputs):
            raise NotApplicable(f"there is no output '{self.output}'")
        found: list[tuple[int, str]] = []
        told: list[str] = []
        for place, tensor in enumerate(graph.outputs):
            if self.output in ("", tensor.name):
                shape = types.shape(tensor)
                kind = self._kind(graph, types, shape)
                found += [(place, kind)] if kind else []
                told.append(f"'{tensor.name}' {_shown(shape)}")
        if len(found) != 1:
            many = "several outputs have" if found else "no output has"
            wanted = "a YOLOv5 or YOLOv8 head" if self.head == "auto" else f"a {self.head} head"
            raise NotApplicable(
                f"{many} the shape of {wanted}: {', '.join(told)}; say which with head and output"
            )
        return found[0]

    def _kind(self, graph: Graph, types: Types, shape: tuple[Any, ...] | None) -> str:
        """The kind of head that an output of this shape is; empty for none."""
        if shape is None or len(shape) != 3:
            return ""
        _, first, second = shape
        if self.head != "auto":
            least = 6 if self.head == "yolov5" else 5
            fields = second if self.head == "yolov5" else first
            return self.head if not isinstance(fields, int) or fields >= least else ""
        if not isinstance(first, int) or not isinstance(second, int):
            return ""
        cells = _cells(graph, types)
        if first in {3 * n for n in cells} and 6 <= second < first:
            return "yolov5"
        return "yolov8" if second in cells and 5 <= first < second else ""

    def _require(self, graph: Graph, types: Types, head: Tensor, kind: str) -> None:
        if graph.opset < (11 if self.op != "efficient" else 7):
            raise NotApplicable(f"opset {graph.opset} has no operators for it; op=efficient needs none")
        dtype = types.dtype(head)
        if dtype is None or dtype.name not in (
            ("float32", "float16") if self.op == "efficient" else ("float32",)
        ):
            raise NotApplicable(
                f"'{head.name}' is {'of unknown dtype' if dtype is None else dtype.name}, not float32"
            )
        names = {t.name for n in graph.nodes for t in (*n.inputs, *n.outputs)}
        names |= {t.name for t in (*graph.inputs, *graph.outputs)}
        taken = sorted(names & set(OUTPUTS))
        if taken:
            raise NotApplicable(f"a tensor is called '{taken[0]}' already")
        shape = types.shape(head) or ()
        count = shape[2 if kind == "yolov8" else 1]
        fields = shape[1 if kind == "yolov8" else 2]
        if isinstance(count, int) and isinstance(fields, int) and self.op != "efficient":
            classes = 1 if self.class_agnostic else fields - (4 if kind == "yolov8" else 5)
            wanted = self.candidates if self.op == "loop" else self.max_boxes
            if count * classes < wanted:
                name = "candidates" if self.op == "loop" else "max-boxes"
                raise NotApplicable(f"it has {count * classes} boxes, fewer than {name}={wanted}")

    # -- what it has to be

    def _crossing(self, head: str, kind: str, outputs: Sequence[str]) -> Bridge:
        says = f"'{head}' is now {', '.join(OUTPUTS)}"
        others = [n for n in outputs if n not in OUTPUTS]
        if self.op == "efficient":
            reason = "EfficientNMS_TRT runs in TensorRT alone"
            kept = {n: n for n in others}
            return Bridge(
                says=says,
                outputs=lambda rows: {n: rows[0][n] for n in kept},
                unproven=dict.fromkeys(OUTPUTS, reason),
            )

        def expected(rows: Sequence[Values]) -> Values:
            from graphkit_passes._nms_reference import detections

            found = detections(rows[0][head], kind, self._settings, limited=self.op == "loop")
            return {**{n: rows[0][n] for n in others}, **found}

        return Bridge(says=says, outputs=expected)


_DTYPES = ("int32", "float32", "float32", "int32")


def _cells(graph: Graph, types: Types) -> set[int]:
    """How many cells the levels of a YOLO have, for an image of the size of each input."""
    found = set()
    for tensor in graph.inputs:
        shape = types.shape(tensor)
        if shape is None or len(shape) != 4:
            continue
        for height, width in (shape[2:], shape[1:3]):
            if isinstance(height, int) and isinstance(width, int):
                found |= {sum((height // s) * (width // s) for s in strides) for strides in _STRIDES}
    return found


def _shown(shape: Sequence[Any] | None) -> str:
    return "of unknown shape" if shape is None else str(["?" if d is None else d for d in shape])
