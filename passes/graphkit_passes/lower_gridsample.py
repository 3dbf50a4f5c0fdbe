"""The ``lower-gridsample`` pass."""

from __future__ import annotations

from typing import Literal

from graphkit import Graph, NotApplicable, Pass, Tally, option
from graphkit.model.operators import domain_of
from graphkit_passes._functions import Functions
from graphkit_passes._lower import written
from graphkit_passes._lower_grid import mode_of
from graphkit_passes._lowering import Lowering
from graphkit_passes._shared import Known


class LowerGridsample(Pass):
    """Write GridSample so that every TensorRT samples as the model says.

    ## Why
    Opset 20 calls the modes of `GridSample` linear and cubic; opset 16 called them bilinear and bicubic.
    TensorRT up to 11.1, and TensorRT-RTX 1.4 and 1.5, know the old names only and read each new one as
    *nearest*: the engine builds without a warning, and gives other values. (Measured on the parsed network:
    RTX 1.4.0 and 1.5.0 have `InterpolationMode.NEAREST` for `mode="linear"`, 1.6.1 and 1.7.1 have `LINEAR`.)
    They refuse volumes (5-D), and TensorRT before 8.5 has no GridSample.

    | | becomes |
    |---|---|
    | an image (4-D), `mode="linear"`, opset 20 | the same without `mode`: linear is the default of both |
    | `mode="cubic"` of opset 20, and volumes | GatherND of the 8 or 16 elements around each point |
    | nearest images, and the modes of opset 16 | stay |

    `form=gather` writes all of them with gathers.

    ## Example
    ```
    y = GridSample <mode = "linear", padding_mode = "border"> (x, grid)
    ```
    becomes
    ```
    y = GridSample <padding_mode = "border"> (x, grid)
    ```

    ## When it refuses
    - A cubic volume, or more than three dims.
    - The rank or dtype is not known, as in a local function, or the input has no floats.
    - It reflects at aligned corners, and a dim of the input is 1 or not fixed.

    ## Issues
    [TensorRT#4646](https://github.com/NVIDIA/TensorRT/issues/4646) ·
    [onnx-tensorrt#1060](https://github.com/onnx/onnx-tensorrt/pull/1060)

    ## Source
    [GridSample](https://onnx.ai/onnx/operators/onnx__GridSample.html) ·
    [its versions 16 and 20](https://onnx.ai/onnx/operators/text_diff_GridSample_16_20.html)
    """

    name = "lower-gridsample"
    group = "mend"

    form: Literal["native", "gather"] = option(
        default="native", help="native keeps GridSample where TensorRT reads it right, gather never does"
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Rewrite every GridSample that could be read wrongly."""
        known, functions = Known(graph.model), Functions(graph.model)
        for scope in graph.scopes():
            for node in [n for n in scope.nodes if n.op == "GridSample" and not domain_of(n)]:
                if functions.called_by(node) is not None:
                    continue
                low = Lowering(scope, node, known)
                try:
                    if self._stays(low):
                        continue
                    keeps = ("GridSample",) if self.form == "native" else ()
                    written(scope, node, known, keeps=keeps).commit()
                    tally.rewrite()
                except NotApplicable as error:
                    tally.refuse(scope, node, str(error))

    def _stays(self, low: Lowering) -> bool:
        """Whether every TensorRT that knows the operator reads this form right."""
        if self.form == "gather":
            return False
        if low.graph.opset < 20:
            return True
        return low.rank(low.x) == 4 and ("mode" not in low.node.attrs or mode_of(low) == "nearest")
