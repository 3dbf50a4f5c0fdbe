"""Every pass on every model at hand, alone and in random pipelines: what differs, crashes or does not rest.

    python benchmarks/sweep_passes.py --jobs 16 --pipelines 200 --per-pipeline 200

Models are ONNX's 1,884 node tests, the 149 of its wheel, and those in --models. The results are counts, and
every case that went wrong; tests/passes/test_everywhere.py runs a part of the same.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any

from _harness import ROOT
from _results import save

sys.path.insert(0, str(ROOT))
Job = tuple[str, str, "Path | bytes"]


def models(folder: Path | None) -> list[tuple[str, Path | bytes]]:
    """Label and file, or bytes, of every model."""
    from tests import corpus

    found: list[tuple[str, Path | bytes]] = list(corpus.node_tests())
    found += [(f"{p.parent.name}/{p.stem}", p) for p in corpus.wheel_models()]
    found += [(p.stem, p) for p in sorted(folder.rglob("*.onnx"))] if folder is not None else []
    return found


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """(pass or number of the pipeline, label, model)"""
    from tests.passes.everywhere import BUILTIN

    all_models = models(options.models)
    node_tests = [m for m in all_models if isinstance(m[1], bytes)]
    real = [m for m in all_models if not isinstance(m[1], bytes)]
    for label, source in [*real, *node_tests]:
        for name in BUILTIN:
            if not options.only or name in options.only:
                yield name, label, source
    for number in range(options.pipelines):
        for some, count in ((real, options.real_per_pipeline), (node_tests, options.per_pipeline)):
            for n in range(count if some else 0):
                yield str(number), *some[(number * count + n) % len(some)]


def run(job: Job) -> list[dict[str, Any]]:
    """One job, in a process of the pool."""
    from tests.passes.everywhere import alone, pipeline

    name, label, source = job
    start = time.perf_counter()
    found = [pipeline(int(name), label, source)] if name.isdigit() else alone(name, label, source)
    took = time.perf_counter() - start
    return [{**vars(o), "kind": "pipeline" if name.isdigit() else name, "took": took} for o in found]


def main() -> None:
    """Options, the runs, and results/sweep_passes.json."""
    parser = argparse.ArgumentParser(description="Every pass on every model.")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--pipelines", type=int, default=200)
    parser.add_argument("--per-pipeline", type=int, default=20, help="node tests for each")
    parser.add_argument("--real-per-pipeline", type=int, default=10, help="other models for each")
    parser.add_argument("--models", type=Path, help="folder with further models")
    parser.add_argument("--only", nargs="*", help="passes")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--part", default="1/1", help="k/n: every n-th job, from the k-th")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    content = sweep(options)
    save("sweep_passes", content, options.results)
    print(json.dumps({**content, "bad": content["bad"][:100]}, indent=1))
    sys.stdout.flush()
    os._exit(0)  # what still runs of a stopped sweep is not waited for


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """Run all jobs, in any order, until they are done or the time is over; what runs then is named."""
    counts: Counter[str] = Counter()
    bad: list[dict[str, Any]] = []
    slow: list[tuple[float, str, str]] = []
    start = time.monotonic()
    part, parts = map(int, options.part.split("/"))
    waiting = islice(jobs(options), part - 1, None, parts)
    with ProcessPoolExecutor(options.jobs) as pool:
        running: dict[Any, tuple[float, Job]] = {}
        while time.monotonic() - start < options.seconds:
            while len(running) < 4 * options.jobs and (job := next(waiting, None)) is not None:
                running[pool.submit(run, job)] = time.monotonic(), job
            if not running:
                break
            done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                _, job = running.pop(future)
                for o in future.result():
                    note(o, counts, bad, slow)
        left = [(round(time.monotonic() - t), job[0], job[1]) for t, job in running.values()]
        content = {
            "seconds": time.monotonic() - start,
            "counts": dict(counts),
            "bad": bad,
            "slow": sorted(slow, reverse=True)[:20],
            "not_done": sorted(left, reverse=True),
            "all_done": not left and next(waiting, None) is None,
        }
        for process in list(pool._processes.values()) if left else ():
            process.kill()
    return content


def note(o: dict[str, Any], counts: Counter[str], bad: list[dict[str, Any]], slow: list[Any]) -> None:
    """Count one outcome."""
    counts["runs"] += 1
    counts["pipeline" if o["kind"] == "pipeline" else "alone"] += 1
    counts["fired"] += o["fired"]
    counts["refused"] += o["refused"]
    counts["not-run"] += bool(o["not_run"])
    if o["bad"]:
        bad.append({k: o[k] for k in ("specs", "model", "bad")})
    if o["took"] > 5:
        slow.append((o["took"], o["kind"], o["model"]))


if __name__ == "__main__":
    main()
