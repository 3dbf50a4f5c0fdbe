"""Inputs that a user gives, in Polygraphy's forms or numpy's, checked against the model; or seeded ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, TypeProto, ValueInfoProto

from graphkit.errors import BadInput
from graphkit.model.disk import reason, shown
from graphkit.run.feeds import feeds
from graphkit.run.shapes import Shape, required_inputs, tensor_type

Arrays = dict[str, NDArray[Any]]

_FORMS = "give a .npz, a .npy, a folder of those, a .json that Polygraphy saved, or a .py with load_data()"
_MOST_SETS = 100_000  # what a script yields without end is stopped here


def load_inputs(
    spec: str | os.PathLike[str] | None,
    model: ModelProto,
    *,
    seed: int = 0,
    shapes: Mapping[str, Shape] | None = None,
    count: int = 1,
) -> list[Arrays]:
    """Sets of inputs for ``model``, which needs no weights: each has every input that has no default.

    ``spec``: a .npz (arrays by input name), a .npy (for the one input), a folder of those (a set each, in the
    order of their names), a .json of Polygraphy's ``save_json`` or ``--save-inputs``, or a Polygraphy data
    loader script, ``FILE.py`` or ``FILE.py:FUNCTION``. A script is run: it is trusted. None: ``count`` seeded
    sets, whose dynamic dims ``shapes`` fixes. BadInput says which input was to be what, and what it is.
    """
    if spec is None:
        return [_seeded(model, seed + n, shapes) for n in range(count)]
    path = Path(spec)
    wanted = required_inputs(model)
    found = [_checked(arrays, wanted, where) for where, arrays in _sets(path, wanted)]
    if not found:
        raise BadInput(f"{shown(path)}: holds no inputs; {_FORMS}")
    return found


def _seeded(model: ModelProto, seed: int, shapes: Mapping[str, Shape] | None) -> Arrays:
    feed = next(feeds(model, seed=seed, shapes=shapes), None)
    if feed is None:
        raise BadInput("no inputs can be made for this model; give them with --inputs")
    for name, value in feed.items():
        if not isinstance(value, np.ndarray):
            raise BadInput(f"input '{shown(name, 60)}' is no tensor; no engine takes it")
    return feed


def _sets(path: Path, wanted: Sequence[ValueInfoProto]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(what to call it, arrays by input name) of each set that a path holds."""
    name = shown(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".npz", ".npy") and p.is_file())
        for file in files:
            yield from _sets(file, wanted)
        return
    script, _, function = str(path).rpartition(":")
    if script.endswith(".py") or path.suffix == ".py":
        pairs = (script, function) if script.endswith(".py") else (str(path), "load_data")
        yield from _called(*pairs)
    elif path.suffix == ".json":
        yield from _polygraphy(path, name)
    elif path.suffix == ".npy":
        if len(wanted) != 1:
            takes = ", ".join(shown(i.name, 40) for i in wanted) or "none"
            raise BadInput(f"{name}: is one array, and the model takes {len(wanted)} ({takes}); give a .npz")
        yield name, {wanted[0].name: _numpy(path, name)}
    elif path.suffix == ".npz":
        with _numpy(path, name) as archive:
            yield name, {key: _member(archive, key, name) for key in archive.files}
    elif not path.exists():
        raise BadInput(f"{name}: there is no such file; check the path of the inputs")
    else:
        raise BadInput(f"{name}: is no form of inputs; {_FORMS}")


def _numpy(path: Path, name: str) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {reason(error)}; check the path of the inputs") from error
    except Exception as error:  # a bad header raises what the tokenizer raises
        raise BadInput(f"{name}: is no {path.suffix} of numpy: {_line(error)}; save it again") from error
    if isinstance(found, np.ndarray) != (path.suffix == ".npy"):
        raise BadInput(f"{name}: holds no {path.suffix}, whatever its name says; save it again")
    return found


def _member(archive: Any, key: str, name: str) -> Any:
    try:
        return archive[key]
    except Exception as error:  # zipfile's, zlib's and numpy's own
        said = f"{name}: its array '{shown(key, 60)}' cannot be read: {_line(error)}; save it again"
        raise BadInput(said) from error


