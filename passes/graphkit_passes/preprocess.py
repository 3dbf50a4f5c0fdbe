"""The ``preprocess`` pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from graphkit import BadOption, Bridge, Graph, Pass, Tally, option
from graphkit.model.graph import Tensor
from graphkit.model.surgeon import numpy_dtype
from graphkit_passes._edit import Names, defaults
from graphkit_passes._pixels import Pixels, Steps, already, channels_of, problem

Values = Mapping[str, np.ndarray[Any, Any]]


class Preprocess(Pass):
    """Let a model take the pixels of a camera or decoder, and normalize them inside.

    The caller's pixels become what the model's input was: cast, transposed to NCHW, their channels in the
    model's order, and `(pixel / scale - mean) / std`. `mean` and `std` are by channel, in the order of the
    model (RGB, mostly), as a training script has them: ImageNet's are `mean=0.485+0.456+0.406`,
    `std=0.229+0.224+0.225` and `scale=255`. `bgr=true` says that the caller's channels come the other way
    round.

    Where the first node is a convolution of constant weights, in float32 or float64, normalizing costs
    nothing: scale, std and the order of channels go into its weights. So does the mean, into its bias, when
    it pads nothing; a convolution that pads zeros would find them normalized, so the mean is subtracted in
    front of it by one Sub. In front of anything else, a Sub and a Mul are made; for a model in half precision
    they compute in float32, because the pixels would lose bits.

    ## Why
    Preprocessing on the host takes longer than many an engine does, a float image is four times the bytes of
    its pixels, and a mean or a channel order that differs from training's is a frequent reason for wrong
    detections. In the file, it cannot be forgotten.

    ## Example
    `preprocess:mean=0.5,std=0.25,scale=255,layout=nhwc,dtype=uint8` on
    ```
    (float[1,3,8,8] x) => (float[1,4,8,8] y)
    y = Conv <pads = [1, 1, 1, 1]> (x, w)
    ```
    gives
    ```
    (uint8[1,8,8,3] x) => (float[1,4,8,8] y)
    x_float32 = Cast <to = 1> (x)
    x_nchw = Transpose <perm = [0, 3, 1, 2]> (x_float32)
    x_centered = Sub (x_nchw, x_mean)
    y = Conv <pads = [1, 1, 1, 1]> (x_centered, w_pixels)
    ```
    with `x_mean = 127.5` by channel and `w_pixels = w / 63.75`.

    ## When it refuses
    - The input is not of rank 4, has a default in the file, is an output too, or is of integers, which no
      normalization yields.
    - It is transposed to NCHW at once, so its channels are last.
    - The number of channels is not known, and has to be: `bgr`, or one mean for each.
    - The opset is below 7 (13 for bfloat16).

    It stops, with nothing changed, when there is no such input, or several inputs could be meant, and when
    `mean` or `std` have neither one value nor one for each channel. What the same pass made is not made
    twice; another one in front of it would be. The text format (.onnxtxt) forgets who made what.

    ## Issues
    [TensorRT#1503](https://github.com/NVIDIA/TensorRT/issues/1503) ·
    [TensorRT#3985](https://github.com/NVIDIA/TensorRT/issues/3985)

    ## Source
    [Normalize](https://docs.pytorch.org/vision/main/generated/torchvision.transforms.Normalize.html)
    """

    name = "preprocess"
    group = "edit"

    mean: tuple[float, ...] = option(default=(), help="subtracted by channel, after scale", metavar="R+G+B")
    std: tuple[float, ...] = option(default=(), help="divided by, after mean", metavar="R+G+B")
    scale: float = option(default=1.0, help="what pixels are divided by first; 255 makes 0..1 of bytes")
    layout: Literal["nchw", "nhwc"] = option(default="nchw", help="what the caller gives; the model has nchw")
    dtype: Literal["uint8", "float16", "float32"] | None = option(
        default=None, help="what the caller gives; none: what the model has"
    )
    bgr: bool = option(default=False, help="the caller's channels are in the reverse order of the model's")
    input: str = option(default="", help="name of the input; the only one of rank 4 when left out")

    def __post_init__(self) -> None:
        numbers = np.array([*self.mean, *self.std, self.scale])
        if not np.isfinite(numbers).all() or not self.scale or 0 in self.std:
            raise BadOption(
                "preprocess: mean, std and scale must be finite, and neither std nor scale may be 0"
            )
        if not (self.mean or self.std or self.dtype or self.bgr or self.scale != 1 or self.layout == "nhwc"):
            raise BadOption("preprocess is asked for nothing; give mean, std, scale, layout, dtype or bgr")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Put the steps in front of the input, or into the convolution behind it."""
        tensor = self._input(graph)
        if already(graph, tensor, str(self)):
            tally.note(f"'{tensor.name}' takes pixels already: this pass has been here")
            return
        reason = problem(graph, tensor)
        if reason:
            tally.refuse(graph, tensor, reason)
            return
        channels = channels_of(graph, tensor)
        lengths = {len(v) for v in (self.mean, self.std)} - {0, 1}
        if channels is None and (self.bgr or lengths):
            tally.refuse(graph, tensor, "the number of its channels is not known")
            return
        if lengths - {channels}:
            raise BadOption(
                f"preprocess: '{tensor.name}' has {channels} channels, and mean or std {min(lengths)} values"
            )
        former, name = numpy_dtype(tensor.dtype) or np.dtype(np.float32), tensor.name
        job = Pixels(graph, tensor, self.steps(channels), np.dtype(self.dtype or former))
        done = job.run()
        if not done:
            tally.note(f"'{name}' takes these pixels already")
            return
        tally.rewrite()
        tally.note(f"'{name}': {', '.join(done)}")
        says = f"'{name}' takes {self.layout} pixels of {self.dtype or former}"
        tally.bridge(Bridge(says=says, feeds=partial(_fed, self, name, former)))

    def steps(self, channels: int | None) -> Steps:
        """What is to be done, in numbers: pixels minus ``mean`` times ``factor``, in the model's order."""
        std = np.array(self.std or (1.0,), np.float64)
        mean = np.array(self.mean or (0.0,), np.float64)
        size = channels or 1
        return Steps(
            mean=np.broadcast_to(mean * self.scale, size),
            factor=np.broadcast_to(1 / (std * self.scale), size),
            nhwc=self.layout == "nhwc",
            reverse=self.bgr,
        )

    def _input(self, graph: Graph) -> Tensor:
        known = {t.name: t for t in (*defaults(graph), *graph.inputs)}
        if self.input:
            if self.input not in known:
                raise Names(graph, self.name).unknown("input", self.input, known)
            return known[self.input]
        images = [t.name for t in graph.inputs if t.shape is not None and len(t.shape) == 4]
        if len(images) != 1:
            told = ", ".join(images or known) or "none"
            raise BadOption(f"preprocess: say which input with input=NAME; those it may be are {told}")
        return known[images[0]]


def _fed(step: Preprocess, name: str, former: np.dtype[Any], new: Values) -> Sequence[Values]:
    """What the model was given before, for pixels that it is given now."""
    pixels = np.asarray(new[name]).astype(np.float64)
    if step.layout == "nhwc":
        pixels = np.moveaxis(pixels, -1, 1)
    if step.bgr:
        pixels = np.flip(pixels, 1)
    mean, std = (np.reshape(v, (1, -1, 1, 1)) for v in (step.mean or (0.0,), step.std or (1.0,)))
    return [{**new, name: ((pixels / step.scale - mean) / std).astype(former)}]
