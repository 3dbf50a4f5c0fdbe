"""The ``fuse-focus`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class FuseFocus(Pass):
    """Fold the Focus layer, strided slices stacked along the channels, into the convolution behind it.

    ## Why
    YOLOv5 (before version 6) and YOLOX begin with a layer that takes every second row and column, four times
    with other offsets, stacks the four and convolves them. A convolution with a kernel and a stride of twice
    the size does exactly that on the original image: eight `Slice` and a `Concat` less, none of which an
    engine can fuse. The weights are put in another order; no number changes, and none is added.

    ## Example
    ```
    a = Slice (x, from_0, to_the_end, rows, 2)      # each row and column in turn
    ...
    f = Concat <axis = 1> (aa, ab, ba, bb)
    y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (f, w, b)
    ```
    becomes
    ```
    y = Conv <kernel_shape = [6, 6], pads = [2, 2, 2, 2], strides = [2, 2]> (x, w_1, b)
    ```

    ## When it refuses
    - Something else reads the stacked slices, or they are an output.
    - The slices do not take each offset once, or do not go to the end of their axis.
    - The convolution has groups or dilations, pads by `auto_pad`, or its weights are no constant.

    Slices and Concats that stack something else are no Focus, and are not reported.

    ## Source
    [YOLOv5: is the Focus layer equivalent to a simple Conv layer?](https://github.com/ultralytics/yolov5/issues/4825)
    """

    name = "fuse-focus"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Look at each Conv behind a Concat."""
        from graphkit_passes._focus import fuse

        fuse(graph, tally)