def _polygraphy(path: Path, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What Polygraphy's ``save_json(…)`` and ``--save-inputs`` write: a list of feeds, or one."""
    from polygraphy.json import load_json
    from polygraphy.logger import G_LOGGER

    try:
        with path.open("rb") as stream:
            stream.read(1)
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
            found = load_json(str(path))
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {reason(error)}; check the path of the inputs") from error
    except Exception as error:  # whatever a wrong document trips over in there
        raise BadInput(f"{name}: is no .json of Polygraphy: {_line(error)}; {_FORMS}") from error
    yield from _listed(found, name)


def _called(script: str, function: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The feeds that a data loader script yields."""
    name = shown(script)
    if not Path(script).is_file():
        raise BadInput(f"{name}: there is no such file; check the path of the inputs")
    from polygraphy import mod
    from polygraphy.logger import G_LOGGER

    try:
        with G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), _no_bytecode():
            found = mod.import_from_script(os.path.abspath(script), function)()
        yield from _listed(found, f"{name}:{function}()")
    except BadInput:
        raise
    except (Exception, SystemExit) as error:
        said = _line(_cause(error))
        raise BadInput(f"{name}: its {function}() failed: {said}; run it by itself") from error


@contextmanager
def _no_bytecode() -> Iterator[None]:
    """Leave nothing beside a script that is imported."""
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes


def _listed(found: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The feeds in what a script or a file gave: one, or several one after the other."""
    if isinstance(found, Mapping):
        yield name, found
        return
    try:
        several = iter(found)
    except TypeError as error:
        raise BadInput(f"{name}: gives {type(found).__name__}, not arrays by input name") from error
    for number, feed in enumerate(several):
        if number >= _MOST_SETS:
            raise BadInput(f"{name}: gives more than {_MOST_SETS} sets; end it earlier")
        if not isinstance(feed, Mapping):
            raise BadInput(f"{name}: set {number} is {type(feed).__name__}, not arrays by input name")
        yield f"{name}, set {number}", feed


def _checked(arrays: Mapping[str, Any], wanted: Sequence[ValueInfoProto], where: str) -> Arrays:
    """The arrays, in the model's order; BadInput when they are not what the model takes."""
    names = [i.name for i in wanted]
    takes = ", ".join(shown(n, 40) for n in names) or "none"
    for name in arrays:
        if name not in names:
            raise BadInput(f"{where}: '{shown(name, 60)}' is no input of the model, which takes {takes}")
    for name in names:
        if name not in arrays:
            gives = ", ".join(shown(n, 40) for n in arrays) or "none"
            raise BadInput(f"{where}: lacks the input '{shown(name, 60)}'; it gives {gives}")
    feed = {i.name: _array(arrays[i.name], i.name, i.type, where) for i in wanted}
    _same_symbols(feed, wanted, where)
    return feed


def _array(value: Any, name: str, info: TypeProto, where: str) -> NDArray[Any]:
    """One input as the model takes it; extension dtypes may come as numpy's raw bytes of the same size."""
    t = tensor_type(info)
    if t is None or t.elem_type == TensorProto.STRING:
        raise BadInput(f"{where}: input '{shown(name, 60)}' is no tensor of numbers; no engine takes it")
    array = value if isinstance(value, np.ndarray) else _plain(value, name, where)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
    dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in t.shape.dim]
    known = t.HasField("shape")
    expected = f"{dtype.name} {_text(dims) if known else ''}".rstrip()
    given = f"{array.dtype.name} {_text(array.shape)}"
    fits = not known or (
        len(dims) == array.ndim
        and all(isinstance(d, str) or d == n for d, n in zip(dims, array.shape, strict=True))
    )
    if array.dtype != dtype and array.dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize:
        array = array.view(dtype)  # numpy saves bfloat16 and its kin as raw bytes
    if array.dtype != dtype or not fits:
        raise BadInput(f"{where}: input '{shown(name, 60)}' should be {expected}, and is {given}")
    return np.ascontiguousarray(array).reshape(array.shape)


def _plain(value: Any, name: str, where: str) -> NDArray[Any]:
    try:
        return np.asarray(value.cpu() if hasattr(value, "cpu") else value)  # a tensor of torch
    except Exception as error:
        said = f"{where}: input '{shown(name, 60)}' is {type(value).__name__}, not an array"
        raise BadInput(said) from error


def _same_symbols(feed: Arrays, wanted: Sequence[ValueInfoProto], where: str) -> None:
    """BadInput when one symbol of the model would have two sizes."""
    sizes: dict[str, tuple[int, str]] = {}
    for info in wanted:
        t = tensor_type(info.type)
        dims = t.shape.dim if t is not None and t.HasField("shape") else ()
        for dim, size in zip(dims, feed[info.name].shape, strict=False):
            if dim.dim_param:
                first, name = sizes.setdefault(dim.dim_param, (size, info.name))
                if first != size:
                    raise BadInput(
                        f"{where}: the dim '{shown(dim.dim_param, 40)}' is {first} in '{shown(name, 40)}', "
                        f"and {size} in '{shown(info.name, 40)}'; give both the same"
                    )


def _text(dims: Sequence[object]) -> str:
    return "[" + ",".join(shown(d, 30) for d in dims) + "]"


def _line(error: BaseException) -> str:
    return shown((str(error).strip().splitlines() or [type(error).__name__])[-1])


def _cause(error: BaseException) -> BaseException:
    """What went wrong in a script, behind what Polygraphy's import of it makes of that."""
    from polygraphy.exception import PolygraphyException

    while isinstance(error, (PolygraphyException, KeyError)) and error.__context__ is not None:
        error = error.__context__
    return error
