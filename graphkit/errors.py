"""Errors that graphkit raises on purpose: one line each, saying what, where and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class GraphkitError(Exception):
    """Base of every error a user can cause; the CLI prints it without a traceback.

    ``exit_code`` is 2 (bad usage or bad input) or 1 (the answer is no); ``report`` is what had been done by
    then, when there is something to tell.
    """

    exit_code: ClassVar[int] = 2
    report: Any = None


class BadInput(GraphkitError):
    """A model or data file cannot be used: not a model, truncated, missing data, a cycle, …"""


class BadOutput(GraphkitError):
    """The result cannot be written where it was asked for; nothing was written."""


class NoRuntime(GraphkitError):
    """What has to run it is not here: no TensorRT, no driver, no GPU, or one that it does not support."""


class BadEngine(BadInput):
    """An engine cannot be used: from another version, cut short, not this model's, or for another GPU."""


class BadCapture(BadInput):
    """A capture file cannot be read: cut short, not a capture, or of a newer format."""


class BuildFailed(GraphkitError):
    """TensorRT's parser or builder refused the model; ``findings`` holds one record for each complaint."""

    exit_code = 1

    def __init__(self, message: str, findings: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class UnknownPass(GraphkitError):
    """No installed pass has that name."""


class BadOption(GraphkitError):
    """A pass option is unknown, missing, or its value has the wrong type."""


class BadRecipe(GraphkitError):
    """A recipe file cannot be read or does not say what to run."""


class BadPass(GraphkitError):
    """A pass cannot be used: its file does not import, or two passes share a name."""


class NotApplicable(GraphkitError):
    """A pattern matched, but a precondition did not hold; carries the reason. Never reaches the user."""


class PassFailed(GraphkitError):
    """A pass raised, or left a graph that is not a valid model; nothing was written."""

    exit_code = 1


class RewriteRefused(GraphkitError):
    """The rewritten model does not compute what the original did; nothing was written."""

    exit_code = 1
