"""Whether TensorRT takes a model: the parser's word, then the builder's for each target, one at a time.

No engine is kept. What `graphkit.run.compile` refuses to go on with is here the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graphkit.errors import BadOption
from graphkit.report.checks import Verdict
from graphkit.run.compile import configure, parse, quiet
from graphkit.run.complaints import Complaint, of_builder
from graphkit.run.options import BuildOptions
from graphkit.run.profiles import Shapes
from graphkit.run.source import Source
from graphkit.run.trt import Trt, collect

__all__ = ["Judgement", "judge"]


@dataclass(frozen=True)
class Judgement:
    """What one stage came to: ``stage`` is parse, or the compute capability that was built for ("8.9").

    ``verdict`` is ok for a parser that took the model.
    """

    stage: str
    verdict: Verdict
    complaints: tuple[Complaint, ...] = ()


def judge(
    trt: Trt, source: Source, targets: Sequence[str], shapes: Sequence[Shapes] = ()
) -> Iterator[Judgement]:
    """Parse, and build for each target; the parser's refusal is the answer for all.

    Raises BadOption when ``shapes`` do not fit the model's inputs.
    """
    with collect(), quiet():
        parts, complaints = parse(trt, source, marked=False)
        yield Judgement("parse", "fails-parse" if complaints else "ok", tuple(complaints))
    if complaints:
        return
    odd = _odd_profile(parts[1], shapes)
    for target in targets:
        if odd is not None:
            yield Judgement(target, "needs-profile", (odd,))
        else:
            yield _built(trt, parts, target, shapes)


def _odd_profile(network: Any, shapes: Sequence[Shapes]) -> Complaint | None:
    """What is missing of the profile; BadOption when shapes are given, and are wrong."""
    from graphkit.run.profiles import profile_of

    try:
        profile_of(network, shapes)
    except BadOption as error:
        if not str(error).startswith("shapes are not fixed"):
            raise
        return Complaint(str(error), stage="build")
    return None


def _built(trt: Trt, parts: Any, target: str, shapes: Sequence[Shapes]) -> Judgement:
    from polygraphy.backend.trt import EngineBytesFromNetwork
    from polygraphy.exception import PolygraphyException

    options = BuildOptions(shapes=tuple(shapes))
    wanted = (target,) if trt.has_compute_capability else ()
    with collect() as lines, quiet():
        try:
            config = configure(trt, parts[1], options, wanted, False, None)
            EngineBytesFromNetwork(parts, config)()
        except PolygraphyException as error:
            said = [text for severity, text in lines if "ERROR" in severity]
            found = of_builder(said) or [Complaint(str(error).splitlines()[0], stage="build")]
            return Judgement(target, _verdict(found), tuple(found))
    return Judgement(target, "ok")


def _verdict(complaints: Sequence[Complaint]) -> Verdict:
    """needs-gpu only when nothing else is wrong; a builder stops at its first error."""
    return "needs-gpu" if all(c.needs_gpu for c in complaints) else "fails-build"
