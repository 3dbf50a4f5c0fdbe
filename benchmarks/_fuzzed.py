"""One mutated model in a child process: loaded, rewritten, checked by the rules, while a parent watches.

The child tells of each step in a line of JSON; the parent ends it when a step takes too long or too much
memory, and looks what lies in the scratch folder that did not lie there before.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

STEPS = ("load", "rewrite", "rules")
SECONDS = 10.0  # for one step
MEMORY = 2_000_000_000
VERIFY, VERIFY_SECONDS = 1 << 29, 4.0  # so that the whole step stays below its limits
MODEL, OUT = "model.onnx", "out.onnx"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = frozenset(
    f"os.{what}" for what in ("mkdir", "remove", "rename", "rmdir", "link", "symlink", "chmod", "truncate")
)
_STARTS = frozenset(
    ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
)


@dataclass
class Outcome:
    """What came of a mutant: by step ``fine``, ``refused`` or what is wrong; details; peak bytes; seconds."""

    steps: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak: int = 0

    @property
    def bad(self) -> bool:
        """Whether a step ended otherwise than it may."""
        return any(s not in ("fine", "refused", "pass failed", "rule failed") for s in self.steps.values())


# -- the scratch folder


def prepare(root: Path) -> Path:
    """A folder for the model with data files beside it that are no data; the model's path."""
    inside, outside = root / "in", root / "outside"
    for folder in (inside, outside, root / "home", root / "tmp", inside / "sub"):
        folder.mkdir(parents=True)
    (outside / "secret.bin").write_bytes(b"secret!!" * 512)
    (inside / "weights.bin").write_bytes(bytes(range(256)) * 16)
    (inside / "link.bin").symlink_to("../outside/secret.bin")
    (inside / "folder").symlink_to("../outside")
    (inside / "zero").symlink_to("/dev/zero")
    os.mkfifo(inside / "fifo")
    with open(inside / "huge.bin", "wb") as file:
        file.truncate(3 << 30)  # takes no room on the disk
    return inside / MODEL


def snapshot(root: Path) -> dict[str, tuple[int, ...]]:
    """Everything below a folder, with kind, size and time of change; what a rewrite writes is left out."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if name not in (MODEL, OUT):
                status = os.lstat(path)
                time_changed = 0 if name in folders else status.st_mtime_ns
                found[path] = (status.st_mode, status.st_size if name in files else 0, time_changed)
    return found


# -- the child


def child(path: Path, passes: Sequence[str], recipe: str | None, out: TextIO) -> None:
    """All steps; a step that cannot go on says why."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.dont_write_bytecode = True
    root = path.parent.parent
    os.chdir(root / "home")
    os.environ.update(HOME=str(root / "home"), TMPDIR=str(root / "tmp"))
    guard(root, lambda what: tell(out, outside=what))
    work: dict[str, Callable[[], str]] = {
        "load": lambda: load(path),
        "rewrite": lambda: rewrite(path, passes, recipe),
        "rules": lambda: rules(path),
    }
    for step in STEPS:
        tell(out, begin=step)
        with open(root / "tmp" / "stack", "w") as stack:
            faulthandler.dump_traceback_later(SECONDS - 0.5, file=stack)
            result, detail = guarded(work[step])
            faulthandler.cancel_dump_traceback_later()
        tell(out, step=step, result=result, detail=detail)


def guard(root: Path, report: Callable[[str], None]) -> None:
    """Have every attempt of Python to write outside the scratch folder, or to start something, reported."""
    inside = (str(root) + os.sep, "/dev/null", "/proc/self")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STARTS:
            report(event)
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if writes or event in _CHANGES:
            path = arguments[0]
            if isinstance(path, str | bytes | os.PathLike) and not os.path.abspath(
                os.fsdecode(path)
            ).startswith(inside):
                report(f"{event} {os.fsdecode(path)}")

    sys.addaudithook(hook)


def tell(out: TextIO, **what: str) -> None:
    """One line for the parent."""
    out.write(json.dumps(what) + "\n")
    out.flush()


def guarded(work: Callable[[], str]) -> tuple[str, str]:
    """What a step says, and a detail; errors of graphkit's own are refusals."""
    from graphkit.errors import GraphkitError, NotApplicable, PassFailed

    try:
        said = work()
        return ("rule failed" if said else "fine"), said
    except PassFailed as error:
        cause = error.__cause__
        accident = cause is not None and not isinstance(cause, GraphkitError | NotApplicable)
        return ("pass failed" if accident else "refused"), str(error)
    except GraphkitError as error:
        text = str(error)
        return ("refused", text) if "\n" not in text else ("several lines", text)
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = [f"{Path(f.filename).name}:{f.lineno}" for f in frames[-6:]]
        return "traceback", f"{type(error).__name__}: {str(error)[:200]} ({' '.join(where)})"


