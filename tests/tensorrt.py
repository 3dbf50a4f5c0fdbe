"""What TensorRT-RTX says of a model: its parser and builder, in a process of their own, no GPU needed.

Run as a script it is that process: it reads lines of ``{"id": …, "path": …}`` and answers each with one.
It imports nothing but TensorRT-RTX, so that a version other than the installed one can be asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CRASHED = "crashed"
NEEDS_GPU = "needs-gpu"
# The builder of 1.4 asks for a device as soon as it meets int8; plugins have kernels on a GPU alone.
GPU_ONLY = ("generateForCurrent", "has no runners that implement it")
PACKAGES = ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings", "tensorrt-rtx-cu13-libs")


def verdicts(models: Mapping[str, bytes], version: str | None = None) -> dict[str, str]:
    """Why each model is refused; empty when it parses and builds for compute capability 8.9.

    ``version`` of TensorRT-RTX: the installed one, or another, which is downloaded on first use. Dynamic dims
    are built for 1 to 8. What the builder cannot tell without a GPU counts as built.
    """
    found = judged(models, version)
    return {name: "" if stage == NEEDS_GPU else said for name, (stage, said) in found.items()}


def judged(models: Mapping[str, bytes], version: str | None = None) -> dict[str, tuple[str, str]]:
    """For each model (stage, reason): parse, build, needs-gpu, crashed, or two empty texts when it builds."""
    environment = {**os.environ, **({} if version is None else {"PYTHONPATH": str(_installed(version))})}
    found: dict[str, tuple[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder, f"{i}.onnx") for i, name in enumerate(models)}
        for name, path in paths.items():
            path.write_bytes(models[name])
        while len(found) < len(models):
            waiting = [name for name in models if name not in found]
            lines = "".join(json.dumps({"id": n, "path": str(paths[n])}) + "\n" for n in waiting)
            done = subprocess.run(
                [sys.executable, __file__], input=lines, capture_output=True, text=True, env=environment
            )
            answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"id"')]
            found |= {a["id"]: (a["stage"], a["said"]) for a in answers}
            if len(answers) < len(waiting):
                if "Error" in done.stderr.splitlines()[-1:]:
                    raise RuntimeError(done.stderr)
                found[waiting[len(answers)]] = (CRASHED, CRASHED)
    return found


def _installed(version: str) -> Path:
    """A folder with TensorRT-RTX of this version; skips the test where it is not to be had."""
    import pytest

    folder = ROOT / ".cache" / f"tensorrt-rtx-{version}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        wanted = [f"{package}=={version}" for package in PACKAGES]
        done = subprocess.run([*pip, "--target", f"{scratch}/site", *wanted], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"TensorRT-RTX {version} is not to be had: {done.stderr.strip()[-200:]}")
        if not folder.is_dir():
            Path(scratch, "site").rename(folder)
    return folder


def _answer() -> None:
    import tensorrt_rtx as trt

    said: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                said.append(message)

    logger = Logger()
    for line in sys.stdin:
        ask = json.loads(line)
        said.clear()
        stage, reason = _refusal(trt, logger, ask["path"], said)
        with _apart():
            print(json.dumps({"id": ask["id"], "stage": stage, "said": reason}), flush=True)


@contextmanager
def _apart() -> Iterator[None]:
    """On a line of its own, whatever the library prints."""
    print(flush=True)
    yield


def _refusal(trt: Any, logger: Any, path: str, said: list[str]) -> tuple[str, str]:
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        told = "; ".join(f"{e.node_operator()} '{e.node_name()}': {e.desc()}" for e in errors)
        return "parse", told or "it does not say why"
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    dynamic = False
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if any(d < 0 for d in tensor.shape):
            dynamic = True
            least, most = ([d if d >= 0 else n for d in tensor.shape] for n in (1, 8))
            profile.set_shape(tensor.name, least, least, most)
    if dynamic:
        config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        stage = "needs-gpu" if any(gpu in line for line in said for gpu in GPU_ONLY) else "build"
        return stage, "; ".join(said) or "it does not say why"
    return "", ""


if __name__ == "__main__":
    _answer()
