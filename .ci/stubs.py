"""Puts tensorrt-stubs, mended, into .cache/stubs, where mypy looks for the types of TensorRT's API.

The package cannot be a dependency: it depends on TensorRT itself, which PyPI has no wheels of; it is not
marked as typed; and a few of its signatures are no Python (a parameter named ``in``). Installed beside the
code it would even make an empty ``tensorrt`` importable.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "10.13.0.35.1"
STUBS = Path(__file__).resolve().parent.parent / ".cache" / "stubs"


def mend(text: str) -> str:
    """What pybind11-stubgen wrote, as valid Python: no keyword as a name, no default before none."""
    text = re.sub(r"\bin: (?=list\[)", "in_: ", text)
    return text.replace(
        "power: Weights = None, channel_axis: int)", "power: Weights = None, channel_axis: int = ...)"
    )


def main() -> int:
    """Download and mend once; 0, or pip's exit status."""
    stamp = STUBS / f".{VERSION}"
    if stamp.exists():
        return 0
    shutil.rmtree(STUBS, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*pip, "--target", str(STUBS), f"tensorrt-stubs=={VERSION}"])
    if done.returncode:
        return done.returncode
    for path in STUBS.glob("tensorrt*/*.pyi"):
        path.write_text(mend(path.read_text("utf-8")), "utf-8")
    stamp.touch()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
