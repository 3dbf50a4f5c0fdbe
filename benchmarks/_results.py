"""What a benchmark leaves: results/<name>.json, with what the figures depend on, and a table."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from _harness import HERE, neutral

RESULTS = HERE / "results"
PEERS = (
    *("graphkit", "onnx", "onnx-graphsurgeon", "onnxscript", "onnx-ir", "onnxsim", "onnxslim"),
    *("onnxoptimizer", "onnxruntime", "polygraphy", "numpy", "protobuf"),
)


def environment() -> dict[str, Any]:
    """What the figures depend on: versions, processor, system, and the command that made them."""
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(neutral, sys.argv[1:])]),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "versions": {name: found for name in PEERS if (found := version(name))},
    }


def version(package: str) -> str | None:
    """The installed version, None when there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def save(name: str, results: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Writes results/<name>.json, or <folder>/<name>.json."""
    path = (folder or RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(), **results}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    cells = [["" if cell is None else str(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
