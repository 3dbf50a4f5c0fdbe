"""How long `graphkit --help` takes, beside `polygraphy --help`, run in turns.

python benchmarks/startup.py --runs 20
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from _harness import graphkit, measure, polygraphy
from _results import save, table


def main() -> None:
    """Options, the runs, the table and results/startup.json."""
    parser = argparse.ArgumentParser(description="graphkit --help beside polygraphy --help.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--results", type=Path, help="folder for startup.json")
    options = parser.parse_args()
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "graphkit --help": [*graphkit(), "--help"],
        "polygraphy --help": [*polygraphy(), "--help"],
    }
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for command in commands.values():
        measure(command)  # the first run compiles and fills the page cache
    for _ in range(options.runs):
        for name, command in commands.items():
            samples[name].append(measure(command))
    results = {name: figures(found) for name, found in samples.items()}
    save("startup", {"runs": options.runs, "results": results}, options.results)
    print(show({"results": results}))


def show(content: Mapping[str, Any]) -> str:
    """The results as a table."""
    header = ["", "median s", "least s", "most s", "peak MB"]
    return table(header, ([name, *found.values()] for name, found in content["results"].items()))


def figures(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and spread of the wall seconds, or why it failed."""
    failures = [sample["error"] for sample in samples if "error" in sample]
    if failures:
        return {"failed": failures[0]}
    walls = sorted(sample["wall"] for sample in samples)
    seconds = {"wall_s": median(walls), "least_s": walls[0], "most_s": walls[-1]}
    peak = round(median(sample["peak"] for sample in samples) / 1e6)
    return {name: round(value, 3) for name, value in seconds.items()} | {"peak_mb": peak}


if __name__ == "__main__":
    main()
