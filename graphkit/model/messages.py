"""Parsing single ONNX messages, with errors that a person can read."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from graphkit.errors import BadInput
from graphkit.model import wire


def parse(kind: type[Any], view: wire.Buffer) -> Any:
    """Parse one message; BadInput when the bytes are not one."""
    try:
        return kind.FromString(bytes(view))
    except (DecodeError, RecursionError) as error:
        raise BadInput(
            f"not an ONNX model: a {kind.__name__} cannot be decoded ({first_line(error)})"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
