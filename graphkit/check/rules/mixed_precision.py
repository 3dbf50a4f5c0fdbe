"""The ``mixed-precision`` rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.report.checks import Finding

_HEAVY = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Attention", "LSTM", "GRU", "RNN")


class MixedPrecision(Rule):
    """Some of the heavy operators compute in another precision than the rest.

    ## Why
    RTX and TensorRT 11 build what the file says: an engine that was meant to be float16 is slow where a Cast
    leads back to float32. The share of each precision tells whether the conversion reached what it should.

    ## Example
    Of 57 convolutions 55 are float16; the two in float32 are named.

    ## Mend
    Convert the named nodes too, or accept them: a norm or a head is often left in float32 on purpose.

    ## Source
    [TensorRT#4070](https://github.com/NVIDIA/TensorRT/issues/4070)
    """

    name = "mixed-precision"
    severity = "note"

    def check(self, subject: Subject) -> Iterable[Finding]:
        """The dtype of the first input of every heavy node."""
        found = [(g, n, subject.dtype(g, n.inputs[0])) for g, n in subject.nodes(*_HEAVY) if n.inputs]
        counts = Counter(dtype for _, _, dtype in found if dtype)
        if len(counts) < 2:
            return
        most = counts.most_common(1)[0][0]
        shares = ", ".join(f"{n} in {dtype}" for dtype, n in sorted(counts.items()))
        for graph, node, dtype in found:
            if dtype and dtype != most:
                yield self.finding(
                    f"computes in {dtype}; of the heavy operators {shares}", graph=graph, node=node
                )
