"""The user's own metrics: a function of (reference, actual) in a Python file, named ``file.py:name``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from graphkit.errors import BadInput

__all__ = ["Metric", "apply_metrics", "load_metric", "load_metrics"]

Metric = Callable[[NDArray[Any], NDArray[Any]], Any]


def load_metrics(specs: Iterable[str]) -> dict[str, Metric]:
    """The functions that ``file.py:name`` specs name, by name; BadInput when two share one."""
    found: dict[str, Metric] = {}
    for spec in specs:
        name, metric = load_metric(spec)
        if name in found:
            raise BadInput(f"metric '{spec}': there is a metric '{name}' already; give it another name")
        found[name] = metric
    return found


def load_metric(spec: str) -> tuple[str, Metric]:
    """(name, function) of a ``file.py:name`` spec; BadInput when it names no function of two arrays."""
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise BadInput(f"metric '{spec}' names no function; write FILE.py:NAME")
    metric = getattr(_module(path), name, None)
    if not callable(metric):
        raise BadInput(
            f"metric '{spec}': {path} has no function '{name}'; write def {name}(reference, actual)"
        )
    return name, metric


def _module(path: str) -> ModuleType:
    """Import a file under a name of its own, leaving no bytecode beside it."""
    file = Path(path).resolve()
    name = f"graphkit_metric_{abs(hash(str(file))):x}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise BadInput(f"metric file {path}: there is no such file; check the path")
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    sys.modules[name] = module  # dataclasses and pickles in it look themselves up
    sys.path.insert(0, str(file.parent))  # a script may import its neighbours, as when it is run
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BadInput(f"metric file {path}: does not import: {_said(error)}; mend it") from error
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(file.parent))
    return module


def apply_metrics(
    metrics: Mapping[str, Metric], reference: NDArray[Any], actual: NDArray[Any]
) -> dict[str, float]:
    """The number that each gives for a pair of arrays; BadInput naming the one that raises or gives none.

    Both arrays are shown read-only: a metric that wrote into them would change what comes after it.
    """
    if not metrics:
        return {}
    shown = [a.view() for a in (reference, actual)]
    for array in shown:
        array.flags.writeable = False
    found = {}
    for name, metric in metrics.items():
        try:
            found[name] = float(metric(*shown))
        except Exception as error:  # anything that a user's function may raise
            raise BadInput(
                f"metric '{name}' failed on arrays of {reference.dtype.name} {list(reference.shape)}: "
                f"{_said(error)}; it must return one number"
            ) from error
    return found


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
