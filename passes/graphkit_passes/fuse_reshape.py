"""The ``fuse-reshape`` pass."""

from __future__ import annotations

from graphkit import Graph, Pass, Tally


class FuseReshape(Pass):
    """Make one node of several in a row that only change a tensor's shape.

    ## Why
    `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze` compute nothing, and whatever a row of them does, one can
    do. Exporters write them in pairs: what one layer flattens the next shapes anew, and a mask gets its two
    new axes one by one.

    ## Example
    ```
    a = Unsqueeze <axes = [1]> (mask)
    m = Unsqueeze <axes = [2]> (a)
    t = Transpose <perm = [0, 2, 1, 3]> (x)     # x: 8x2x1x512, so nothing moves
    f = Reshape (t, [0, 0, -1])
    y = Reshape (f, [-1, 1024])
    ```
    becomes
    ```
    m = Unsqueeze <axes = [1, 2]> (mask)
    y = Reshape (x, [-1, 1024])
    ```
    A `Transpose` in which only axes of size 1 change places is one of them. Where the shape is what it was at
    first, nothing is left. Sizes are those of shape inference, by number or by name. The first of the row
    stays where something else reads it too.

    ## When it refuses
    - No one node says what two do: a `Reshape` states numbers, sizes that stay in their place, and one that
      is left over. That happens where sizes are not known, as in local functions.
    - The size that is left over could not be told if a copied one were 0 at run time, and the row does not
      ask for that itself.
    - A graph inside has another tensor with the name of the tensor that would be read.

    ## Source
    [Reshape](https://onnx.ai/onnx/operators/onnx__Reshape.html)
    """

    name = "fuse-reshape"
    group = "simplify"

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Walk the scopes; each row is taken at its end."""
        from graphkit_passes._rows import Rows

        Rows(graph, tally).run()
