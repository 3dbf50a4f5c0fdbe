"""The ``retarget-uint8`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class RetargetUint8(Pass):
    """Compute in int32 what a model computes in uint8, where no value can leave 0 to 255.

    ## Why
    TensorRT has uint8 at the inputs and outputs of a model alone, and there only next to a Cast: "TensorRT
    does not support UINT8 types for intermediate tensors". Masks of older versions of torch are bytes, and so
    are images that are transposed or cut before they become floats. In int32 the numbers are the same, unless
    one would have wrapped around.

    ## Example
    ```
    (uint8[1,4,4,3] image, bool[4] m) => (float[1,3,4,4] y, bool[4] z)
    t = Transpose <perm = [0, 3, 1, 2]> (image)
    y = Cast <to = 1> (t)                         # to float
    b = Cast <to = 2> (m)                         # to uint8
    z = Equal (b, one)
    ```
    becomes
    ```
    image_int32 = Cast <to = 6> (image)           # to int32
    t_int32 = Transpose <perm = [0, 3, 1, 2]> (image_int32)
    y = Cast <to = 1> (t_int32)
    b_int32 = Cast <to = 6> (m)
    z = Equal (b_int32, one_int32)
    ```
    Inputs and outputs of the model stay uint8. A Cast that is next to one of them already stays too, and so
    do constants that only constants and indices are combined with.

    ## When it refuses
    - A Cast to uint8 of numbers that may lie outside of 0 to 255. Known to lie there are booleans, what a
      Clip limits, what integer arithmetic makes of such, shares as Sigmoid and Softmax give, and constants.
    - Arithmetic that may wrap around: a difference, or a sum or product that may exceed 255.
    - Another operator reads or makes the bytes: MaxPool, BitShift and Resize other than nearest among them.
    - A branch, a loop or a function takes or gives the bytes.
    Bytes that are quantized values are left to `recenter-qdq`.

    ## Issues
    [TensorRT#1022](https://github.com/NVIDIA/TensorRT/issues/1022) ·
    [TensorRT#2809](https://github.com/NVIDIA/TensorRT/issues/2809) ·
    [TensorRT#3124](https://github.com/NVIDIA/TensorRT/issues/3124) ·
    [TensorRT#3985](https://github.com/NVIDIA/TensorRT/issues/3985)

    ## Source
    [Cast](https://onnx.ai/onnx/operators/onnx__Cast.html)
    """

    name = "retarget-uint8"
    group = "mend"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Retarget each set of tensors that belong together, or say why it cannot be."""
        from graphkit_passes._retargeting import Retargeting

        retargeting = Retargeting(graph, tally)
        for scope in graph.scopes():
            for node in list(scope.nodes):
                if retargeting.begins(node):
                    retargeting.visit(node)
        retargeting.sweep()
