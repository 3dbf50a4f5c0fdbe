"""The verdicts of `graphkit check` over ONNX's node tests, beside parse + build by hand and other checkers.

    python benchmarks/check_nodes.py
    python benchmarks/check_nodes.py --every 10 --version 1.7.1.116

By hand is TensorRT-RTX's own parser and builder, asked in a process without graphkit. What a checker says
counts as right when it says yes where both take the model, and no where they do not. The other tools start
a process for each model, so they see every tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from _baked import baked_node_tests
from _harness import ROOT
from _results import save, table

sys.path.insert(0, str(ROOT))
STAGES = {"parse": "fails-parse", "build": "fails-build", "": "ok"}


def by_hand(models: Mapping[str, bytes], version: str | None) -> tuple[dict[str, str], float]:
    """The verdict of each model, and seconds."""
    from tests.tensorrt import judged

    start = time.perf_counter()
    found = {name: STAGES.get(stage, stage) for name, (stage, _) in judged(models, version).items()}
    return found, time.perf_counter() - start


def by_graphkit(paths: Mapping[str, Path], jobs: int) -> tuple[dict[str, str], list[float], float]:
    """The verdict of each model, the seconds of each, and those of all."""
    import graphkit

    start = time.perf_counter()
    report = graphkit.check(list(paths.values()), targets=["sm89"], jobs=jobs)
    took = time.perf_counter() - start
    verdicts = {name: m.verdict for name, m in zip(paths, report.models, strict=True)}
    return verdicts, [m.seconds for m in report.models], took


def same(check: str, hand: str) -> bool:
    """Whether the two mean the same; by hand there is a profile for every dynamic dim."""
    return check in (hand, "needs-profile")


def command(*argv: str, no: str = "") -> Callable[[Path], bool]:
    """A checker that is a command: yes is exit code 0, and nothing in its output that says no."""

    def run(path: Path) -> bool:
        done = subprocess.run(
            [*argv, str(path)],
            capture_output=True,
            text=True,
            env={**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"},
        )
        return done.returncode == 0 and not (no and no in done.stdout + done.stderr)

    return run


def onnx_checker(path: Path) -> bool:
    """onnx.checker in full, in this process."""
    import onnx.checker

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception:
        return False
    return True


def peers() -> dict[str, Callable[[Path], bool]]:
    """The other checkers that are installed."""
    tools = Path(sys.executable).parent
    found: dict[str, Callable[[Path], bool]] = {"onnx.checker": onnx_checker}
    poly = [sys.executable, "-c", "import sys; from polygraphy.tools import main; sys.exit(main())"]
    found["polygraphy check lint"] = command(*poly, "check", "lint")
    found["polygraphy inspect capability"] = command(*poly, "inspect", "capability", no="Unsupported")
    if (tools / "trtcheck").exists():
        found["trtcheck"] = command(str(tools / "trtcheck"), "--format", "json")
    return found


def main() -> None:
    """Options, the runs, the table and results/check_nodes.json."""
    parser = argparse.ArgumentParser(description="Verdicts over ONNX's node tests.")
    parser.add_argument("--every", type=int, default=1, help="take every n-th model")
    parser.add_argument("--peers-every", type=int, default=10, help="of those, the ones for the other tools")
    parser.add_argument("--version", help="another TensorRT-RTX than the installed one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    if options.version:
        from tests.tensorrt import _installed

        os.environ["PYTHONPATH"] = str(_installed(options.version))
    models = dict(list(baked_node_tests())[:: options.every])
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{name}.onnx") for name in models}
        for name, path in paths.items():
            path.write_bytes(models[name])
        content = measure(models, paths, options)
    name = "check_nodes" + (f"_{options.version}" if options.version else "")
    save(name, content, options.results)
    print(json.dumps(content["disagreements"], indent=1))
    print(table(["checker", "models", "right", "share", "seconds a model"], content["rows"]))


def measure(models: Mapping[str, bytes], paths: Mapping[str, Path], options: Any) -> dict[str, Any]:
    """All checkers on these models."""
    hand, hand_took = by_hand(models, options.version)
    check, each, took = by_graphkit(paths, options.jobs)
    wrong = {n: {"check": check[n], "by_hand": hand[n]} for n in models if not same(check[n], hand[n])}
    count = len(models)
    rows: list[list[Any]] = [
        ["parse + build by hand", count, count, 1.0, hand_took / count],
        ["graphkit check", count, count - len(wrong), 1 - len(wrong) / count, sum(each) / count],
    ]
    some = list(models)[:: options.peers_every or 1]
    for name, ask in peers().items() if options.peers_every else ():
        start = time.perf_counter()
        right = sum(ask(paths[n]) == (hand[n] == "ok") for n in some)
        rows.append([name, len(some), right, right / len(some), (time.perf_counter() - start) / len(some)])
    return {
        "tensorrt_rtx": options.version or metadata.version("tensorrt-rtx"),
        "models": count,
        "wall_s": took,
        "verdicts": dict(Counter(check.values())),
        "by_hand": dict(Counter(hand.values())),
        "disagreements": wrong,
        "rows": rows,
    }


if __name__ == "__main__":
    main()
