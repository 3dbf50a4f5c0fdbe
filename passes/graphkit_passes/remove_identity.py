"""The ``remove-identity`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class RemoveIdentity(Pass):
    """Remove nodes that give back what they are given.

    ## Why
    Exporters write `Identity`, casts to the type that a tensor has already, slices of everything, factors of
    one and reshapes to the shape that is there. Each is a kernel or a copy, hides patterns from other
    rewrites, and an `Identity` in front of `Resize`, `Pad` or `Clip` makes TensorRT ask for an initializer
    where one is.

    ## Example
    ```
    a = Slice(x, zero, int64_max, axis)
    b = Cast <to = 1> (a)               # x is float32 already
    c = Mul(b, one)
    h = Relu(c)
    y = Identity(h)
    ```
    becomes
    ```
    y = Relu(x)
    ```
    What goes, where it is certain to change nothing:

    - `Identity`; `Cast` and `CastLike` to the same type; the first of two casts, when its type holds every
      value, and both when they lead back;
    - `Dropout` that does not train; `Pad` by nothing; `Slice` of everything;
    - `Transpose` that leaves the order; `Reshape`, `Flatten`, `Squeeze`, `Unsqueeze`, `Expand`, `Tile`,
      `Resize`, `Upsample`, `DepthToSpace` that leave the shape;
    - `Concat`, `Sum`, `Mean`, `Max`, `Min` of one tensor, `Split` into one;
    - `Mul`, `Div` and `Pow` by 1; `Add`, `Sub`, `Or` and `Xor` of 0; `And` with true; `Where` with a constant
      condition that always chooses the same; integer `Clip` without bounds;
    - poolings of one element; reductions over no axes, or over axes of size 1;
    - what was done already (`Relu`, `Abs`, `Ceil`, `Floor`, `Round`, `Sign`), or is undone (`Not`, `Neg`).

    Sizes are those of shape inference, by number or by name; annotations in the file are not believed. A
    `Slice` that ends at 2147483647 or beyond ends nowhere: no axis is that long.

    ## When it refuses
    - Its output is a graph output, and what it is given is an input, a constant, another output or a tensor
      of the graph around: only this node gives it that name. Else the node before it takes over the name.
    - A constant of ones or zeros has more dimensions than the tensor is known to have.
    - The shape of what `Where` always chooses is not known to be that of the result.
    - A Dropout whose mask is read, or that may train.
    - A float `Clip` without bounds: the standard makes the largest number of an infinity.
    - A graph inside has another tensor with the name of the tensor that would be read.

    `x + 0` makes 0 of -0; the two are equal, and the node goes.

    ## Issues
    [TensorRT#2803](https://github.com/NVIDIA/TensorRT/issues/2803) ·
    [TensorRT#439](https://github.com/NVIDIA/TensorRT/issues/439) ·
    [onnx-tensorrt#483](https://github.com/onnx/onnx-tensorrt/issues/483)

    ## Source
    [ONNX operators](https://onnx.ai/onnx/operators/)
    """

    name = "remove-identity"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Look at each node; again while something went."""
        from graphkit_passes._idle import Idle

        Idle(graph, tally).run()
