"""Passes in a file, ``--pass ./file.py:name``: a pass class, or any function on a GraphSurgeon graph."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from graphkit.errors import BadPass, GraphkitError, PassFailed
from graphkit.rewrite.failure import describe_failure
from graphkit.rewrite.framework import Pass, Tally, is_concrete
from graphkit.rewrite.options import MISSING, option, rest
from graphkit.rewrite.suggest import did_you_mean

if TYPE_CHECKING:
    from graphkit.model.graph import Graph

__all__ = ["FunctionPass", "function_pass", "is_script", "load_script", "script_of"]

_SPEC = re.compile(r"(?P<path>.+?\.py)(?::(?P<name>[^:=,/\\]*))?(?::(?P<arguments>.*))?", re.DOTALL)


def is_script(spec: str) -> bool:
    """Whether a spec names a file rather than an installed pass."""
    found = _SPEC.fullmatch(spec)
    return found is not None and ":" not in found["path"].replace("\\", "/").split("/")[0][2:]


def load_script(spec: str) -> tuple[type[Pass], str]:
    """The pass class that ``path.py[:name[:key=value,…]]`` names, and its arguments.

    Without a name the file must hold one pass. Raises BadPass when the file is missing, does not import, or
    does not hold what is named.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise BadPass(f"'{spec}' names no script; write ./file.py:name")
    path, name, arguments = found["path"], found["name"] or "", found["arguments"] or ""
    module = _load(path)
    target = _named(module, name, path) if name else _only(module, path)
    origin = f"{path}:{name}" if name else path
    if is_concrete(target):
        target.origin = origin
        return target, arguments
    if inspect.isclass(target) and issubclass(target, Pass):
        lacks = " and ".join(sorted(target.__abstractmethods__))
        raise BadPass(f"pass class {name} in {path} has no method {lacks}; write it")
    if not inspect.isroutine(target):
        raise BadPass(f"'{name}' in {path} is no pass class and no function on a graph")
    return function_pass(target, origin), arguments


def script_of(origin: str) -> Path | None:
    """The file of a pass with that ``origin``; None when it is installed."""
    found = _SPEC.fullmatch(origin)
    return None if found is None else Path(found["path"])


def _named(module: ModuleType, name: str, path: str) -> Any:
    """What a file calls ``name``: a class or function, or the pass whose ``name`` that is."""
    found = getattr(module, name, None)
    if found is not None:
        return found
    runnable = _runnable(module)
    classes = {getattr(getattr(module, k), "name", k): k for k in runnable if is_concrete(getattr(module, k))}
    if name in classes:
        return getattr(module, classes[name])
    hint = did_you_mean(name, [*runnable, *classes])
    raise BadPass(
        f"{path} has no '{name}'; {hint or 'it has ' + (', '.join(runnable) or 'no pass and no function')}"
    )


def _load(path: str) -> ModuleType:
    """Import a file under a name of its own, once for each state of the file."""
    file = Path(path).resolve()
    try:
        source = file.read_bytes()
    except OSError as error:
        raise BadPass(
            f"{path}: cannot be read: {error.strerror or error}; check the path of the pass"
        ) from error
    key = hashlib.sha256(str(file).encode() + b"\0" + source).hexdigest()[:16]
    name = f"graphkit_script_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadPass(f"{path}: is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.parent))  # a script may import its neighbours, as when it is run
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # nothing appears beside OUT but OUT
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, GraphkitError):
            raise
        said = _syntax(error) if isinstance(error, SyntaxError) else describe_failure(error, str(file))
        raise BadPass(f"{path}: does not import: {said}") from error
    finally:
        sys.dont_write_bytecode = writes
        sys.path.remove(str(file.parent))
    return module


def _syntax(error: SyntaxError) -> str:
    return f"{type(error).__name__}: {error.msg} ({Path(error.filename or '').name}:{error.lineno})"


def _runnable(module: ModuleType) -> list[str]:
    """Public names of the file that can be run: its own pass classes and functions."""
    own = ((k, v) for k, v in vars(module).items() if not k.startswith("_") and _made_in(v, module))
    return [k for k, v in own if is_concrete(v) or inspect.isfunction(v)]


