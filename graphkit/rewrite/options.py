"""Options of a pass: how ``key=value,key=value`` is read, and how values are printed back.

Items are separated by ``,``, a key ends at the first ``=``. A backslash before ``,`` or before another
backslash makes that character part of the value (also before ``=`` in a key and ``+`` in a list); any other
backslash stands for itself, so that regular expressions need no doubling.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, Union, get_args, get_origin

from graphkit.errors import BadOption, BadPass

__all__ = ["MISSING", "Field", "Size", "option", "rest"]

MISSING: Final[Any] = dataclasses.MISSING
Field = dataclasses.Field
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d+)(?:\s*([kmgt]?)(?:i?b)?)?", re.IGNORECASE)
_NONE = re.compile(r"\\*none")


class Size(int):
    """A number of bytes, written ``4096``, ``64k``, ``1M`` or ``2G`` (powers of 1024)."""

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read a size; ValueError when it is none."""
        found = _SIZE.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"'{text}' is not a size")
        return cls(int(found[1]) * _UNITS[(found[2] or "").lower()])

    def __str__(self) -> str:
        unit = next((u for u in "tgmk" if self and int(self) % _UNITS[u] == 0), "")
        return f"{int(self) // _UNITS[unit]}{unit.upper() if unit != 'k' else unit}"


def option(*, default: Any = MISSING, help: str, metavar: str | None = None) -> Any:
    """Declare one option of a pass: command line, constructor, ``explain`` and the docs all read it here.

    Without ``default`` the option is required. Types: bool, int, float, str, :class:`Size`, a Literal, an
    Enum, ``tuple[T, ...]`` of those (written ``a+b``), and any of them ``| None`` (written ``none``).
    """
    if type(default).__hash__ is None:  # of a list, a dict or a set
        raise TypeError(f"an option's default must not be a {type(default).__name__}: use a tuple or None")
    return dataclasses.field(default=default, metadata={"help": help, "metavar": metavar})


def rest(*, help: str, metavar: str) -> Any:
    """Declare a ``Mapping[str, str]`` that takes every key which is no declared option."""
    return dataclasses.field(default_factory=dict, metadata={"help": help, "metavar": metavar, "rest": True})


def is_rest(field: Field[Any]) -> bool:
    """Whether an option takes all other keys."""
    return bool(field.metadata.get("rest"))


def default_of(field: Field[Any]) -> Any:
    """The default of an option; MISSING when it is required."""
    return {} if is_rest(field) else field.default


def key_of(field: Field[Any]) -> str:
    """How an option is spelled: ``max_size`` is ``max-size``."""
    return field.name.rstrip("_").replace("_", "-")


# -- text to values


def split(text: str, separator: str) -> list[str]:
    """Split at every ``separator`` that no backslash takes; the pieces keep their backslashes."""
    pieces, start, position = list[str](), 0, 0
    while position < len(text):
        if text[position] == "\\" and text[position + 1 : position + 2] in ("\\", separator):
            position += 2
            continue
        if text[position] == separator:
            pieces.append(text[start:position])
            start = position + 1
        position += 1
    return [*pieces, text[start:]]


def items(arguments: str) -> Iterator[tuple[str, str | None]]:
    """Key and raw value of every item; the value is None when there is no ``=``."""
    for item in split(arguments, ","):
        if not item:
            continue
        key, *value = split(item, "=")
        yield unescape(key, "=,"), "=".join(value) if value else None


def unescape(text: str, special: str = ",") -> str:
    """Drop the backslashes that only protect a special character."""
    return re.sub(rf"\\([\\{re.escape(special)}])", r"\1", text)


def escape(text: str, special: str = ",") -> str:
    """The inverse of :func:`unescape`, with no backslash more than it needs."""
    marked = re.sub(rf"\\(?=[\\{re.escape(special)}]|\Z)", r"\\\\", text)
    return re.sub(rf"([{re.escape(special)}])", r"\\\1", marked)


