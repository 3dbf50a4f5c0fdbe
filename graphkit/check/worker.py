"""The process in which models are looked at: a crash, a hang or a flood of memory costs one stage of one.

``python -m graphkit.check.worker rtx`` reads requests from stdin, one JSON object a line; answers on stdout.
It has imported what every model needs; each request is served by a child that it forks (where there is no
fork: starts), watches and, when that takes too long or too much memory, kills. A request:

    {"id": 1, "path": "m.onnx", "stages": ["rules", "parse", "8.9"], "trt": "auto",
     "shapes": [], "rules": {}, "seconds": 120, "bytes": 4294967296}

The answers: ``{"id": 1, "begin": "parse"}`` before each stage, after it
``{"id": 1, "stage": "parse", "verdict": "ok", "findings": []}``, and at the end ``{"id": 1, "end": ""}``, or
why the child ended early: ``timeout``, ``memory``, or ``signal 11``; a child that fails in Python has said
``{"id": 1, "failed": "ValueError: …"}`` before.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

Request = Mapping[str, Any]
Answer = dict[str, Any]
_POLL = 0.005  # seconds, doubled up to the next
_SLOWEST = 0.1
_MOST = 300  # characters of what a child raised


def main() -> None:
    """Serve requests until stdin ends."""
    requests, out = sys.stdin, _own_stdout()
    fork = hasattr(os, "fork")
    if fork:
        _warm(sys.argv[1] if len(sys.argv) > 1 else "auto")
        gc.freeze()  # what is here stays; a child's collector need not touch, and so copy, it
    for line in requests:
        request = json.loads(line)
        child = _forked(request, out) if fork else _started(line, out)
        print(json.dumps({"id": request["id"], "end": _watched(child, request)}), file=out, flush=True)


def _own_stdout() -> TextIO:
    """The answers' stream; what libraries print goes nowhere."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    sink = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(sink, number)
    os.close(sink)
    return out


def _warm(which: str) -> None:
    """Import what every child needs; TensorRT too, which makes nothing of its own before it is used."""
    for name in ("graphkit.check.serve", "graphkit.model.infer", "graphkit.run.judge"):
        importlib.import_module(name)
    from graphkit.errors import GraphkitError
    from graphkit.run import trt

    _warm_rules()
    try:
        trt.load(which)
    except GraphkitError:
        return
    for name in ("polygraphy.backend.trt", "polygraphy.backend.tensorrt_rtx"):
        importlib.import_module(name)


def _warm_rules() -> None:
    """Import the rules and the passes that they ask; one that does not import is told by each child."""
    from graphkit.check.registry import installed
    from graphkit.errors import GraphkitError
    from graphkit.rewrite import registry

    for rule in installed().values():
        try:
            mend = str(getattr(rule.load(), "mend", "")).partition(":")[0]
            if mend in registry.installed():
                registry.installed()[mend].load()
        except GraphkitError:
            continue


Poll = Callable[[], int | None]


def _forked(request: Request, out: TextIO) -> tuple[int, Poll]:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            serve(request, out)
            status = 0
        finally:
            out.flush()
            os._exit(status)  # no clean-up of what the parent owns

    def poll() -> int | None:
        done, status = os.waitpid(pid, os.WNOHANG)
        return None if done == 0 else os.waitstatus_to_exitcode(status)

    return pid, poll


def _started(line: str, out: TextIO) -> tuple[int, Poll]:
    command = [sys.executable, "-m", "graphkit.check.worker", "--one", line]
    child = subprocess.Popen(command, stdout=out.fileno(), stderr=subprocess.DEVNULL)
    return child.pid, child.poll


def _watched(child: tuple[int, Poll], request: Request) -> str:
    """Wait for a child; why it ended, when it did not end by itself."""
    pid, poll = child
    end = time.monotonic() + float(request["seconds"])
    limit, pause = int(request["bytes"]), _POLL
    while True:
        code = poll()
        if code is not None:
            return "" if code == 0 else f"signal {-code}" if code < 0 else f"exit {code}"
        reason = "timeout" if time.monotonic() > end else "memory" if _resident(pid) > limit else ""
        if reason:
            _kill(pid, poll)
            return reason
        time.sleep(pause)
        pause = min(2 * pause, _SLOWEST)


def _kill(pid: int, poll: Poll) -> None:
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    while poll() is None:
        time.sleep(_POLL)


def _resident(pid: int) -> int:
    """Bytes of memory that a process has; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * int(os.sysconf("SC_PAGE_SIZE"))


def serve(request: Request, out: TextIO) -> None:
    """Run the stages of one request; what they raise is told, and ends the child."""
    from graphkit.check.serve import stages

    try:
        for answer in stages(request):
            print(json.dumps({"id": request["id"], **answer}), file=out, flush=True)
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:_MOST]
        print(json.dumps({"id": request["id"], "failed": said}), file=out, flush=True)
        raise


def answers(stream: Iterable[str]) -> Iterator[Answer]:
    """The answers in a worker's output; a line that a dying child left half is passed over."""
    for line in stream:
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and "id" in answer:
            yield answer


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        serve(json.loads(sys.argv[2]), _own_stdout())
    else:
        main()
