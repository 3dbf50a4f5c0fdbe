"""The ``fp64-to-fp32`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally, option


class Fp64ToFp32(Pass):
    """Compute in float32 what a model computes in float64: tensors, constants, casts, and inputs and outputs.

    ## Why
    TensorRT has no float64. Early versions stop at "Found unsupported datatype (11) when importing
    initializer"; later ones take doubles for floats without a word, some operators apart ("Output must be
    float32-type!"), and give inputs and outputs another dtype than the file says. One `np.float64` in the
    code of a model is enough to make doubles of all that follows.

    ## Example
    ```
    (float[4] x) => (float[4] y)
    d = Cast <to = 11> (x)                      # to double
    s = Mul (d, factor)                         # factor is a double initializer
    y = Cast <to = 1> (s)
    ```
    becomes
    ```
    d_fp32 = Cast <to = 1> (x)
    s_fp32 = Mul (d_fp32, factor)               # factor is a float initializer
    y = Cast <to = 1> (s_fp32)
    ```
    This changes numbers: a float keeps 24 bits of 53, so results move by about 1e-7 of their size, more
    where large numbers cancel out. They are compared with the original at the tolerance of float32. Integers
    that are cast to double are exact to 2^24 from then on, where they were to 2^53; a note counts them.

    All doubles become floats, or none do: those in branches, loops and local functions too.

    ## When it refuses
    - A constant is beyond the range of float32, is lost below it, or is a whole number that float32 lacks.
    - An operator of another domain, or one that ONNX does not have, reads or makes doubles.
    - A constant is an output of the model, or of a branch, as it is.
    - A sequence or an optional of doubles.
    - A random operator with a seed makes doubles: the same seed gives other floats.
    - A double is cast to a string, or its bits are taken for something else.
    - The dtype of a tensor is not known, and may be double.
    - An attribute of a function's caller chooses double, or is one.
    - A training graph, or a list of graphs in an attribute, may name a double.

    ## Issues
    [TensorRT#3124](https://github.com/NVIDIA/TensorRT/issues/3124) ·
    [onnx-tensorrt#501](https://github.com/onnx/onnx-tensorrt/issues/501)

    ## Source
    [Higham, Accuracy and Stability of Numerical Algorithms, 2002](https://doi.org/10.1137/1.9780898718027)
    """

    name = "fp64-to-fp32"
    group = "mend"

    io: bool = option(
        default=True,
        help="make floats of inputs and outputs too; without it, they stay double, next to a Cast",
    )

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Find all doubles and what is against floats; change all of them if nothing is."""
        from graphkit_passes._doubles import Doubles
        from graphkit_passes._doubts import Doubts
        from graphkit_passes._narrow import Narrowing

        doubles = Doubles(graph, io=self.io)
        if doubles.count == 0:
            return
        doubts = Doubts(doubles)
        for scope, place, reason in doubts.problems:
            tally.refuse(scope, place, reason)
        if not doubts.problems:
            Narrowing(doubles, doubts.inexact, tally).run()
