"""The ``io-dtype`` rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphkit.check.rule import Rule
from graphkit.check.subject import Subject
from graphkit.report.checks import Finding

_LACKING = frozenset({"int16", "uint16", "uint32", "uint64", "complex64", "complex128", "object"})


class IoDtype(Rule):
    """An input or output has a dtype that TensorRT changes, or does not have.

    ## Why
    A float64 input is made float32 without a word, and whoever binds eight bytes for each value gets rubbish.
    Strings, and integers other than int8, uint8, int32 and int64, cannot be bound at all. Before TensorRT 10
    an int64 input is bound as int32.

    ## Example
    ```
    g (double[1,4] x) => (int16[1,4] y) { … }
    ```

    ## Mend
    [`set-dtype`](../passes/set-dtype.md) gives an input or output another dtype, with a Cast beside it;
    [`fp64-to-fp32`](../passes/fp64-to-fp32.md) for the whole model.

    ## Source
    [TensorRT's data types](https://docs.nvidia.com/deeplearning/tensorrt/latest/reference/data-types.html)
    """

    name = "io-dtype"

    def check(self, subject: Subject) -> Iterable[Finding]:
        """Look at the declared types of the main graph."""
        for kind, tensors in (("input", subject.graph.inputs), ("output", subject.graph.outputs)):
            for tensor in tensors:
                dtype = subject.graph.dtype(tensor)
                yield from self._of(
                    subject, f"{kind} '{tensor.name}'", tensor.name, getattr(dtype, "name", "")
                )

    def _of(self, subject: Subject, what: str, name: str, dtype: str) -> Iterator[Finding]:
        if dtype == "float64":
            yield self.finding(
                f"{what} is float64, and is float32 in the engine", tensor=name, fix="fp64-to-fp32"
            )
        elif dtype in _LACKING:
            told = "string" if dtype == "object" else dtype
            fix = "" if dtype in ("object", "complex64", "complex128") else f"set-dtype:{name}=int32"
            yield self.finding(f"{what} is {told}, which TensorRT cannot bind", tensor=name, fix=fix)
        elif dtype == "int64" and subject.runtime == "tensorrt" and subject.version < (10,):
            yield self.finding(f"{what} is int64, and is int32 in the engine", tensor=name, severity="note")