def parse(raw: str | None, kind: Any, where: str) -> Any:
    """The value of type ``kind`` that ``raw`` (still escaped) spells; BadOption when it spells none."""
    if raw is None and bool not in (kind, _optional(kind)):
        raise BadOption(f"{where} needs a value: write {where.partition(':')[2]}={describe(kind)}")
    inner = _optional(kind)
    if inner is not None:
        if raw == "none":
            return None
        return parse(raw[1:] if raw and _NONE.fullmatch(raw) else raw, inner, where)
    if get_origin(kind) is tuple:
        element = get_args(kind)[0]
        pieces = split(raw or "", "+") if raw else []
        return tuple(_scalar(unescape(p, ",+"), element, where) for p in pieces)
    return _scalar(unescape(raw or ""), kind, where)


def _scalar(text: str, kind: Any, where: str) -> Any:
    try:
        return _reader(kind, where)(text)
    except (ValueError, KeyError):
        raise BadOption(f"{where} must be {_wanted(kind)}, not '{text}'") from None


def _wanted(kind: Any) -> str:
    return "a size such as 512k or 1M" if kind is Size else describe(kind)


def _reader(kind: Any, where: str) -> Callable[[str], Any]:
    if kind is bool:
        return _bool
    if kind is Size:
        return Size.parse
    if kind in (int, float, str):
        return kind  # type: ignore[no-any-return]
    if get_origin(kind) is Literal:
        return {str(v): v for v in get_args(kind)}.__getitem__
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {str(v.value): v for v in kind}.__getitem__
    raise BadPass(
        f"{where} is of type {getattr(kind, '__name__', kind)}, which cannot be spelled; "
        "use bool, int, float, str, Size, Literal, Enum or a tuple of one of them"
    )


def _bool(text: str) -> bool:
    if text == "" or text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)


def _optional(kind: Any) -> Any:
    """The ``T`` of ``T | None``; None for any other type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return None
    inner = [a for a in get_args(kind) if a is not type(None)]
    return inner[0] if len(inner) == 1 and len(get_args(kind)) == 2 else None


def describe(kind: Any) -> str:
    """A type for a person."""
    inner = _optional(kind)
    if inner is not None:
        return f"{describe(inner)} or none"
    if get_origin(kind) is tuple:
        return f"{describe(get_args(kind)[0])}+…"
    if get_origin(kind) is Literal:
        return "|".join(str(v) for v in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(str(v.value) for v in kind)
    return _NAMES.get(kind, str(getattr(kind, "__name__", kind)))


_NAMES = {str: "text", bool: "true|false", Size: "size", int: "integer", float: "number"}


# -- typed values (of a recipe, or of Python) to values


def coerce(value: Any, kind: Any, where: str) -> Any:
    """A value that already has a type, as the option wants it; text is read as on the command line."""
    inner = _optional(kind)
    if inner is not None:
        return None if value is None or value == "none" else coerce(value, inner, where)
    if get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return parse(value, kind, where) if isinstance(value, str) else _wrong(value, kind, where)
        return tuple(coerce(v, get_args(kind)[0], where) for v in value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is Size and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Size(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    if isinstance(value, str) and kind is not str:
        return _scalar(value, kind, where)
    if get_origin(kind) is Literal or (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        return _scalar(str(value), kind, where)
    return _wrong(value, kind, where)


def _wrong(value: object, kind: Any, where: str) -> Any:
    raise BadOption(f"{where} must be {_wanted(kind)}, not {type(value).__name__} '{value}'")


# -- values to text


def spell(key: str, value: Any, kind: Any) -> str:
    """The item that :func:`items` and :func:`parse` turn back into ``value``."""
    return f"{escape(key, '=,')}={_spelled(value, kind)}"


def _spelled(value: Any, kind: Any) -> str:
    inner = _optional(kind)
    if inner is not None:
        if value is None:
            return "none"
        text = _spelled(value, inner)
        return f"\\{text}" if _NONE.fullmatch(text) else text
    if get_origin(kind) is tuple:
        return "+".join(escape(_text(v, get_args(kind)[0]), ",+") for v in value)
    return escape(_text(value, kind))


def _text(value: Any, kind: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if kind is Size:
        return str(Size(value))
    if isinstance(value, enum.Enum):
        return str(value.value)
    return repr(value) if isinstance(value, float) else str(value)


def spell_rest(values: Mapping[str, str]) -> list[str]:
    """The items of a :func:`rest` option."""
    return [spell(k, v, str) for k, v in values.items()]
