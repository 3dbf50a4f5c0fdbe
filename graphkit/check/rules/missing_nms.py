"""The ``missing-nms`` rule."""

from __future__ import annotations

from graphkit.check.pass_rule import PassRule


class MissingNms(PassRule):
    """A detector gives all of its boxes, and nothing suppresses those that overlap.

    ## Why
    Whoever runs the engine then copies 25,200 boxes for each image, and needs a non-maximum suppression of
    their own. Many have one: so this is a note.

    ## Example
    ```
    g (float[1,3,640,640] images) => (float[1,25200,85] output0) { … }
    ```

    ## Mend
    [`append-nms`](../passes/append-nms.md) adds it to the model; it changes the outputs, so `--fix` does not
    run it.

    ## Source
    [TensorRT#1379](https://github.com/NVIDIA/TensorRT/issues/1379) ·
    [#1220](https://github.com/NVIDIA/TensorRT/issues/1220)
    """

    name = "missing-nms"
    severity = "note"
    mend = "append-nms"
    says = "the boxes of this detector are not suppressed"
