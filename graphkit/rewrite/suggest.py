"""What somebody may have meant by a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]

_MOST = 3


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``did you mean silu or fuse-silu?``; empty when nothing is close.

    Case, and ``_`` for ``-``, make no difference; neither does an end that was left off.
    """
    spelled = {_plain(k): k for k in sorted(known, reverse=True)}
    wanted = _plain(name)
    if not wanted:
        return ""
    found = [wanted] if wanted in spelled else [k for k in sorted(spelled) if k.startswith(wanted)]
    found = found or get_close_matches(wanted, spelled, _MOST, 0.5)
    return f"did you mean {' or '.join(spelled[k] for k in found[:_MOST])}?" if found else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "-")