def _made_in(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", None) == module.__name__


def _only(module: ModuleType, path: str) -> Any:
    names = _runnable(module)
    classes = [n for n in names if is_concrete(getattr(module, n))] or names
    if len(classes) != 1:
        raise BadPass(f"{path}: say which pass: {path}:NAME, one of {', '.join(names) or 'none'}")
    return getattr(module, classes[0])


class FunctionPass(Pass):
    """A plain function ``f(graph, **options)`` on a GraphSurgeon graph, run as a pass.

    It edits the graph in place and returns None or that graph, or returns another graph, which takes its
    place.
    """

    function: ClassVar[Callable[..., Any]]
    parameters: ClassVar[Mapping[str, str]] = {}
    """Field -> the parameter that it stands for: they differ where a pass has an attribute of that name."""

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Call the function on the main graph, and count the nodes that came, went or changed."""
        before, bytes_before = _states(graph), _bytes(graph)
        given: dict[str, Any] = {}
        for field in self.options():
            value = getattr(self, field.name)
            given.update(value) if field.metadata.get("rest") else given.update(
                {self.parameters[field.name]: value}
            )
        result = _as_graph(type(self).function(graph.gs, **given))
        if result is not None and result is not graph.gs:
            if not all(hasattr(result, a) for a in ("nodes", "inputs", "outputs")):
                kind = type(result).__name__
                article = "an" if kind[0] in "aeiou" else "a"
                raise PassFailed(f"pass '{self}' failed: it returned {article} {kind}, not a graph or None")
            graph.model.adopt(result)
        after = _states(graph)
        changed = sum(1 for key, state in after.items() if before.get(key) != state)
        tally.rewrite(max(changed, sum(1 for key in before if key not in after)))
        if not tally.rewrites and bytes_before is not None and not _same(bytes_before, _bytes(graph)):
            tally.rewrite()  # the model itself: its opset, an input's shape, a constant's values


def _as_graph(result: Any) -> Any:
    """What a function returned; a ModelProto is imported."""
    import onnx

    from graphkit.model.surgeon import imported

    return imported(result) if isinstance(result, onnx.ModelProto) else result


def _bytes(graph: Graph) -> Sequence[bytes | memoryview] | None:
    """The model as it would be written now; None when it cannot be."""
    try:
        return graph.model.export()
    except Exception:  # said, with the pass to blame, when the result is written
        return None


def _same(before: Sequence[bytes | memoryview], after: Sequence[bytes | memoryview] | None) -> bool:
    """Whether two exports agree; pieces that are one view of the file are not read."""
    if after is None:
        return True
    if len(before) == len(after):
        return all(a is b or a == b for a, b in zip(before, after, strict=True))
    return b"".join(before) == b"".join(after)


def _states(graph: Graph) -> dict[int, tuple[Any, ...]]:
    """What each node is now; the node itself is kept, so that its id is not used again."""
    return {
        id(n): (
            n.op,
            n.name,
            n.domain,
            tuple((k, v if isinstance(v, int | float | str) else id(v)) for k, v in n.attrs.items()),
            tuple((id(t), t.name) for t in (*n.inputs, *n.outputs)),
            _Kept(n),
        )
        for scope in graph.scopes()
        for n in scope.nodes
    }


class _Kept:
    """Holds an object, and equals whatever else holds it: GraphSurgeon's own ``==`` compares by name."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and other.held is self.held

    __hash__ = None  # type: ignore[assignment]


def function_pass(function: Callable[..., Any], origin: str = "") -> type[FunctionPass]:
    """A pass class for a plain function: its parameters after the graph are the options.

    Their annotations are the types, or else the types of their defaults, or else str; ``**others: str``
    takes all other keys.
    """
    name = getattr(function, "__name__", "function")
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = _hints(function, parameters[1:])
    except (TypeError, ValueError, NameError) as error:
        raise BadPass(f"function '{name}' cannot be a pass: {error}") from error
    if not parameters or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        raise BadPass(f"function '{name}' cannot be a pass: it must take a graph as its first argument")
    body: dict[str, Any] = {"name": name, "origin": origin, "function": staticmethod(function)}
    annotations: dict[str, Any] = {}
    fields: dict[str, str] = {}
    for parameter in parameters[1:]:
        kind, declared = _declared(parameter, hints, f"option '{parameter.name}' of {origin or name}")
        if declared is not None:
            field = _field_name(parameter.name, body)
            annotations[field], body[field], fields[field] = kind, declared, parameter.name
    body |= {
        "__annotations__": annotations,
        "parameters": fields,
        "__doc__": inspect.getdoc(function),
        "__module__": function.__module__,
    }
    return type(f"{name}_pass", (FunctionPass,), body)


def _hints(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> dict[str, Any]:
    """The types of the options; what the graph and the result are said to be need not exist here."""
    wanted = {p.name: p.annotation for p in parameters if p.annotation is not inspect.Parameter.empty}
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    return get_type_hints(SimpleNamespace(__annotations__=wanted), globalns=scope)


def _field_name(parameter: str, taken: Mapping[str, Any]) -> str:
    """A field for a parameter: an underscore, which no spelling has, keeps it apart from attributes."""
    name = parameter
    while name in taken or hasattr(FunctionPass, name) or name == "parameters":
        name += "_"
    return name


def _declared(parameter: inspect.Parameter, hints: dict[str, Any], where: str) -> tuple[Any, Any]:
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return None, None
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return dict[str, str], rest(help="every other key", metavar="KEY=VALUE")
    required = parameter.default is inspect.Parameter.empty
    kind = hints.get(parameter.name, str if required else _kind_of(parameter.default, where))
    if required:
        return kind, option(default=MISSING, help="")
    if parameter.default is None and parameter.name not in hints:
        kind = str | None
    if type(parameter.default).__hash__ is None:
        raise BadPass(
            f"{where} has a {type(parameter.default).__name__} for its default; use a tuple or None"
        )
    return kind, option(default=parameter.default, help="")


def _kind_of(default: Any, where: str) -> Any:
    """The type of an option that has a default and no annotation."""
    if default is None:
        return str
    if not isinstance(default, tuple):
        return type(default)
    kinds = {type(v) for v in default}
    if len(kinds) != 1:
        raise BadPass(f"{where} needs an annotation, such as tuple[str, ...]")
    return tuple[kinds.pop(), ...]  # type: ignore[misc]
