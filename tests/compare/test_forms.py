"""What an engine's tensor can be of a model's: each form is read back, padding told from other sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphkit.compare.forms import Block, Padded, Scaled, SideBySide, View, block_sample, crop, splits
from graphkit.compare.samples import positions

SIZES = st.integers(1, 9)
DIMS = st.lists(SIZES, min_size=1, max_size=4).map(tuple)


def counted(dims: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(dims), dtype=np.float32).reshape(dims)


@pytest.mark.parametrize(
    "wide, narrow, kept",
    [
        ((1, 8, 320, 320), (1, 1, 320, 320), (1, 1, 320, 320)),  # channels padded to eight
        ((3, 197, 198), (3, 197, 197), (3, 197, 197)),  # a row padded by one
        ((3, 197, 198), (1, 3, 197, 197), (3, 197, 197)),  # and seen without the batch
        ((1, 4, 16, 16), (1, 3, 16, 16), (1, 3, 16, 16)),
        ((8, 40), (33,), (1, 33)),
        ((3, 4), (3, 4), None),  # nothing is padded
        ((3, 4), (4, 3), None),
        ((3, 4), (3, 5), None),  # wider than the tensor
        ((16, 4), (4, 4), None),  # half is not padding
        ((1, 9, 20), (1, 1, 20), None),  # one channel is padded to eight at most
        ((4, 4), (4, 4, 4), None),
    ],
)
def test_crop_knows_padding(
    wide: tuple[int, ...], narrow: tuple[int, ...], kept: tuple[int, ...] | None
) -> None:
    assert crop(wide, narrow) == kept


@given(DIMS, st.data())
def test_what_was_padded_is_cropped_and_read_back(dims: tuple[int, ...], data: st.DataObject) -> None:
    more = data.draw(st.tuples(*(st.integers(0, min(7, 8 - d) if d == 1 else 7) for d in dims)))
    value = counted(dims)
    wide = np.pad(value, [(0, m) for m in more], constant_values=-1)
    kept = crop(wide.shape, dims)
    if not any(more):
        assert kept is None
        return
    assert kept is not None and math.prod(kept) == math.prod(dims)
    assert all(k <= w for k, w in zip(kept, wide.shape, strict=True))
    if kept == dims:  # equal dims can be dropped in more than one way
        read = Padded("t", dims, kept).read(wide)["t"]
        assert np.array_equal(read, value)


@given(DIMS, DIMS)
def test_crop_keeps_no_more_than_there_is_and_as_much_as_was_asked(
    wide: tuple[int, ...], narrow: tuple[int, ...]
) -> None:
    kept = crop(wide, narrow)
    if kept is None:
        return
    assert kept != wide and all(1 <= k <= w for k, w in zip(kept, wide, strict=True))
    assert [k for k in kept if k != 1] == [d for d in narrow if d != 1]


@given(st.lists(SIZES, min_size=1, max_size=4), st.integers(0, 3), st.integers(2, 4), st.randoms())
def test_tensors_side_by_side_are_taken_apart(dims: list[int], axis: int, count: int, random) -> None:  # type: ignore[no-untyped-def]
    """Blocks of the same and of several tensors, in any order, along any axis."""
    axis %= len(dims)
    whole = dims.copy()
    whole[axis] *= count
    tensors = {f"t{n}": counted(tuple(whole)) + 1000 * n for n in range(2)}
    blocks = [(name, k) for name in tensors for k in range(count)]
    random.shuffle(blocks)
    step = dims[axis]
    form = SideBySide(
        tuple(
            Block(name, tuple(whole), axis, k * step, (k + 1) * step, at * step)
            for at, (name, k) in enumerate(blocks)
        ),
        axis,
    )
    pieces = [np.split(tensors[name], count, axis)[k] for name, k in blocks]
    read = form.read(np.concatenate(pieces, axis))
    assert set(form.tensors) == set(tensors) == set(read)
    assert all(np.array_equal(read[name], value) for name, value in tensors.items())


def test_blocks_may_lie_along_another_axis_than_in_the_model() -> None:
    """q, k and v of [1, 3, 2, 4] in one [6, 4]: the tensor's heads are the engine's rows."""
    value = counted((1, 3, 2, 4))
    blocks = tuple(Block("qkv", (1, 3, 2, 4), 1, n, n + 1, 2 * at) for at, n in enumerate((2, 0, 1)))
    rows = np.concatenate([value[0, n] for n in (2, 0, 1)])
    flat = tuple(Block(b.tensor, b.dims, b.axis, b.start, b.stop, b.at // 2) for b in blocks)
    read = SideBySide(flat, 0).read(rows.reshape(3, 2, 4))
    assert np.array_equal(read["qkv"], value)


def test_a_view_keeps_the_order_and_a_factor_is_divided_out() -> None:
    value = counted((2, 6))
    assert np.array_equal(View("t", (3, 4)).read(value)["t"], value.reshape(3, 4))
    scaled = Scaled("t", (2, 6), 0.25).read((value * np.float32(0.25)).astype(np.float16))["t"]
    assert scaled.dtype == np.float32 and np.array_equal(scaled, value)


def test_the_names_are_those_of_the_report() -> None:
    forms = [
        View("t", (1,)),
        View("t", (1,), same=False),
        View("t", (1,), before_bias=True, same=False),
        Padded("t", (1,), (1,)),
        Scaled("t", (1,), 2.0),
        SideBySide((Block("t", (1,), 0, 0, 1, 0), Block("u", (1,), 0, 0, 1, 1)), 0),
    ]
    assert [f.name for f in forms] == ["same", "view", "before bias", "padded", "scaled", "side by side"]
    assert forms[-1].tensors == ("t", "u") and {f.tensors for f in forms[:-1]} == {("t",)}


@given(DIMS, st.data())
def test_splits_finds_the_axis_along_which_a_tensor_was_joined(
    dims: tuple[int, ...], data: st.DataObject
) -> None:
    axis = data.draw(st.integers(0, len(dims) - 1))
    wide = (*dims[:axis], dims[axis] + 3, *dims[axis + 1 :])
    assert (axis, axis) in set(splits(dims, wide))
    for engine, own in splits(dims, wide):
        assert math.prod(dims[:own]) == math.prod(wide[:engine])
        assert math.prod(dims[own + 1 :]) == math.prod(wide[engine + 1 :])


@given(st.lists(st.integers(1, 20), min_size=1, max_size=3).map(tuple), st.data())
def test_a_sampled_block_is_the_same_values_on_both_sides(dims: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(dims) - 1))
    start = data.draw(st.integers(0, dims[axis] - 1))
    stop = data.draw(st.integers(start + 1, dims[axis]))
    tensor = counted(dims)
    before = np.full((*dims[:axis], 2, *dims[axis + 1 :]), -1, np.float32)
    value = np.concatenate([before, np.take(tensor, range(start, stop), axis), before], axis)
    inside, mine = block_sample(value, axis, Block("t", dims, axis, start, stop, 2))
    assert np.array_equal(mine, tensor.reshape(-1)[positions(tensor.size)][inside])
    assert inside.sum() == mine.size
