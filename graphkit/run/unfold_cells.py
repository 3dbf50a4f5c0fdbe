"""One direction of a recurrent node: what its engine computes for the whole sequence, and in each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from graphkit.run import outline
from graphkit.run.flat import Flat

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass
class Direction:
    """One direction of one recurrent node."""

    flat: Flat
    node: NodeProto
    said: str
    number: int
    inputs: list[str]
    acts: list[str]
    batch: int
    hidden: int
    dtype: np.dtype[np.generic]

    def run(self, times: range) -> tuple[dict[int, str], str, str]:
        """Emits all steps in that order; gives h by time, the last h and the last c."""
        w, r = self._matrix(1, "W"), self._matrix(2, "R")
        products = self.emit("MatMul", [self.inputs[0], w], "XW")
        h = self._state(5, "h0")
        c = self._state(6, "c0") if self.node.op_type == "LSTM" else ""
        step = CELLS[self.node.op_type](self, r)
        states = {}
        for number, time in enumerate(times):
            at = self.flat.constant("time", np.asarray(time, np.int64))
            x = self.emit("Gather", [products, at], f"XW.{time}", number, axis=0)
            h, c = step(x, h, c, number)
            states[time] = h
        return states, h, c

    def emit(self, op: str, inputs: list[str], role: str, step: int | None = None, **attrs: object) -> str:
        """A node whose output is called after the node that it comes from and its role there."""
        name = self.flat.fresh(f"{self.said}.{self.number}.{role}")
        self.flat.tensors[name] = (self.said, role)
        return self.flat.emit(op, inputs, [name], self.said, step, **attrs)

    def cut(self, name: str, start: int, stop: int, role: str, step: int | None = None) -> str:
        """Columns of the last axis; gates are ``hidden`` wide and lie side by side."""
        if self.flat.opset < 10:
            return self.emit("Slice", [name], role, step, axes=[-1], starts=[start], ends=[stop])
        bounds = [self.flat.constant("bound", np.asarray([v], np.int64)) for v in (start, stop, -1)]
        return self.emit("Slice", [name, *bounds], role, step)

    def gate(self, name: str, place: int, role: str, step: int | None = None) -> str:
        """One gate's columns."""
        return self.cut(name, place * self.hidden, (place + 1) * self.hidden, role, step)

    def one(self, name: str, role: str) -> str:
        """This direction's part of an operand whose first axis counts directions."""
        at = self.flat.constant("direction", np.asarray(self.number, np.int64))
        return self.emit("Gather", [name, at], role, axis=0)

    def _matrix(self, place: int, role: str) -> str:
        return self.emit("Transpose", [self.one(self.inputs[place], f"{role}.one")], role, perm=[1, 0])

    def _state(self, place: int, role: str) -> str:
        if self.inputs[place]:
            return self.one(self.inputs[place], role)
        return self.flat.constant(role, np.zeros((self.batch, self.hidden), self.dtype))

    def biases(self) -> tuple[str, str] | None:
        """Wb and Rb of this direction, each all gates side by side; None without."""
        if not self.inputs[3]:
            return None
        both, width = self.one(self.inputs[3], "B"), _GATES[self.node.op_type] * self.hidden
        return self.cut(both, 0, width, "Wb"), self.cut(both, width, 2 * width, "Rb")

    def biased(self, name: str, bias: str | None, role: str, step: int) -> str:
        """The sum with a bias, or the tensor itself where there is none."""
        return name if bias is None else self.emit("Add", [name, bias], role, step)


Step = Callable[[str, str, str, int], tuple[str, str]]


