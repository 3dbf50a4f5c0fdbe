"""The ``fix-shapes`` pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from graphkit import BadOption, Graph, Pass, Size, Tally, option, rest


class FixShapes(Pass):
    """Give the inputs of a model fixed sizes, and fold the shape arithmetic that becomes constant.

    ## Why
    A model exported with dynamic axes computes its shapes while it runs: `Shape`, `Gather`, `Concat`,
    `Range`, `Expand` and their constants can be half of its nodes. An engine for one size needs none of
    them, and many builders refuse them where they want an initializer.

    ## Example
    `fix-shapes:x=1x8` on
    ```
    (float[batch,8] x) => (float[batch,2,4] y)
    d = Shape(x)
    n = Gather(d, zero)
    m = Unsqueeze(n, axis)
    s = Concat <axis = 0> (m, rest)
    y = Reshape(x, s)
    ```
    gives
    ```
    (float[1,8] x) => (float[1,2,4] y)
    y = Reshape(x, s)                       # s is the initializer {1, 2, 4}
    ```
    An input is given by its name and shape, `images=1x3x640x640`; `?`, or the symbol that stands there,
    leaves a dim open, and `scalar` is a shape without dims. A symbol is given by its name and size,
    `batch=1,height=640`, for all inputs that use it. A recipe may write a shape as a list too,
    `images = [1, 3, 640, 640]`. In a name, write `\\,` for a comma and `\\=` for an
    equals sign (the last `=` always ends the name).

    Shapes are inferred from the inputs anew: the annotations of outputs and inner tensors are brought up to
    date, and what a file says wrongly of them is dropped; a wrong declaration of a graph output stays, and
    the report has a note on it. Folding follows `fold-constants`, for what stems from shapes alone: other
    constants stay as they are.

    ## When it refuses
    It stops, with nothing changed, when an input or symbol is not known, when a size contradicts the model's
    own, or when one symbol would get two sizes. A symbol that no input has is no error, but a note, when it
    may have its size already: when all dims that are not given are fixed, or some dim has that size. A node
    that cannot be computed stays, and the report says why.

    ## Source
    https://onnx.ai/onnx/repo-docs/IR.html#static-tensor-shapes
    """

    name = "fix-shapes"
    group = "edit"

    max_size: Size = option(
        default=Size(1 << 20),
        help="a result with more bytes is folded only when the model does not grow by it",
    )
    sizes: Mapping[str, str] = rest(
        help="the shape of an input, or the size of a symbol", metavar="NAME=1x3x640x640"
    )

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``images=1x3x640x640,batch=1``; who writes it otherwise is told how it is written."""
        try:
            return super().from_spec(arguments)
        except BadOption:
            from graphkit_passes._sizes import told

            hint = told(arguments, {"max-size"})
            if hint is None:
                raise
        raise BadOption(hint)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from a recipe's values; a shape may be a list there, and a size a number."""
        return super().from_values({k: v if k == "max-size" else _text(v) for k, v in values.items()})

    @classmethod
    def _build(cls, found: dict[str, Any], convert: Any) -> Self:
        """The option is `max-size` alone; `max_size` is a name, as any other, that a symbol may have."""
        named = {k.strip(): v for k, v in found.items() if k.strip() == "max_size"}
        made = super()._build({k: v for k, v in found.items() if k.strip() not in named}, convert)
        sizes = {k: convert(v, str, f"{cls.name}:{k}") for k, v in named.items()}
        return cls(max_size=made.max_size, sizes={**made.sizes, **sizes})

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Set the inputs, fold to a fixed point, then bring the annotations up to date."""
        from graphkit_passes._annotate import annotate, set_inputs
        from graphkit_passes._fold import Folder
        from graphkit_passes._sizes import Sizes

        sizes = Sizes(graph)
        sizes.read(self.sizes)
        for text in sizes.notes:
            tally.note(text)
        if not self.sizes:
            tally.note("no sizes were given, so the inputs stay as they are; give one as NAME=1x3x640x640")
        tally.rewrite(set_inputs(graph, sizes))
        Folder(graph, tally, int(self.max_size), only_shapes=True).run()
        tally.rewrite(annotate(graph, sizes, tally))


def _text(value: Any) -> Any:
    """A list or a number as the command line writes it; anything else as it is."""
    if isinstance(value, list | tuple) and all(_is_dim(v) for v in value):
        return "x".join(map(str, value)) or "scalar"
    return str(value) if _is_dim(value) else value


def _is_dim(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
