"""Hostile calls of both fronts, by the thousand: python -m tests.numba_kernels.fuzz [--calls N] [--seed N]

Every array stands in an arena of its own (see ``arena``) with any strides: negative, zero, overlapping,
transposed, off by a byte. A call gives the bits of a formula in NumPy, or a TypeError, ValueError or
IndexError that names an argument and leaves every byte as it was. A call with nothing wrong about it
must succeed. One in a hundred is large enough for several threads.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import torch

import numba_kernels as nk
import torch_bridge.rotation as bridge
from tests.numba_kernels.arena import Arena

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
KINDS = [np.dtype(name) for name in ("float64", "float32", "float16")] + [BFLOAT16]
NAMES = ("x", "out", "cos", "sin", "positions")
WORDS = (*NAMES, "start", "pairing", "inverse", "query", "key", "rope_ref::rotate")


class Array(NamedTuple):
    """An array in the arena of this name."""

    arena: str
    shape: tuple[int, ...]
    dtype: Any
    steps: tuple[int, ...]
    at: int


class Case(NamedTuple):
    """A call, and whether something is wrong with it."""

    arrays: dict[str, Array]
    options: dict[str, Any]
    hostile: bool


class Misfit(Exception):
    """An array that is larger than its arena."""


class Fuzz:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.sizes = {size: {name: Arena(size) for name in NAMES} for size in (1 << 16, 1 << 21)}
        self.arenas = self.sizes[1 << 16]
        self.noise = self.rng.integers(0, 256, 1 << 22, np.uint8)
        self.counts = Counter()

    def chance(self, one_in):
        return self.rng.integers(one_in) == 0

    # --- what is called

    def steps(self, shape, item, target, whole):
        """Bytes between neighbours along each axis; of a target no two elements meet, `whole` numbers for torch."""
        rng = self.rng
        if not target and self.chance(8):
            reach = rng.integers(0 if whole else -99, 100, len(shape))
            return tuple(int(s) * item if whole or self.chance(2) else int(s) for s in reach)
        order, steps, reach = list(rng.permutation(len(shape))), [0] * len(shape), item
        if shape and not self.chance(4):  # as almost everybody does: channels side by side
            order.remove(len(shape) - 1)
            order = [len(shape) - 1, *order]
        gaps = [0] * 6 + [item, 2 * item, 8 * item] + ([] if whole else [1, 3, 33])
        for axis in order:
            if not target and self.chance(10):
                continue  # shared
            step = reach + (0 if axis == order[0] and not self.chance(6) else int(rng.choice(gaps)))
            reach = step * (max(shape[axis], 1) - 1) + reach
            steps[axis] = -step if not whole and self.chance(8) else step
        return tuple(steps)

    def array(self, name, shape, dtype, target=False, whole=False):
        item = np.dtype(dtype).itemsize
        steps = self.steps(shape, item, target, whole)
        at = self.arenas[name].place(self.rng, shape, dtype, steps)
        if at is None:
            raise Misfit
        return Array(name, tuple(shape), np.dtype(dtype), steps, at)

    def width(self):
        return int(self.rng.choice([self.rng.integers(1, 40), self.rng.integers(1, 140), 2, 64, 128, 1024, 0],
                                   p=[0.4, 0.3, 0.05, 0.1, 0.1, 0.03, 0.02]))  # fmt: skip

    def case(self, on_torch):
        rng, hostile, large = self.rng, False, self.chance(100)
        self.arenas = self.sizes[1 << 21 if large else 1 << 16]
        lead = [int(n) for n in rng.choice([0, 1, 2, 3, 4, 5, 17], rng.integers(on_torch, 5),
                                           p=[0.02, 0.2, 0.2, 0.2, 0.2, 0.15, 0.03])]  # fmt: skip
        width = self.width()
        if large:
            lead, width = [int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(1, 200))], 2 * width + 64
        start = 0 if self.chance(2) or not width else int(rng.integers(width))
        pairs = int(rng.integers((width - start) // 2 + 1)) if self.chance(3) else (width - start) // 2
        dtype = KINDS[rng.integers(4)]
        options = {"pairing": str(rng.choice(["half-split", "interleaved"])), "start": start}
        if self.chance(3):
            options["inverse"] = True
        inplace = bool(self.chance(2))
        arrays = {"x": self.array("x", (*lead, width), dtype, inplace, on_torch)}
        table = KINDS[rng.integers(4)] if self.chance(3) else dtype if dtype.itemsize > 2 else KINDS[1]
        own = tuple(1 if self.chance(3) else n for n in lead[rng.integers(len(lead) + 1) :])
        if not on_torch and self.chance(3):
            rows = int(rng.integers(1, 9))
            arrays["positions"] = self.array("positions", own, rng.choice(["i8", "i8", "i4", "u1", "u8", ">i8"]), True)
            options["rows"], own = rows, (rows,)
        arrays["cos"] = cos = self.array("cos", (*own, pairs), table, whole=on_torch)
        arrays["sin"] = (self.array("sin", cos.shape, table, whole=on_torch) if self.chance(2)
                         else cos._replace(arena="sin"))  # fmt: skip
        if inplace:
            arrays["out"] = arrays["x"]
        elif not on_torch and self.chance(2):
            arrays["out"] = self.array("out", (*lead, width), dtype, True)
        if self.chance(3):
            hostile = True
            self.spoil(arrays, options, on_torch)
        return Case(arrays, options, hostile)

    def spoil(self, arrays, options, on_torch):
        """Make something wrong, perhaps: only the call knows."""
        rng, x = self.rng, arrays["x"]
        name = str(rng.choice([name for name in arrays if name != "out" or not on_torch]))
        old, other = arrays[name], ["i8", "?", "c8", "i2", ">f4"][rng.integers(5 - on_torch)]
        changes = [
            lambda: options.update(start=[-1, 2**31, 2**63, -(2**64), 1.0, True, None, "0"][rng.integers(8)]),
            lambda: options.update(pairing=["both", None, 3, ["half-split"], b"half-split"][rng.integers(5)]),
            lambda: options.update(inverse=[None, "yes", 1][rng.integers(3)]),
            lambda: options.update(start=int(rng.integers(0, x.shape[-1] + 2))),
            lambda: options.update(far=True),
            lambda: arrays.update({name: self.array(name, old.shape, other, whole=on_torch)}),
            lambda: arrays.update({name: self.array(name, old.shape, old.dtype, whole=on_torch)}),  # may meet itself
            lambda: arrays.update({name: self.array(name, (*old.shape, 2)[1:], old.dtype, whole=on_torch)}),
            lambda: arrays.update({name: self.array(name, (2, *old.shape), old.dtype, whole=on_torch)}),
            lambda: arrays.update({name: self.array(name, old.shape[1:], old.dtype, whole=on_torch)}),
        ]  # fmt: skip
        if "out" in arrays and not on_torch:  # in the memory of another
            host = arrays[str(rng.choice(["x", "cos", "sin"]))].arena
            moved = self.arenas[host].place(rng, x.shape, x.dtype, x.steps)
            near = int(np.clip(x.at + rng.integers(-80, 80), *self.arenas["x"].fits(*x[1:4])))
            changes += 4 * [lambda: arrays.update(out=x._replace(arena=host, at=moved)),
                            lambda: arrays.update(out=x._replace(at=near))]  # fmt: skip
        changes[rng.integers(len(changes))]()
        if "out" in arrays and on_torch:
            arrays["out"] = arrays["x"]

    # --- what comes back

    def view(self, array, memory=None):
        return self.arenas[array.arena].view(*array[1:], None if memory is None else memory[array.arena])

    def fill(self, case):
        """Noise everywhere, numbers of some size where floats are, rows where positions are."""
        for arena in self.arenas.values():
            begin = int(self.rng.integers(len(self.noise) - arena.size))
            arena.bytes[:] = self.noise[begin : begin + arena.size]
        for name, array in case.arrays.items():
            view = self.view(array)
            if name == "positions" and array.dtype.kind in "iu":
                rows = case.options.get("rows", 1)
                view[...] = self.rng.integers(0, rows, view.shape)
                if case.options.get("far") and view.size:
                    wrong = [rows, 2**7 - 1, -1, 2**62, -(2**62)][: 2 if array.dtype.itemsize == 1 else 5]
                    view.flat[self.rng.integers(view.size)] = np.array(wrong[self.rng.integers(len(wrong))]).astype(
                        array.dtype)  # fmt: skip
            elif array.dtype.kind in "fV" and not self.chance(4):  # else noise: NaN, infinity, subnormals
                view[...] = self.rng.standard_normal(view.shape).astype(array.dtype)

    def call(self, case, on_torch):
        options = {name: value for name, value in case.options.items() if name not in ("rows", "far")}
        if on_torch:
            x, cos, sin = (self.tensor(case.arrays[name]) for name in ("x", "cos", "sin"))
            y = bridge.rotate(x, cos, sin, inplace="out" in case.arrays, **options)
            return y.view(torch.uint16).numpy().view(BFLOAT16) if y.dtype == torch.bfloat16 else y.numpy()
        views = {name: self.view(array) for name, array in case.arrays.items()}
        if case.arrays["x"] is case.arrays.get("out") and self.chance(2):
            views["out"] = views["x"]
        if case.arrays["x"].dtype == BFLOAT16 and self.chance(2):
            views |= {name: views[name].view(np.uint16) for name in ("x", "out")
                      if name in views and views[name].dtype == BFLOAT16}  # fmt: skip
        return nk.rotate(views.pop("x"), views.pop("cos"), views.pop("sin"), **views, **options)

    def tensor(self, array):
        """The same memory, through torch."""
        arena, kind = self.arenas[array.arena], "bfloat16" if array.dtype == BFLOAT16 else array.dtype.name
        item = array.dtype.itemsize
        count = (arena.size - array.at) // item
        base = torch.frombuffer(arena.bytes.data, dtype=getattr(torch, kind), offset=array.at, count=count)
        return base.as_strided(array.shape, [step // item for step in array.steps])

    def attempt(self, case, on_torch):
        """Call it, compare with the formula, count what came of it."""
        before = {name: arena.bytes.copy() for name, arena in self.arenas.items()}
        try:
            y, outcome = self.call(case, on_torch), None
        except (TypeError, ValueError, IndexError) as error:
            outcome = error
        except RuntimeError as error:  # how torch refuses an option of another kind than an operator's schema says
            if "for argument" not in str(error):
                raise
            outcome = error
        if outcome is None:
            y = y.view(BFLOAT16) if case.arrays["x"].dtype == BFLOAT16 else y
            right = formula(case, {name: self.view(array, before) for name, array in case.arrays.items()})
            assert same(y, right), f"{y}\nis not\n{right}"
            if "out" in case.arrays:
                written = self.view(case.arrays["out"], before)
                written[...] = self.view(case.arrays["out"])  # which was compared
                assert y.size == 0 or not meets_itself(case.arrays["out"]), "an element was written twice"
            out = case.arrays.get("out")
            label = "new" if out is None else "in place" if out == case.arrays["x"] else "given"
        else:
            assert case.hostile, f"refused: {outcome}"
            label = f"{type(outcome).__name__}: {' '.join(str(outcome).split()[:2])}"
            assert str(outcome).startswith(WORDS), f"names no argument: {outcome!r}"
        for name, arena in self.arenas.items():
            assert np.array_equal(arena.bytes, before[name]), f"bytes around {name} changed ({label})"
        self.counts["torch" if on_torch else "numpy", label] += 1

    def one(self):
        on_torch = bool(self.chance(3))
        while True:
            try:
                case = self.case(on_torch)
                break
            except (Misfit, IndexError):  # of no shape, nothing can be cut off
                continue
        for _ in range(1 + on_torch):  # what torch has seen before takes another path
            self.fill(case)
            try:
                self.attempt(case, on_torch)
            except Exception:
                print(case, file=sys.stderr)
                raise


def formula(case, arrays):
    """The rotation in a few lines of NumPy."""
    x, options = arrays["x"], case.options
    if not x.size:  # no row is asked for
        return np.array(x)
    wide = np.float64 if x.dtype == np.float64 else np.float32
    with np.errstate(all="ignore"):
        cos, sin = (arrays[name].astype(wide) for name in ("cos", "sin"))
        if "positions" in arrays:
            assert (arrays["positions"] >= 0).all()
            cos, sin = cos[arrays["positions"].astype(np.int64)], sin[arrays["positions"].astype(np.int64)]
        if options.get("inverse"):
            sin = -sin
        pairs, y = cos.shape[-1], np.array(x)
        turned = y[..., options["start"] :][..., : 2 * pairs]
        halves = options["pairing"] in ("half-split", b"half-split")  # which torch takes for a string
        a, b = (turned[..., :pairs], turned[..., pairs:]) if halves else (turned[..., ::2], turned[..., 1::2])
        u, v = a.astype(wide), b.astype(wide)
        a[...], b[...] = (u * cos - v * sin).astype(y.dtype), (v * cos + u * sin).astype(y.dtype)
    return y


def same(a, b):
    """The same bits, where either is a number."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    words = f"u{a.itemsize}"
    with np.errstate(invalid="ignore"):
        return bool(((a.view(words) == b.view(words)) | (np.isnan(a) & np.isnan(b))).all())


def meets_itself(array):
    places = np.zeros((1,), np.int64)
    for step, size in zip(array.steps, array.shape, strict=True):
        places = (places[:, None] + step * np.arange(size)).reshape(-1)
    places.sort()
    return bool((np.diff(places) < array.dtype.itemsize).any())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    wanted, began, shown = parser.parse_args(), time.monotonic(), 0.0
    fuzz = Fuzz(wanted.seed)
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")  # of NumPy and torch, where numbers overflow or are complex
    while (done := sum(fuzz.counts.values())) < wanted.calls:
        fuzz.one()
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            print(f"\r{done} of {wanted.calls} calls, {shown - began:.0f} s ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for (front, label), count in sorted(fuzz.counts.items()):
        print(f"{count:8}  {front}  {label}")
    print(sum(fuzz.counts.values()), "calls")


if __name__ == "__main__":
    main()
