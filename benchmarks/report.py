"""Puts the tables of results/*.json into README.md: `python benchmarks/report.py`."""

from __future__ import annotations

import importlib
import json

from _harness import HERE
from _results import RESULTS

START = "## Last results\n"
SCRIPTS = ("transformer", "nodes", "startup", "rewrite_small")


def section(name: str) -> str:
    """One script's table, and where it was made."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return ""
    content = json.loads(path.read_text())
    made = content["environment"]
    versions = ", ".join(f"{package} {version}" for package, version in made["versions"].items())
    machine = f"{made['cpus']} CPUs ({made['cpu']}), {made['memory_gb']} GB, Python {made['python']}"
    table = importlib.import_module(name).show(content)
    return f"\n### {name}\n`{made['command']}`, {content['runs']} runs, {machine}; {versions}.\n\n{table}\n"


def main() -> None:
    """Rewrites the end of README.md."""
    readme = HERE / "README.md"
    before = readme.read_text().partition(START)[0].rstrip("\n")
    readme.write_text(f"{before}\n\n{START}" + "".join(map(section, SCRIPTS)))


if __name__ == "__main__":
    main()