def _lstm(d: Direction, r: str) -> Step:
    """Gates i, o, f, c: c' = f c + i c~, h' = o tanh(c'); peepholes P are i, o, f."""
    both = d.biases()
    bias = d.emit("Add", list(both), "bias") if both else None
    peeps = (
        [d.gate(d.one(d.inputs[7], "P"), k, f"P{g}") for k, g in enumerate("iof")] if d.inputs[7] else None
    )
    gate, cell, out = d.acts

    def step(x: str, h: str, c: str, n: int) -> tuple[str, str]:
        product = d.emit("MatMul", [h, r], f"hR.{n}", n)
        total = d.biased(d.emit("Add", [x, product], f"sum.{n}", n), bias, f"pre.{n}", n)
        pre = [d.gate(total, k, f"{g}.pre.{n}", n) for k, g in enumerate("iofc")]

        def peep(k: int, state: str) -> None:
            if peeps:
                seen = d.emit("Mul", [peeps[k], state], f"{'iof'[k]}.peep.{n}", n)
                pre[k] = d.emit("Add", [pre[k], seen], f"{'iof'[k]}.peeped.{n}", n)

        peep(0, c)
        peep(2, c)
        i, f = (d.emit(gate, [pre[k]], f"{'iof'[k]}.{n}", n) for k in (0, 2))
        new = d.emit(cell, [pre[3]], f"c~.{n}", n)
        kept, put = d.emit("Mul", [f, c], f"fc.{n}", n), d.emit("Mul", [i, new], f"ic.{n}", n)
        c = d.emit("Add", [kept, put], f"c.{n}", n)
        peep(1, c)
        o = d.emit(gate, [pre[1]], f"o.{n}", n)
        return d.emit("Mul", [o, d.emit(out, [c], f"tanh(c).{n}", n)], f"h.{n}", n), c

    return step


def _gru(d: Direction, r: str) -> Step:
    """Gates z, r, h: h' = (1 - z) h~ + z h; the reset gate acts before or after h's product."""
    after = bool(outline.attribute(d.node, "linear_before_reset"))
    wb, rb = d.biases() or (None, None)
    gate, cell = d.acts
    one = d.flat.constant("one", np.ones((), d.dtype))
    size = d.hidden
    early = r if after else d.cut(r, 0, 2 * size, "Rzr")
    late = "" if after else d.cut(r, 2 * size, 3 * size, "Rh")
    if rb and not after:
        rb, rbh = d.cut(rb, 0, 2 * size, "Rbzr"), d.cut(rb, 2 * size, 3 * size, "Rbh")
    else:
        rbh = None

    def step(x: str, h: str, _: str, n: int) -> tuple[str, str]:
        xb = d.biased(x, wb, f"XW+b.{n}", n)
        hr = d.biased(d.emit("MatMul", [h, early], f"hR.{n}", n), rb, f"hR+b.{n}", n)
        head = d.cut(hr, 0, 2 * size, f"hR.zr.{n}", n) if after else hr
        both = d.emit("Add", [d.cut(xb, 0, 2 * size, f"XW.zr.{n}", n), head], f"zr.pre.{n}", n)
        zr = d.emit(gate, [both], f"zr.{n}", n)
        z, reset = d.gate(zr, 0, f"z.{n}", n), d.gate(zr, 1, f"r.{n}", n)
        if after:
            part = d.emit("Mul", [reset, d.gate(hr, 2, f"hR.h.{n}", n)], f"r*hR.{n}", n)
        else:
            held = d.emit("Mul", [reset, h], f"r*h.{n}", n)
            part = d.biased(d.emit("MatMul", [held, late], f"(r*h)R.{n}", n), rbh, f"(r*h)R+b.{n}", n)
        pre = d.emit("Add", [d.gate(xb, 2, f"XW.h.{n}", n), part], f"h.pre.{n}", n)
        new = d.emit(cell, [pre], f"h~.{n}", n)
        put = d.emit("Mul", [d.emit("Sub", [one, z], f"1-z.{n}", n), new], f"(1-z)h~.{n}", n)
        return d.emit("Add", [put, d.emit("Mul", [z, h], f"zh.{n}", n)], f"h.{n}", n), ""

    return step


def _rnn(d: Direction, r: str) -> Step:
    """h' = f(x W + h R + b)."""
    both = d.biases()
    bias = d.emit("Add", list(both), "bias") if both else None

    def step(x: str, h: str, _: str, n: int) -> tuple[str, str]:
        total = d.emit("Add", [x, d.emit("MatMul", [h, r], f"hR.{n}", n)], f"sum.{n}", n)
        return d.emit(d.acts[0], [d.biased(total, bias, f"pre.{n}", n)], f"h.{n}", n), ""

    return step


CELLS: dict[str, Callable[[Direction, str], Step]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}
