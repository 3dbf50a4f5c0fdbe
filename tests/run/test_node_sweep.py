"""The feeds make onnx's own node-test models run: nearly all of the 1,884."""

from __future__ import annotations

import warnings
from collections import Counter
from itertools import islice

import onnx
import pytest

from graphkit.run.feeds import feeds
from graphkit.run.reference import CannotRun, open_model

# Measured with onnx 1.23.2 and ONNX Runtime 1.32: 99.4%; the rest are ImageDecoder, which wants an image
# file's bytes (and Pillow), and two AffineGrid expansions whose size input must agree with a traced If.
LEAST = 0.98


def runs_on(model: onnx.ModelProto) -> str:
    """The runtime on which the model runs with some generated feed, or why none does."""
    reason = ""
    for runtime in ("ort", "reference"):
        try:
            loaded = open_model([model.SerializeToString()], only=runtime)
        except CannotRun as error:
            reason = reason or str(error)
            continue
        for feed in islice(feeds(model), 40):
            try:
                loaded.run(feed)
                return runtime
            except CannotRun as error:
                reason = str(error)
    return reason


@pytest.mark.slow
def test_generated_feeds_run_the_node_tests() -> None:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [c for c in collect_testcases(None) if c.model is not None]
        found = {c.name: runs_on(c.model) for c in cases}
    failed = {n: r for n, r in found.items() if r not in ("ort", "reference")}
    counts = Counter(found.values())
    assert len(failed) <= (1 - LEAST) * len(cases), (
        f"{counts['ort']} + {counts['reference']} of {len(cases)}: {failed}"
    )