def load(path: Path) -> str:
    """Read the model, and look at all it holds."""
    from graphkit.model.model import Model

    model = Model.load(path)
    for scope in model.scopes():
        for node in scope.nodes:
            for tensor in (*node.inputs, *node.outputs):
                scope.value(tensor), scope.shape(tensor), scope.dtype(tensor)
    return ""


def rewrite(path: Path, passes: Sequence[str], recipe: str | None) -> str:
    """Run passes, verify, and write beside the model."""
    from graphkit import rewrite as run

    run(
        path,
        list(passes),
        path.with_name(OUT),
        recipe=recipe,
        verify_memory=VERIFY,
        verify_seconds=VERIFY_SECONDS,
    )
    return ""


def rules(path: Path) -> str:
    """All rules; what those said that crashed."""
    from graphkit.check.serve import stages

    request = {
        "path": str(path),
        "stages": ["rules"],
        "trt": "auto",
        "shapes": [],
        "targets": ["8.9"],
        "rules": {},
    }
    answers = [json.loads(json.dumps(a)) for a in stages(request)]
    failed = [f["message"] for a in answers for f in a.get("findings", ()) if f["rule"] == "rule-failed"]
    return "; ".join(failed)


# -- the parent


def watch(path: Path, passes: Sequence[str], recipe: str | None) -> Outcome:
    """Fork the child and follow it to its end."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        sink = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(sink, number)
        with suppress(BaseException), os.fdopen(write, "w") as out:
            child(path, passes, recipe, out)
        os._exit(0)
    os.close(write)
    outcome, step, begun, text = Outcome(), "", time.monotonic(), b""
    killed = ""
    while True:
        ready, _, _ = select.select([read], [], [], 0.02)
        if ready:
            block = os.read(read, 1 << 16)
            if not block:
                break
            text += block
            *lines, text = text.split(b"\n")
            for line in map(json.loads, lines):
                if "begin" in line:
                    step, begun = line["begin"], time.monotonic()
                elif "outside" in line:
                    outcome.steps["files"] = "outside"
                    outcome.details["files"] = f"{step}: {line['outside']}"
                else:
                    outcome.steps[step], outcome.details[step] = line["result"], line["detail"]
                    outcome.seconds[step] = time.monotonic() - begun
        if time.monotonic() - begun > SECONDS:
            killed = "hang"
        elif resident(pid) > MEMORY:
            killed = "memory"
        if killed:
            os.kill(pid, signal.SIGKILL)
            break
    os.close(read)
    _, status, usage = os.wait4(pid, 0)
    outcome.peak = usage.ru_maxrss * 1024
    code = os.waitstatus_to_exitcode(status)
    if killed or code:
        outcome.steps[step] = killed or (f"signal {-code}" if code < 0 else f"exit {code}")
        outcome.details[step] = stack(path.parent.parent / "tmp" / "stack")
        outcome.seconds[step] = time.monotonic() - begun
    return outcome


def resident(pid: int) -> int:
    """Bytes that a process has in memory, files that it maps left out."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(fields[1]) - int(fields[2])) * _PAGE


def stack(path: Path) -> str:
    """The innermost lines of what a child did when its time was nearly over."""
    with suppress(OSError):
        return " ".join(line.strip().rpartition("/")[2] for line in path.read_text().splitlines()[:16])
    return ""


def seeds(folder: Path, count: int) -> Iterator[tuple[str, bytes]]:
    """Small models by name: one or two of each folder of fixtures, and of those in onnx's wheel."""
    import onnx.parser

    wheel = Path(onnx.__file__).parent / "backend" / "test" / "data"
    by_folder: dict[Path, list[Path]] = {}
    for path in sorted([*folder.rglob("*.onnxtxt"), *folder.rglob("*.onnx")]):
        by_folder.setdefault(path.parent, []).append(path)
    own = [paths[len(paths) // 2] for paths in by_folder.values()]
    others = sorted(p for p in wheel.rglob("*.onnx") if 200 < p.stat().st_size < 20_000)
    step = max(1, len(others) // (count * 2 // 5))
    left = count
    for path in [*others[::step][: count * 2 // 5], *own[:: max(1, len(own) * 5 // (count * 3))], *own]:
        if left == 0:
            return
        data = path.read_bytes()
        if path.suffix == ".onnxtxt":
            try:
                data = onnx.parser.parse_model(data.decode()).SerializeToString()
            except Exception:  # a fixture that is no model, on purpose
                continue
        if len(data) < 100_000:
            left -= 1
            yield str(path.relative_to(folder.parent if path.is_relative_to(folder) else wheel)), data
