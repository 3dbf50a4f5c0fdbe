"""The ``unsupported-op`` rule."""

from __future__ import annotations

from collections.abc import Iterable

from graphkit.check.pass_rule import PassRule
from graphkit.check.subject import Subject
from graphkit.rewrite.options import option


class UnsupportedOp(PassRule):
    """An operator that a version of TensorRT does not know, and that can be written in others.

    ## Why
    The parser refuses what it has no importer for: Swish before TensorRT-RTX 1.5, RMSNormalization,
    Attention, newer modes of GridSample. Versions for which no parser is at hand can be asked about too: what
    each knows is a table, taken from its importers.

    ## Example
    ```
    y = Swish (x)
    ```

    ## Mend
    [`decompose`](../passes/decompose.md)

    ## Source
    [TensorRT#4639](https://github.com/NVIDIA/TensorRT/issues/4639) ·
    [#4646](https://github.com/NVIDIA/TensorRT/issues/4646)
    """

    name = "unsupported-op"
    mend = "decompose"
    says = "does not know the operator"

    versions: tuple[str, ...] = option(
        default=(), help="versions to ask about, rtx-1.4 or trt-8.6; none: the one that is installed"
    )

    def specs(self, subject: Subject) -> Iterable[tuple[str, str]]:
        """A run for each version."""
        known = {"tensorrt_rtx": "rtx", "tensorrt": "trt"}.get(subject.runtime)
        own = (f"{known}-{'.'.join(map(str, subject.version[:2]))}",) if known else ()
        for version in self.versions or own:
            yield f"decompose:target={version}", f"{version} does not know the operator"
