"""One model's check through a worker: stage by stage, past those that kill the child."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from graphkit.check.worker import Answer, answers
from graphkit.report.checks import Finding, Verdict

__all__ = ["OWN", "Checked", "Worker", "check_one"]

OWN = {
    "unreadable": "the file is no ONNX model, or one that graphkit does not open",
    "parser": "TensorRT's parser refuses the model",
    "builder": "TensorRT's builder refuses the model",
    "needs-gpu": "the builder cannot answer without a GPU",
    "needs-profile": "the inputs have dynamic shapes, and nobody said which to build for",
    "crashed": "the process that looked at the model died, hung, or took too much memory",
    "rule-failed": "a rule could not be run on the model",
    "no-tensorrt": "there is no TensorRT here, so only the rules were run",
}
"""Findings that are no rule's: by id, what they say."""


class Worker:
    """A worker process of one TensorRT, started when it is first asked, and again when it is gone."""

    def __init__(self, trt: str = "auto") -> None:
        self._trt = trt
        self._process: subprocess.Popen[str] | None = None
        self._asked = 0

    def ask(self, request: Mapping[str, Any]) -> Iterator[Answer]:
        """The answers to one request, the last with ``end``."""
        self._asked += 1
        request = {**request, "id": self._asked}
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        except OSError:
            self.close()
            yield {"id": request["id"], "end": "the worker is gone"}
            return
        for answer in answers(process.stdout):
            if answer["id"] == request["id"]:
                yield answer
                if "end" in answer:
                    return
        self.close()
        yield {"id": request["id"], "end": "the worker is gone"}

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "graphkit.check.worker", self._trt],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        return self._process


@dataclass
class Checked:
    """What came of one model."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def check_one(worker: Worker, request: Mapping[str, Any]) -> Checked:
    """Run all stages; after one that kills the child, those that remain are asked for again."""
    result = Checked()
    targets = [s for s in request["stages"] if s not in ("rules", "parse")]
    waiting = list(request["stages"])
    while waiting:
        begun, said, read = waiting[0], "", True
        for answer in worker.ask({**request, "stages": waiting}):
            begun, said = answer.get("begin", begun), answer.get("failed", said)
            if "stage" in answer:
                result.findings += [_finding(f) for f in answer["findings"]]
                read = answer["stage"] != "read"
                _note(result, answer, targets)
            if "end" in answer:
                died = answer["end"]
        if not read:
            result.verdicts = dict.fromkeys(targets, "fails-parse")
            break
        if not died:
            break
        waiting = _past(result, begun, said or died, waiting, targets, request)
    _mend(worker, request, result)
    return result


def _mend(worker: Worker, request: Mapping[str, Any], result: Checked) -> None:
    """Name the passes that mend what the parser refused; a child that dies of the search names none."""
    if not any(f.rule == "parser" and not f.fix for f in result.findings):
        return
    complaints = [asdict(f) for f in result.findings]
    for answer in worker.ask({**request, "stages": ["mends"], "complaints": complaints}):
        for number, spec in answer.get("mends", {}).items():
            result.findings[int(number)] = replace(result.findings[int(number)], fix=spec)


def _note(result: Checked, answer: Answer, targets: Sequence[str]) -> None:
    if answer["stage"] in targets:
        result.verdicts[answer["stage"]] = answer["verdict"]
    elif answer["stage"] == "parse" and answer["verdict"] != "ok":
        verdict: Verdict = answer["verdict"]
        result.verdicts = dict.fromkeys(targets, verdict)


def _past(
    result: Checked,
    begun: str,
    died: str,
    waiting: Sequence[str],
    targets: Sequence[str],
    request: Mapping[str, Any],
) -> list[str]:
    """Record the stage that killed the child; what remains to be asked."""
    what = {"rules": "the rules", "parse": "the parser"}.get(begun, "the builder")
    at = (begun,) if begun in targets else ()
    result.findings.append(Finding("crashed", "error", f"{what} {_why(died, request)}", targets=at, raw=died))
    if begun == "rules":
        return [s for s in waiting if s != "rules"]
    if begun == "parse":
        result.verdicts = dict.fromkeys(targets, "crashed")
        return []
    result.verdicts[begun] = "crashed"
    left = list(targets[targets.index(begun) + 1 :])
    return ["parse", *left] if left else []


def _why(died: str, request: Mapping[str, Any]) -> str:
    if died == "timeout":
        return f"took longer than {request['seconds']:g} s; --timeout allows more"
    if died == "memory":
        return f"took more than {int(request['bytes']) >> 20} MiB of memory; --memory allows more"
    return f"crashed ({died})"


def _finding(tree: Mapping[str, Any]) -> Finding:
    return Finding(**{**tree, "stack": tuple(tree["stack"]), "targets": tuple(tree["targets"])})
