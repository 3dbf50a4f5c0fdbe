"""The ``inline-functions`` pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphkit import Pass, option

if TYPE_CHECKING:
    from graphkit import Graph, Tally
    from graphkit_passes._calls import Calls


class InlineFunctions(Pass):
    """Replace calls of local functions by the nodes of the functions.

    ## Why
    PyTorch exports a module or an operator that ONNX lacks as a local function. Not every tool knows those:
    TensorRT's parser refuses a call that leaves out an optional input or output, and before 10.7 it preferred
    a function to the plugin of the same name. No pass can fuse what lies on two sides of a call, and the body
    of a function has no shapes.

    Functions in functions are inlined too, in branches and loops as well. Each copy gets names of its own,
    which begin with the name of the call. Attributes that a call gives, or the function's defaults, take the
    place of the references to them. A function goes with its last call.

    `only` and `except` choose functions by `domain::name`; `*` stands for any text, as in `pkg.torch*::*`.

    ## Example
    ```
    y = local.leaky <slope = 0.5> (x)

    leaky <slope> (v) => (o) { h = LeakyRelu <alpha = @slope> (v)  o = Neg (h) }
    ```
    becomes
    ```
    h = LeakyRelu <alpha = 0.5> (x)
    y = Neg (h)
    ```

    ## When it refuses
    - The function imports another version of an operator's domain than the model, and ONNX defines one of its
      operators anew in between; of other domains nothing is known.
    - The function calls itself, directly or through others.
    - A call gives more inputs, or takes more outputs, than the function has.
    - An input that a call leaves out is returned by the function.
    - A call hands on an attribute of the function around it that may be absent, and has a default for that.
    - A training graph or a list of graphs may call the function: it stays, and its other calls are inlined.
      One that may name tensors of the function keeps the calls too.

    ## Issues
    [TensorRT#4113](https://github.com/NVIDIA/TensorRT/issues/4113) ·
    [onnx-tensorrt#974](https://github.com/onnx/onnx-tensorrt/issues/974)

    ## Source
    https://onnx.ai/onnx/repo-docs/IR.html#functions
    """

    name = "inline-functions"
    group = "mend"

    only: tuple[str, ...] = option(
        default=(), help="inline these alone; all, if none is given", metavar="domain::name+…"
    )
    except_: tuple[str, ...] = option(default=(), help="leave these", metavar="domain::name+…")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Inline in the main graph, drop what nothing calls any more, then inline in what is left."""
        model = graph.model
        if not model.functions:
            return
        from graphkit_passes._calls import Calls

        calls = Calls(model, self.only, self.except_)
        for text in calls.unknown():
            tally.note(text)
        once_called = calls.called()
        for root in (graph, *model.functions):
            if root is graph or any(f.gs is root.gs for f in model.functions):
                _inline_all(root, calls, tally)
                calls.prune(once_called)
        for scope, place, reason in calls.refused:
            tally.refuse(scope, place, reason)
        for function in calls.kept():
            tally.refuse(function, function.gs.name, "a training graph or a list of graphs may call it")


def _inline_all(root: Graph, calls: Calls, tally: Tally) -> None:
    """Inline every call below ``root``, and those that come with the bodies."""
    done = 1
    while done:
        done = sum(calls.inline(scope) for scope in root.scopes())
        tally.rewrite(done)
