"""The kernels' bits, case by case: python -m tests.numba_kernels.bits; NUMBA_CPU_NAME=generic is for any machine.

Prints a line for each case, which ends with a digest of its results. All half numbers are rotated by the
identity and by other angles, and float32 numbers on all sides of every rounding are narrowed. A NaN counts with
all its bits, but where two of them meet: then it is the machine's choice which one is carried on.
"""

import hashlib

import numpy as np

import numba_kernels as nk
from rope_ref.pairing import channels
from tests.oracles import stored, value
from tests.strategies import DTYPES

EVERY = np.arange(1 << 16, dtype=np.uint16)
WIDTHS = (1, 3, 7, 8, 15, 17, 31, 33, 64, 100)  # of pairs: less than vectors, whole ones, and remainders
FORMS = ((0, 0, False), (1, 2, True))  # start, channels that pass behind, inverse


def narrowed():
    """float32 numbers around all halves, their ties, the largest and the least: as cos, on ones."""
    with np.errstate(all="ignore"):
        halves = [EVERY.view(np.float16).astype(np.float32), (EVERY.astype(np.uint32) << 16).view(np.float32)]
        ties = [(h.view(np.uint32) + np.uint32(by)).view(np.float32)
                for h, bit in zip(halves, (1 << 12, 1 << 15), strict=True)
                for by in (0, 1, bit - 1, bit, bit + 1)]  # fmt: skip
        small = np.arange(-4100, 4100, dtype=np.float32) * np.float32(2.0**-26)  # quarters of subnormal halves
        wild = np.random.default_rng(0).integers(0, 2**32, 1 << 16, dtype=np.uint32).view(np.float32)
    numbers = np.concatenate([*ties, small, wild])
    return numbers[: len(numbers) // 64 * 64].reshape(-1, 64)


def digest(x, cos, sin, dtype, **form):
    """Of a rotation, with the same NaN wherever more than one number of a pair and its table is not finite."""
    y = nk.rotate(x, cos, sin, **form)
    first, second = channels(form["pairing"], cos.shape[-1], form.get("start", 0))
    numbers, result = value(x, dtype), value(y, dtype)
    strange = sum((~np.isfinite(n)).astype(int) for n in (numbers[..., first], numbers[..., second], cos, sin)) > 1
    for half in (first, second):
        part = y[..., half]
        part[strange & np.isnan(result[..., half])] = stored(np.array(np.nan), dtype)
        y[..., half] = part
    return hashlib.sha256(y.tobytes()).hexdigest()[:16]


def cases():
    """Names and digests."""
    for pairing in ("half-split", "interleaved"):
        for dtype in ("float16", "bfloat16"):
            kind = np.float16 if dtype == "float16" else np.uint16
            for pairs in (1, 8):
                alone = EVERY.view(kind).reshape(-1, 2 * pairs)
                other = np.roll(EVERY, 12345)
                beside = np.concatenate([n.reshape(-1, pairs) for n in (EVERY, other)], -1).view(kind)
                for turn in ((1, 0), (0.6, 0.8), (-3.0, 1e-3), (1e30, 1e-30)):
                    cos, sin = (np.full((1, pairs), number, np.float32) for number in turn)
                    for name, x in (("alone", alone), ("beside another", beside)):
                        yield (f"every {dtype} {name} {pairing} {pairs} {turn}",
                               digest(x, cos, sin, dtype, pairing=pairing))  # fmt: skip
            table = narrowed()
            ones = stored(np.ones((len(table), 128)), dtype)
            yield f"narrowed {dtype} {pairing}", digest(ones, table, np.zeros_like(table), dtype, pairing=pairing)
        for dtype in DTYPES:
            for pairs in WIDTHS:
                for start, rest, inverse in FORMS if pairs < 64 else FORMS[:1]:  # whole vectors are compiled for each
                    x, cos, sin = strange_numbers(dtype, pairs, start + rest)
                    form = {"pairing": pairing, "start": start, "inverse": inverse}
                    yield f"{dtype} {pairs} {form}", digest(x, cos, sin, dtype, **form)


def strange_numbers(dtype, pairs, more):
    """Normal numbers, any bits, infinities and NaN among them, and tables with all of these."""
    rng = np.random.default_rng(pairs)
    x = stored(rng.standard_normal((3, 40, 2 * pairs + more)), dtype)
    words, places = x.reshape(-1).view(f"u{x.itemsize}"), rng.integers(0, x.size, 99)
    words[places] = rng.integers(0, 2**63, 99).astype(words.dtype)
    x.reshape(-1)[places[:20]] = stored(np.array([np.nan, np.inf, -np.inf, -0.0]), dtype)[np.arange(20) % 4]
    cos, sin = rng.standard_normal((2, 40, pairs)).astype("f8" if dtype == "float64" else "f4")
    cos.reshape(-1)[:3] = np.nan, np.inf, 1e-40
    return x, cos, sin


def main():
    with np.errstate(all="ignore"):
        for name, bits in cases():
            print(name, bits)


if __name__ == "__main__":
    main()
