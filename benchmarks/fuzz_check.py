"""Mutated models through load, rewrite and check: none may crash, hang, flood the memory or write elsewhere.

    python benchmarks/fuzz_check.py
    python benchmarks/fuzz_check.py --count 1000 --seconds 600
    python benchmarks/fuzz_check.py --only 4711

Fifty small models are seeds. A mutant is what its number says, so a finding is seen again with ``--only``.
Each is loaded, rewritten and looked at by the rules in a child process; every ``--verdicts``-th also goes
through ``graphkit check`` as a whole, TensorRT's parser and builder included, where TensorRT is installed.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # no threads in a process that forks
    os.environ.setdefault(variable, "1")

from _fuzzed import MEMORY, SECONDS, Outcome, prepare, seeds, snapshot, watch  # noqa: E402
from _harness import ROOT  # noqa: E402
from _mutate import mutant  # noqa: E402
from _results import save, table  # noqa: E402

_MODULES = ("onnx", "onnx.checker", "onnx.shape_inference", "onnx.reference", "onnxruntime")
_OWN = (
    "graphkit.check.serve",
    "graphkit.model.infer",
    "graphkit.compare.equivalence",
    "graphkit.run.evaluate",
)
_LISTS = (("simplify",), ("fold-constants",), ("fold-constants", "silu", "simplify"))


def plans() -> list[tuple[tuple[str, ...], str | None]]:
    """Passes and a recipe: some fixed lists, the recipe for TensorRT, and each pass that needs no options."""
    from graphkit import GraphkitError, load_pass, passes

    alone = []
    for name in sorted(passes()):
        try:
            alone.append(str(load_pass(name)))
        except GraphkitError:
            continue
    fixed = [(specs, None) for specs in _LISTS] + [((), "trt")]
    return [p for name in alone for p in (*fixed, ((name,), None))]


def warm() -> None:
    """Import what every child needs, once."""
    from importlib import import_module

    from graphkit import load_pass, passes
    from graphkit.check.registry import rules

    for name in (*_MODULES, *_OWN):
        import_module(name)
    rules()
    gc.freeze()  # as the worker of ``graphkit check`` does before it forks
    for name in passes():
        try:
            load_pass(name)
        except Exception:  # one that needs options
            continue


class Fuzz:
    """Mutants one after the other in one scratch folder, and what came of them."""

    def __init__(self, root: Path, verdicts: int) -> None:
        self.root = root
        self.models = [data for _, data in seeds(ROOT / "fixtures", 50)]
        self.path = prepare(root)
        self.plans = plans()
        self.before = snapshot(root)
        self.verdicts = verdicts
        self.counts: dict[str, Counter[str]] = {}
        self.worst = {"seconds": 0.0, "bytes": 0}
        self.findings: list[dict[str, Any]] = []
        self.checker: Any = None

    def run(self, numbers: Sequence[int], seconds: float) -> int:
        """Mutants until all are done or the time is over; how many were."""
        end = time.monotonic() + seconds
        for done, number in enumerate(numbers):
            if time.monotonic() > end:
                return done
            self.one(number)
            if done % 200 == 199:
                print(f"{done + 1}: {len(self.findings)} findings", file=sys.stderr, flush=True)
        return len(numbers)

    def one(self, number: int) -> Outcome:
        """One mutant through everything."""
        data, changes = mutant(self.models, number)
        self.path.write_bytes(data)
        passes, recipe = self.plans[(number // len(self.models) + number) % len(self.plans)]
        outcome = watch(self.path, passes, recipe)
        if self.verdicts and number % self.verdicts == 0:
            self._verdict(outcome)
        after = self._clean(snapshot(self.root))
        if after:
            outcome.steps["files"], outcome.details["files"] = "outside", after
        self._note(number, changes, passes, recipe, outcome)
        return outcome

    def _verdict(self, outcome: Outcome) -> None:
        """The whole of ``graphkit check``, in the processes that it starts itself."""
        from graphkit.check.check import Checker

        if self.checker is None:
            self.checker = Checker(timeout=SECONDS, memory=MEMORY)
        start = time.monotonic()
        try:
            found = self.checker.model("model", self.path)
            outcome.steps["verdict"] = "fine"
            crashed = [f.message for f in found.findings if f.rule == "crashed"]
            mine = [m for m in crashed if m.startswith("the rules")]
            outcome.details["verdict"] = "; ".join(mine or crashed)
            if crashed:
                outcome.steps["verdict"] = "rules crashed" if mine else "TensorRT crashed"
        except Exception as error:  # whatever it is, it should not have come here
            outcome.steps["verdict"], outcome.details["verdict"] = (
                "traceback",
                f"{type(error).__name__}: {error}",
            )
        outcome.seconds["verdict"] = time.monotonic() - start

    def _clean(self, after: dict[str, tuple[int, ...]]) -> str:
        """What is there and was not; temporary files of a child that was ended are its own."""
        odd = sorted(
            p for p in after if after[p] != self.before.get(p) and "/tmp/" not in p[len(str(self.root)) :]
        )
        odd += sorted(p for p in self.before if p not in after)
        self.path.with_name("out.onnx").unlink(missing_ok=True)
        for path in (self.root / "tmp").iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return ", ".join(p.replace(str(self.root), "<scratch>") for p in odd)

    def _note(
        self, number: int, changes: Sequence[str], passes: Sequence[str], recipe: str | None, outcome: Outcome
    ) -> None:
        for step, result in outcome.steps.items():
            self.counts.setdefault(step, Counter())[result] += 1
        own = [s for step, s in outcome.seconds.items() if step != "verdict"]
        self.worst["seconds"] = max(self.worst["seconds"], *own)
        self.worst["bytes"] = max(self.worst["bytes"], outcome.peak)
        for step, result in outcome.steps.items():
            if result not in ("fine", "refused", "TensorRT crashed"):
                ran = recipe or ",".join(passes)
                found = {
                    "mutant": number,
                    "changes": list(changes),
                    "passes": ran,
                    "step": step,
                    "result": result,
                }
                self.findings.append({**found, "detail": outcome.details.get(step, "")[:1200]})
                print(self.findings[-1], flush=True)


def numbers(arguments: argparse.Namespace) -> Iterator[int]:
    """The mutants to look at."""
    yield from arguments.only or range(arguments.first, arguments.first + arguments.count)


def main() -> int:
    """Options, the run, the table and results/fuzz_check.json."""
    parser = argparse.ArgumentParser(description="Mutated models through load, rewrite and check.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", type=int, nargs="+", help="these mutants alone; nothing is saved")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop when the time is over")
    parser.add_argument(
        "--verdicts", type=int, default=20, help="every n-th through parser and builder; 0: none"
    )
    parser.add_argument("--no-save", action="store_true")
    parser.add_argument("--results", type=Path, help="folder for fuzz_check.json")
    arguments = parser.parse_args()
    warm()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder, "scratch"), arguments.verdicts)
        done = fuzz.run(list(numbers(arguments)), arguments.seconds)
    took = time.perf_counter() - start
    bad = [f for f in fuzz.findings if f["result"] not in ("pass failed", "rule failed")]
    results = {
        "mutants": done, "seeds": len(fuzz.models), "seconds": round(took, 1),
        "outcomes": {step: dict(counts.most_common()) for step, counts in fuzz.counts.items()},
        "slowest_step_s": round(fuzz.worst["seconds"], 2), "peak_mb": round(fuzz.worst["bytes"] / 1e6),
        "violations": len(bad), "findings": bad,
    }  # fmt: skip
    print(
        table(
            ["step", "outcome", "models"],
            [(s, o, n) for s, c in fuzz.counts.items() for o, n in c.most_common()],
        )
    )
    print(
        f"{done} mutants in {took:.0f} s, {len(bad)} violations, "
        f"slowest step {results['slowest_step_s']} s, peak {results['peak_mb']} MB"
    )
    if not (arguments.only or arguments.no_save):
        save("fuzz_check", results, arguments.results)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
