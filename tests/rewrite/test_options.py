"""Options: every pass prints a spec that builds it again, and says what is wrong with a bad one."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit import BadOption, BadPass, Graph, Pass, Tally, option, rest
from graphkit.rewrite.options import Size


class Colour(enum.Enum):
    RED = "red"
    BLUE = "dark,blue"


class Everything(Pass):
    """Has an option of every type."""

    name = "everything"
    flag: bool = option(default=False, help="h")
    maybe_flag: bool | None = option(default=True, help="h")
    count: int = option(default=3, help="h")
    ratio: float = option(default=0.5, help="h")
    text: str = option(default="", help="h")
    size: Size = option(default=Size(64), help="h")
    names: tuple[str, ...] = option(default=("a",), help="h")
    numbers: tuple[int, ...] | None = option(default=(1,), help="h")
    mode: Literal["fast", "slow", 3] = option(default="fast", help="h")
    colour: Colour = option(default=Colour.RED, help="h")
    maybe: str | None = option(default="x", help="h")
    other: Mapping[str, str] = rest(help="h", metavar="NAME=TEXT")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Nothing."""


tricky = st.text(st.sampled_from("ab,=+\\: \nnone0é-_"), max_size=8)
keys = st.text(st.sampled_from("ab,=+\\/:."), min_size=1, max_size=6)


@given(
    flag=st.booleans(),
    maybe_flag=st.none() | st.booleans(),
    count=st.integers(),
    ratio=st.floats(allow_nan=False),
    text=tricky,
    size=st.integers(0, 1 << 50).map(Size) | st.integers(0, 60).map(lambda n: Size(1 << n)),
    names=st.lists(tricky.filter(bool), max_size=3).map(tuple),
    numbers=st.none() | st.lists(st.integers(), max_size=3).map(tuple),
    mode=st.sampled_from(["fast", "slow", 3]),
    colour=st.sampled_from(Colour),
    maybe=st.none() | tricky | st.sampled_from(["none", "\\none", "\\\\none"]),
    other=st.dictionaries(keys.filter(lambda k: k == k.strip()), tricky, max_size=3),
)
def test_every_spec_prints_and_parses_back(**values: Any) -> None:
    made = Everything(**values)
    name, _, arguments = str(made).partition(":")
    assert name == "everything"
    assert Everything.from_spec(arguments) == made


@given(st.text(max_size=30))
def test_no_spec_crashes(arguments: str) -> None:
    try:
        made = Everything.from_spec(arguments)
    except BadOption as error:
        assert str(error).startswith(("everything:", "pass 'everything'"))
    else:
        assert Everything.from_spec(str(made).partition(":")[2]) == made


def test_defaults_are_not_spelled() -> None:
    assert str(Everything()) == "everything"
    assert str(Everything(count=4, size=Size(1 << 20))) == "everything:count=4,size=1M"


def test_underscore_or_dash_and_a_flag_without_value() -> None:
    assert Everything.from_spec("flag,maybe-flag=false") == Everything(flag=True, maybe_flag=False)
    assert Everything.from_spec("maybe_flag") == Everything()


def test_a_regular_expression_needs_no_doubling() -> None:
    assert Everything.from_spec(r"text=^/(\w+)\.\d=a").text == r"^/(\w+)\.\d=a"
    assert Everything.from_spec(r"text=a{1\,2}").text == "a{1,2}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("count=many", "everything:count must be integer, not 'many'"),
        ("flag=perhaps", "must be true|false"),
        ("size=big", "must be a size such as 512k or 1M"),
        ("mode=medium", "must be fast|slow|3"),
        ("colour=green", "must be red|dark,blue"),
        ("numbers=1+x", "must be integer"),
        ("count", "needs a value"),
        ("count=1,count=2", "twice"),
        ("max-count=1,maybe-flag=1,maybe_flag=0", "twice"),
        ("=x", "no option ''"),
    ],
)
def test_a_bad_option_is_told(arguments: str, said: str) -> None:
    with pytest.raises(BadOption, match="everything") as caught:
        Everything.from_spec(arguments)
    assert said in str(caught.value) and "\n" not in str(caught.value)


class Plain(Pass):
    """No options but one, required."""

    name = "plain"
    what: str = option(help="h")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Nothing."""


class Odd(Pass):
    """An option that cannot be spelled."""

    name = "odd"
    what: list[int] = option(default=None, help="h")

    def apply(self, graph: Graph, tally: Tally) -> None:
        """Nothing."""


def test_missing_unknown_and_unspellable() -> None:
    with pytest.raises(BadOption, match="needs what=…"):
        Plain.from_spec("")
    with pytest.raises(BadOption, match="has no option 'which'; it has what"):
        Plain.from_spec("which=1")
    with pytest.raises(BadPass, match="cannot be spelled"):
        Odd.from_spec("what=1")


def test_values_with_types() -> None:
    made = Everything.from_values(
        {"count": 4, "ratio": 1, "size": "2k", "names": ["a", "b"], "maybe": "none", "x": "y"}
    )
    assert made == Everything(
        count=4, ratio=1.0, size=Size(2048), names=("a", "b"), maybe=None, other={"x": "y"}
    )
    assert Everything.from_values({"mode": 3, "numbers": "1+2", "size": 10, "colour": "red"}).numbers == (
        1,
        2,
    )
    for values in ({"count": 1.5}, {"count": True}, {"text": 3}, {"names": 3}, {"size": -1}, {"x": 3}):
        with pytest.raises(BadOption):
            Everything.from_values(values)


def test_sizes() -> None:
    assert [Size.parse(t) for t in ("0", "64k", "1M", "2 GiB", "1TB")] == [
        0,
        65536,
        1 << 20,
        2 << 30,
        1 << 40,
    ]
    assert [str(Size(n)) for n in (0, 1000, 1024, 3 << 20)] == ["0", "1000", "1k", "3M"]
