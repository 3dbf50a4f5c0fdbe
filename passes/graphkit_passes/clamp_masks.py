"""The ``clamp-masks`` pass."""

from __future__ import annotations

from graphkit import BadOption, Graph, Pass, Tally, option
from graphkit.model.matching import output_ids
from graphkit_passes._mask_clamp import LEAST, Clamping
from graphkit_passes._mask_paths import Paths
from graphkit_passes._shared import Known


class ClampMasks(Pass):
    """Clamp the constants of attention masks to what float16 can hold.

    ## Why
    A mask adds -3.4e38, -1e9 or -inf to the scores that count for nothing, or puts it in their place. In
    float16 all of these are -inf: `(1 - mask) * -3.4e38` is 0 * -inf, NaN, wherever nothing is masked, and
    TensorRT gives NaN for the whole model. With -65504 the Softmax gives 0 just the same.

    A constant is replaced for those readers whose every way leads to a Softmax (or to the mask of an
    Attention), through Add, Sub, Where, Max, Mul by whole numbers, Concat, Expand, Reshape, Transpose, Slice,
    Trilu, Scatter and Casts between floats; the value of a ConstantOfShape likewise. Other readers keep it.
    The tensors in between have new values, and so new names.

    | before | where |
    |---|---|
    | `(1 - mask) * -3.4e38 + scores` | BERT |
    | `scores - 1e9 * (1 - mask)` | TensorFlow |
    | `Where(mask, scores, -3.4e38)` | `masked_fill`, GPT-2 |
    | a triangle of -3.4e38, read from the file, cut by Trilu or made by ConstantOfShape | causal masks |

    Where a mask is added to the scores, a Max of half as much, -32752, goes in front of the Softmax: it makes
    all that is masked equal, so that a row that is masked altogether has even weights, as it had. It also
    catches what is beyond -65504 again, by a score below -16 or by two masks, which would be NaN in such a
    row. `even=false` leaves it out: such rows, which attend to nothing, are then weighed by their scores, the
    report says so, and the comparison fails on inputs with such a row. After a Where no Max is needed.

    The scores have to be well within the range themselves: beyond -32000 they count as masked.

    ## Example
    ```
    inverse = Sub (one, mask)
    m = Mul (inverse, least)                # least is -3.4e38
    masked = Add (scores, m)
    p = Softmax (masked)
    ```
    becomes
    ```
    inverse = Sub (one, mask)
    m_clamped = Mul (inverse, least_clamped)        # -65504
    masked_clamped = Add (scores, m_clamped)
    masked_even = Max (masked_clamped, even)        # -32752
    p = Softmax (masked_even)
    ```

    ## When it refuses
    - Some way leads elsewhere: to TopK, ArgMax, an output of the graph, a type that is no float.
    - It is multiplied by what may be other than whole numbers: 0.5 * -3.4e38 masks, 0.0001 * -65504 does not.
    - It is added in one place and subtracted in another.
    - It masks a whole row by itself.
    - It is added where no Max can follow: by an Attention, below opset 8, in a dtype that is not known;
      `even=false` does without.
    - It is added, and so small that it leaves something of the scores: a row that -1e5 masks altogether is
      weighed by them, in coarse steps, and not even. `even=false` does without.
    - It is -inf and multiplied: the product with 0 is NaN already, and the model broken before.
    - It is -inf and might mask a whole row, which is NaN then, unless `infinite=true` is given: float16 has
      an infinity. That of a constant that leaves something in each row is clamped.
    - It is -inf and an IsNaN behind the Softmax finds the rows that are masked altogether.

    ## Issues
    [TensorRT#2466](https://github.com/NVIDIA/TensorRT/issues/2466) ·
    [TensorRT#1500](https://github.com/NVIDIA/TensorRT/issues/1500) ·
    [TensorRT#2118](https://github.com/NVIDIA/TensorRT/issues/2118)

    ## Source
    [Softmax](https://onnx.ai/onnx/operators/onnx__Softmax.html) ·
    [IEEE 754 half precision](https://en.wikipedia.org/wiki/Half-precision_floating-point_format)
    """

    name = "clamp-masks"
    group = "mend"

    floor: float = option(default=LEAST, help="the number to mask with: -65504, or nearer to 0")
    even: bool = option(
        default=True,
        help="a Max in front of the Softmax where a mask is added, so that rows masked altogether stay even",
    )
    infinite: bool = option(
        default=False,
        help="clamp -inf also where it may mask a whole row, which is NaN before and numbers after",
    )

    def __post_init__(self) -> None:
        if not LEAST <= self.floor <= -1000:
            raise BadOption(f"clamp-masks: floor={self.floor:g} is not between -65504 and -1000")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Clamp every constant that masks, for those of its readers that lead to a Softmax alone."""
        with Known.during(graph.model) as known:
            paths = Paths(graph, known, output_ids(graph))
            Clamping(graph, paths, tally, self.floor, even=self.even, infinite=self.infinite).run()
