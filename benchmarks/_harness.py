"""Runs commands in processes of their own: seconds, peak memory, failures with their reason.

Run as a script it is the launcher: a small process that starts one command and says what it took.
A command started straight from a large process would inherit that process's peak memory in `ru_maxrss`.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
REPORT = "@report "  # a line of stdout that starts so is the command's own measurement, as JSON
ERROR = re.compile(r"(\w+\.)*\w*(Error|Exception|Fail)\b|\[!\]|\[E\]|error:")


@dataclass(frozen=True)
class Contender:
    """What is measured: `argv`, in which `{model}` and `{out}` stand for the files of this run."""

    name: str
    argv: Sequence[str]
    note: str = ""

    def command(self, **files: Path) -> list[str]:
        """`argv` with the files filled in."""
        return [re.sub(r"\{(\w+)\}", lambda m: str(files[m[1]]), part) for part in self.argv]


def python(script: str, *arguments: str) -> list[str]:
    """A command that runs one of the scripts of this folder in this environment."""
    return [sys.executable, str(HERE / script), *arguments]


def entry_point(name: str, module: str, function: str = "main") -> list[str]:
    """The command `name` of this environment, or what such a command does where it is not installed."""
    script = Path(sys.executable).with_name(name)
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"]


def graphkit() -> list[str]:
    """The graphkit command."""
    return entry_point("graphkit", "graphkit.cli")


def polygraphy() -> list[str]:
    """The polygraphy command."""
    return entry_point("polygraphy", "polygraphy.tools")


def measure(command: Sequence[str], cwd: Path | None = None, timeout: float = 900) -> dict[str, Any]:
    """Runs a command: {"wall": s, "cpu": s, "peak": bytes}, what it reported itself, "error" when it failed.

    Peak is the largest resident set of the command or of a process it started, mapped file pages included.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        launcher = [sys.executable, "-I", "-S", str(HERE / "_harness.py"), str(result), str(timeout)]
        subprocess.run([*launcher, *command], cwd=cwd, check=True)
        sample: dict[str, Any] = json.loads(result.read_text())
    return sample


def launch(result: Path, timeout: float, command: Sequence[str]) -> None:
    """The launcher's work: runs the command and writes its sample to `result`."""
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        expired = not timer.is_alive()
        timer.cancel()
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code
        texts = [read(stream) for stream in (out, errors)]
    cpu = usage.ru_utime + usage.ru_stime
    sample: dict[str, Any] = {"wall": wall, "cpu": cpu, "peak": peak_bytes(usage)}
    if code:
        sample["error"] = f"no result in {timeout:g} s" if expired else reason(code, texts[1] or texts[0])
    for line in texts[0].splitlines():
        if line.startswith(REPORT):
            sample |= json.loads(line.removeprefix(REPORT))
    result.write_text(json.dumps(sample))


def read(stream: Any) -> str:
    """All that was written to a temporary file."""
    stream.seek(0)
    return str(stream.read().decode(errors="replace"))


def peak_bytes(usage: resource.struct_rusage) -> int:
    """`ru_maxrss` in bytes: Linux gives KiB, macOS bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reason(code: int, text: str) -> str:
    """Why a command failed, in one line: its signal, or the last lines that it wrote."""
    if code < 0:
        return f"killed by signal {-code}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if ERROR.match(line)]
    return neutral((errors or lines or [f"exit code {code}"])[-1])[:300]


def neutral(text: str) -> str:
    """The text without paths of this machine."""
    for path, short in ((sys.prefix, "<env>"), (str(ROOT), "."), (tempfile.gettempdir(), "<tmp>")):
        text = text.replace(path, short)
    return re.sub(r"(?<![\w.<>/])/[\w.+-]+(?:/[\w.+-]+)+", lambda m: f"<path>/{Path(m[0]).name}", text)


def run_all(
    contenders: Iterable[Contender],
    runs: int,
    files: Callable[[Contender], Mapping[str, Path]],
    after: Callable[[Contender, Mapping[str, Path]], Mapping[str, Any]] | None = None,
    timeout: float = 900,
    settle: bool = False,
) -> dict[str, dict[str, Any]]:
    """Runs every contender `runs` times, in turns, and sums each up; one that fails is not run again.

    `files` names the files of a run; `after` looks at what the first run wrote. OUT is then removed.
    With `settle`, what a run left to be written reaches the disk before the next starts.
    """
    samples: dict[str, list[dict[str, Any]]] = {}
    found: dict[str, Mapping[str, Any]] = {}
    contenders = list(contenders)
    for contender in contenders * runs:
        past = samples.setdefault(contender.name, [])
        if past and "error" in past[-1]:
            continue
        names = files(contender)
        before = set(names["out"].parent.iterdir())
        if settle:
            os.sync()
        past.append(measure(contender.command(**names), names["out"].parent, timeout))
        if after and "error" not in past[-1] and len(past) == 1:
            found[contender.name] = after(contender, names)
        for path in set(names["out"].parent.iterdir()) - before:
            path.unlink() if path.is_file() else None
        print(f"{contender.name}: {brief(past[-1])}", file=sys.stderr, flush=True)
    return {c.name: summary(c, samples[c.name]) | dict(found.get(c.name, {})) for c in contenders}


def brief(sample: Mapping[str, Any]) -> str:
    """One run in a few words."""
    return str(sample.get("error") or f"{sample['wall']:.2f} s, {sample['peak'] / 1e6:.0f} MB")


def summary(contender: Contender, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the runs, and each run."""
    shown = {"note": contender.note} if contender.note else {}
    errors = [sample["error"] for sample in samples if "error" in sample]
    if errors:
        return {**shown, "failed": errors[0], "peak_mb": round(samples[-1]["peak"] / 1e6)}
    result: dict[str, Any] = {**shown, "wall_s": middle(samples, "wall"), "cpu_s": middle(samples, "cpu")}
    if "seconds" in samples[0]:
        result |= {"work_s": middle(samples, "seconds"), "import_s": middle(samples, "imports")}
    result["peak_mb"] = round(median(sample["peak"] for sample in samples) / 1e6)
    if len(samples) > 1:
        result["wall_s_runs"] = [round(sample["wall"], 3) for sample in samples]
    return result


def middle(samples: Sequence[Mapping[str, Any]], key: str) -> float:
    """The median, to the millisecond."""
    return float(round(median(sample[key] for sample in samples), 3))


def inspect(model: Path, out: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """What `_outcome.py` says of a model that was written: nodes, and whether its outputs held."""
    command = python("_outcome.py", str(model), str(out), json.dumps(shapes))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"agrees": False, "why": reason(done.returncode, done.stderr)}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found | {"why": neutral(found["why"])} if "why" in found else found


if __name__ == "__main__":
    launch(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
