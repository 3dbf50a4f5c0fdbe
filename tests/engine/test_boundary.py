"""Reported tensors and the kernels that wrote them: by name, by call, by piece of a buffer, by dims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from graphkit.engine.boundary import EngineGraph
from graphkit.engine.kernel import EngineTensor, Kernel


@dataclass(frozen=True)
class Told:
    """A reported tensor."""

    name: str
    dims: tuple[int, ...] = (1, 8)
    call: int = 0
    order: int = 0
    dtype: str = "float32"


def tensor(name: str, dims: tuple[int, ...] = (1, 8)) -> EngineTensor:
    return EngineTensor(name, dims, "float32")


def kernel(
    name: str,
    reads: Sequence[str],
    *writes: EngineTensor | str,
    nodes: Sequence[str] = ("n",),
    type: str = "kgen",
) -> Kernel:
    outputs = tuple(tensor(w) if isinstance(w, str) else w for w in writes)
    return Kernel(name, type, tuple(nodes), tuple(map(tensor, reads)), outputs)


def places(kernels: Sequence[Kernel], *told: Told) -> list[int | None]:
    return [b.kernel for b in EngineGraph(kernels, told).boundaries]


def test_a_tensor_belongs_to_the_kernel_that_writes_it() -> None:
    kernels = [kernel("a", ["x"], "t"), kernel("b", ["t"], "u", "v")]
    assert places(kernels, Told("t"), Told("u"), Told("v"), Told("w")) == [0, 1, 1, None]


def test_a_name_that_several_kernels_write_goes_by_the_call() -> None:
    """The steps of an unrolled loop write the same state in turn."""
    kernels = [kernel(f"step{n}", ["t"], "t") for n in range(3)]
    assert places(kernels, *(Told("t", call=n) for n in range(3))) == [0, 1, 2]


def test_a_loop_calls_its_kernel_again() -> None:
    kernels = [kernel("before", ["x"], "s"), kernel("body", ["s"], "t")]
    assert places(kernels, *(Told("t", call=n) for n in range(4))) == [1, 1, 1, 1]


def test_of_several_writers_those_of_the_same_dims_count() -> None:
    kernels = [kernel("a", ["x"], tensor("t", (2, 4))), kernel("b", ["x"], tensor("t", (1, 8)))]
    assert places(kernels, Told("t", (1, 8)), Told("t", (2, 4))) == [1, 0]
    assert places(kernels, Told("t", (8,)), Told("t", (8,), call=1)) == [0, 1]


def test_pieces_of_a_buffer_are_shares_of_the_kernels_that_fill_it() -> None:
    kernels = [
        kernel("one", ["x"], "buffer_myl0"),
        kernel("other", ["y"], "z"),
        kernel("two", ["x"], "buffer_myl0"),
    ]
    pieces = [Told(f"buffer__mye14532_{n}^deref_myl0") for n in (12601, 12602)]
    assert places(kernels, *pieces) == [0, 2]
    assert places(kernels, *pieces, *(Told(p.name, call=1) for p in pieces)) == [0, 2, 0, 2]


@pytest.mark.parametrize(
    "name", ["buffer__mye14532_1^deref", "buffer__mye1_2^deref_myl1", "buffer^deref_myl0"]
)
def test_what_is_no_piece_of_a_known_buffer_has_no_kernel(name: str) -> None:
    assert places([kernel("one", ["x"], "buffer_myl0")], Told(name)) == [None]


def test_a_tensor_that_is_called_like_a_piece_is_itself() -> None:
    name = "b__mye1_2^deref"
    assert places([kernel("own", ["x"], name), kernel("other", ["x"], "b")], Told(name)) == [0]


def test_what_only_moves_values_is_a_copy() -> None:
    kernels = [
        kernel("__myl_Move_myl0_0", ["x"], "moved", nodes=()),
        kernel("__myl_Move_myl0_1", ["x"], "asked"),
        kernel("reformat", ["x"], "copied", nodes=(), type="copy"),
        kernel("__myl_AddMove_myl0_2", ["x"], "added", nodes=()),
    ]
    graph = EngineGraph(kernels, [Told(n) for n in ("moved", "asked", "copied", "added", "nobody")])
    assert [b.copy for b in graph.boundaries] == [True, False, True, False, True]


def test_what_a_kernel_reads_comes_with_its_values_and_writers() -> None:
    kernels = [
        kernel("a", ["x"], "buffer_myl0"),
        kernel("b", ["y"], "buffer_myl0"),
        kernel("c", ["buffer_myl0", "x", "buffer_myl0"], "z"),
        kernel("d", ["z"], "buffer_myl0"),
    ]
    told = [Told(f"buffer__mye1_{n}^deref_myl0", order=n) for n in range(3)]
    graph = EngineGraph(kernels, told)
    (buffer, values, writers), (x, none, nobody) = graph.read_by(2)
    assert (buffer, x) == ("buffer_myl0", "x") and (none, nobody) == ([], [])
    assert [b.order for b in values] == [0, 1, 2] and writers == [0, 1]
    assert [w for _, _, ws in graph.read_by(0) for w in ws] == []
