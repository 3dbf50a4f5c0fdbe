"""What has a name and options: a frozen dataclass whose fields are read from a spec, and printed as one."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, dataclass_transform, get_type_hints

from graphkit.errors import BadOption
from graphkit.rewrite import options as opt
from graphkit.rewrite.options import option, rest

__all__ = ["Configured"]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(option, rest))
class Configured(ABC):
    """A subclass sets ``name`` and declares its options as annotated fields; its docstring is its page."""

    name: ClassVar[str]
    kind: ClassVar[str] = "pass"
    """What messages call it."""
    origin: ClassVar[str] = ""
    """How the pass is spelled when it comes from a script, ``./file.py:name``."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        page = cls.__dict__.get("__doc__")
        try:
            dataclass(frozen=True, kw_only=True)(cls)
        except (TypeError, ValueError) as error:
            raise type(error)(f"class {cls.__name__}: {error}") from error
        cls.__doc__ = page or ""  # dataclass would write a signature where there is no page

    @classmethod
    def options(cls) -> tuple[opt.Field[Any], ...]:
        """The options, in the order in which they are declared."""
        return dataclasses.fields(cls)  # type: ignore[arg-type]

    @classmethod
    def types(cls) -> Mapping[str, Any]:
        """The type of each option."""
        hints = get_type_hints(cls)
        return {f.name: hints[f.name] for f in cls.options()}

    @classmethod
    def from_spec(cls, arguments: str) -> Self:
        """Build from ``key=value,key=value``, as ``--pass name:…`` takes it; see
        :mod:`graphkit.rewrite.options`.

        Raises BadOption for an unknown, missing or repeated option, or a value of the wrong type.
        """
        found: dict[str, str | None] = {}
        for key, raw in opt.items(arguments):
            if key in found:
                raise BadOption(f"{cls.kind} '{cls.name}' has option '{key}' twice; give it once")
            found[key] = raw
        return cls._build(found, opt.parse)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Build from values that have types already, as a recipe gives them; keys as in a spec."""
        return cls._build(dict(values), opt.coerce)

    @classmethod
    def _build(cls, found: dict[str, Any], convert: Any) -> Self:
        types, fields = cls.types(), cls.options()
        named = {spelling: f for f in fields if not opt.is_rest(f) for spelling in (f.name, opt.key_of(f))}
        others = next((f for f in fields if opt.is_rest(f)), None)
        values: dict[str, Any] = {}
        left: dict[str, str] = {}
        for key, raw in found.items():
            field = named.get(key.strip())
            where = f"{cls.name}:{key.strip()}"
            if field is not None and field.name in values:
                raise BadOption(f"{cls.kind} '{cls.name}' has option '{key}' twice; give it once")
            if field is not None:
                values[field.name] = convert(raw, types[field.name], where)
            elif others is not None and key:
                left[key] = convert(raw, str, where)
            else:
                raise BadOption(cls._unknown(key))
        missing = [opt.key_of(f) for f in fields if f.name not in values and opt.default_of(f) is opt.MISSING]
        if missing:
            spec = cls.origin or cls.name
            raise BadOption(f"{cls.kind} '{cls.name}' needs {missing[0]}=…; see `graphkit explain {spec}`")
        if others is not None:
            values[others.name] = left
        return cls(**values)

    @classmethod
    def _unknown(cls, key: str) -> str:
        known = ", ".join(opt.key_of(f) for f in cls.options())
        return f"{cls.kind} '{cls.name}' has no option '{key}'; " + (
            f"it has {known}" if known else "it has none"
        )

    def __str__(self) -> str:
        """The spec that builds this pass again, so that a line of a log can be pasted back."""
        spelled: list[str] = []
        types = self.types()
        for field in self.options():
            value = getattr(self, field.name)
            if opt.is_rest(field):
                spelled += opt.spell_rest(value)
            elif value != opt.default_of(field):
                spelled.append(opt.spell(opt.key_of(field), value, types[field.name]))
        name = self.origin or self.name
        return f"{name}:{','.join(spelled)}" if spelled else name
