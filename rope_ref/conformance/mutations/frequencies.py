"""Wrong frequencies, pairings and widths: another Rope than the one that was asked for."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from rope_ref.conformance.arrays import Array
from rope_ref.conformance.model import Mutation
from rope_ref.conformance.reading import Reading
from rope_ref.frequencies import geometric, linear, yarn
from rope_ref.pairing import channels
from rope_ref.rope import Rope

THETAS = (10000.0, 500000.0, 1000000.0, 100.0, 10.0, 1e5, 1e7, 1.5e5)

# The class of a mistake in the rule by which a variant makes its frequencies
RULES = {
    "partial": "ROTDIM", "proportional": "ROTDIM", "linear": "LAYER", "ntk": "THETA", "dynamic_ntk": "DYN",
    "ntk_by_parts": "YBAND", "llama3": "LLAMA3", "yarn": "YBAND", "dynamic_yarn": "YBAND", "longrope": "LONG",
    "mrope": "MROPE", "mrope_interleaved": "MROPE",
    **dict.fromkeys(
        ("axial", "eva02", "pixtral", "qwen2_vl", "dinov3", "sam2", "llama4", "mixed", "wan", "hunyuan_video",
         "cogvideox", "flux", "v_jepa_2", "golden"), "AXIAL"),
}  # fmt: skip
PARAMETERS = {
    "theta": "THETA", "pairing": "LAYOUT", "start": "ROTDIM", "rotary_dim": "ROTDIM", "exponent": "ROTDIM",
    "partial_rotary_factor": "ROTDIM", "attention_factor": "YMAG", "mscale": "YMAG", "mscale_all_dim": "YMAG",
    "attention_scale": "YMAG", "scale_base": "XPOS", "center": "XPOS",
}  # fmt: skip
LEFT_ALONE = ("head_dim", "inv_freq", "angle_dtype", "xpos", "length", "generator", "heads", "pairing", "attention_scale")
TWINS = (("short_factor", "long_factor"), ("mscale", "mscale_all_dim"))


def rule(rope: Rope) -> str | None:
    """The class of a mistake in the frequencies of this Rope, if its variant has a rule of its own."""
    name = rope.origin.make.__name__ if rope.origin else ""
    found = RULES.get(name)
    if found == "MROPE" and rope.axes == 2:
        return "AXIAL"
    if found is None and rope.axes is not None:
        return "MROPE" if rope.axes == 3 else "AXIAL"
    return found


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every Rope that is known to be taken for this one."""
    other = "interleaved" if rope.pairing == "half-split" else "half-split"
    pairs = {"interleaved": "(2i, 2i + 1)", "half-split": f"(i, i + {rope.pairs})"}
    text = f"pairs are {pairs[other]}; you declared {rope.pairing}, {pairs[rope.pairing]}"
    yield turned("LAYOUT", text, replace(rope, pairing=other))
    for bug, text, made in (*parameters(rope), *scalings(rope), *widths(rope), *exponents(rope), *axes(rope)):
        if made != rope and made.axes == rope.axes:
            yield turned(bug, text, made)
    yield from clamped(rope)


def turned(bug: str, text: str, made: Rope) -> Mutation:
    return Mutation(bug, text, {"rope": lambda r, c: made})


Wrong = Iterator[tuple[str, str, Rope]]


def parameters(rope: Rope) -> Wrong:
    """Each parameter of the variant left out, taken from its default, or taken for its twin."""
    if rope.origin is None:
        return
    make, given = rope.origin
    own = rule(rope) or "FORMULA"
    signature = inspect.signature(make).parameters
    for name, value in given.items():
        if name in LEFT_ALONE:
            continue
        tried: dict[str, Any] = {}
        if name == "theta":
            tried |= {f"{t:g}": t for t in THETAS}
        elif isinstance(value, bool):
            tried[str(not value)] = not value
        elif name == "factor":
            tried |= {"1, so nothing is scaled": 1.0, "squared": value and value**2, "its square root": value and value**0.5}
        elif name == "exponent":
            tried |= {other: other for other in ("rotary_dim", "head_dim") if other != value}
        elif name.endswith("max_position_embeddings"):
            longer = value * (given.get("factor") or 1)
            tried |= {f"{n:g}": n for n in (longer, 32767, 2048, 4096, 8192, 16384, 32768, 65536, 131072)}
        elif name in ("mrope_section", "axis_dims", "axes_dim"):
            tried |= {"in reverse order": tuple(reversed(value)), "moved round": (*value[1:], value[0])}
        if name in signature and signature[name].default is not inspect.Parameter.empty:
            default = signature[name].default
            tried.setdefault(f"left at {default}", default)
        for words, other in tried.items():
            yield from _made(rope, PARAMETERS.get(name, own), f"{name} is {words}; expected {value}", {name: other})
    for one, two in TWINS:
        if given.get(one) is not None and given.get(two) is not None:
            words = {one: given[two], two: given[one]}
            yield from _made(rope, PARAMETERS.get(one, own), f"{one} and {two} are exchanged", words)
    for one in ("short_factor", "long_factor"):
        if one in given:
            for name in ("short_factor", "long_factor"):
                yield from _made(rope, own, f"{one} is taken at every length", {name: given[one]})


def _made(rope: Rope, bug: str, text: str, changed: dict[str, Any]) -> Wrong:
    assert rope.origin is not None
    try:
        made = rope.origin.make(**rope.origin.given | changed)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError):  # the specification refuses it
        return
    if made.head_dim == rope.head_dim:
        yield bug, text, made


def scalings(rope: Rope) -> Wrong:
    """The frequencies unscaled, all scaled alike, or blended by another ramp; the magnitude stays."""
    given = rope.origin.given if rope.origin else {}
    theta, factor = float(given.get("theta") or rope.theta), float(given.get("factor") or 1.0)
    trained = given.get("original_max_position_embeddings") or given.get("max_position_embeddings")
    bug = rule(rope)
    if rope.axes is not None or bug is None or rope.pairs == 0:
        return
    plain = geometric(2 * rope.pairs, theta)

    def made(inv_freq: Array) -> Rope:
        return replace(rope, inv_freq=inv_freq, theta=10000.0)

    yield bug, "the frequencies are not scaled at all", made(plain)
    if factor > 1:
        yield bug, f"every frequency is divided by {factor:g}", made(linear(plain, factor))
        yield bug, f"every frequency is multiplied by {factor:g}", made(plain * factor)
    if factor > 1 and trained:
        fast = float(given.get("beta_fast") or given.get("high_freq_factor") or given.get("beta") or 32.0)
        slow = float(given.get("beta_slow") or given.get("low_freq_factor") or given.get("alpha") or 1.0)
        for words, ramp in ramps(plain, theta, float(trained), fast, slow).items():
            yield bug, words, made(plain / factor * ramp + plain * (1 - ramp))
        if theta > 1 and fast >= slow:
            for truncate in (True, False):
                made_by_yarn = yarn(2 * rope.pairs, theta, factor, float(trained), fast, slow, truncate)
                yield bug, f"the frequencies are blended as in YaRN, truncate={truncate}", made(made_by_yarn)


def ramps(w: Array, theta: float, trained: float, fast: float, slow: float) -> dict[str, Array]:
    """How much each pair is interpolated, by rules that are not those of the papers."""
    i, r = np.arange(len(w)), 2 * len(w)
    rotations = trained * w / (2 * np.pi)

    def pair(turns: float) -> float:
        return float(r * np.log(trained / (turns * 2 * np.pi)) / (2 * np.log(theta)))

    def over_pairs(low: float, high: float) -> Array:
        return np.asarray(np.clip((i - low) / (high - low if high != low else 0.001), 0, 1))

    down, up = np.floor(pair(fast)), np.ceil(pair(slow))
    by_turns = np.clip((rotations - slow) / (fast - slow if fast != slow else 1e-3), 0, 1)
    return {
        "the limits of the ramp are exchanged, rounded": over_pairs(np.floor(pair(slow)), np.ceil(pair(fast))),
        "the limits of the ramp are exchanged": over_pairs(pair(slow), pair(fast)),
        "the limits of the ramp are exchanged, and clamped": over_pairs(
            max(np.floor(pair(slow)), 0), min(np.ceil(pair(fast)), r - 1)
        ),
        "the ramp runs the other way": 1 - over_pairs(down, up),
        "the ramp runs the other way, over rotations": np.asarray(by_turns),
        "the ramp is not clamped to the pairs there are": np.asarray(np.clip((i - down) / (up - down or 1), 0, 1)),
        "the limits of the ramp are rounded to the nearest pair": over_pairs(np.rint(pair(fast)), np.rint(pair(slow))),
        "the limits of the ramp are cut to whole pairs": over_pairs(np.floor(pair(fast)), np.floor(pair(slow))),
        "the limits of the ramp count channels, not pairs": over_pairs(2 * down, 2 * up),
        "there is no ramp: below the slow limit all is scaled, above nothing": (rotations < slow).astype(float),
        "there is no ramp: below the fast limit all is scaled, above nothing": (rotations < fast).astype(float),
        "the ramp is blended in wavelengths": np.asarray(
            np.clip((1 / np.maximum(rotations, 1e-30) - 1 / fast) / (1 / slow - 1 / fast or 1), 0, 1)
        ),
    }


def widths(rope: Rope) -> Wrong:
    """Another number of channels, another place for them, another denominator of the exponent."""
    if rope.axes is not None:
        return
    d, r, w = rope.head_dim, 2 * rope.pairs, rope.omega
    theta = float(rope.origin.given.get("theta") or rope.theta) if rope.origin else rope.theta
    whole = geometric(d - d % 2, theta) if d > 1 else w

    def made(inv_freq: Array, start: int = rope.start) -> Iterator[Rope]:
        if start >= 0 and start + 2 * len(inv_freq) <= d and len(inv_freq):
            yield replace(rope, inv_freq=inv_freq, rotary_dim=None, start=start, theta=10000.0)

    tried: dict[str, tuple[Array, int]] = {
        "the exponent is divided by head_dim, not rotary_dim": (whole[: rope.pairs], rope.start),
        "the exponent is divided by rotary_dim, not head_dim": (geometric(r, theta), rope.start),
        "all of the head turns, with frequencies for all of it": (whole, 0),
        "all of the head turns, the exponent divided by rotary_dim": (
            theta ** (-2.0 * np.arange(d // 2) / max(r, 1)), 0,
        ),
        "pairs reach over the whole head, those beyond rotary_dim stand still": (
            np.concatenate([w, np.zeros(d // 2 - len(w))]), 0,
        ),
        "pairs reach over the whole head, the exponent divided by head_dim, those beyond rotary_dim stand still": (
            np.concatenate([whole[: len(w)], np.zeros(d // 2 - len(w))]), 0,
        ),
        "the first channels turn, not those from `start`": (w, 0),
        "the last channels turn": (w, d - r),
        "two channels turn where none should": (np.ones(1), 0),
        "half as many channels turn": (geometric(r // 2 - (r // 2) % 2, theta), rope.start),
        "half as many channels turn, with the same frequencies": (w[: rope.pairs // 2], rope.start),
        "one pair is missing": (w[:-1], rope.start),
        "one pair too many turns": (np.append(w, w[-1:] ** 2 / w[-2:-1] if len(w) > 1 else w), rope.start),
        "the width is rounded up to a power of two": (
            theta ** (-2.0 * np.arange(_power_of_two(r) // 2) / max(r, 1)), rope.start,
        ),
        "twice as many channels turn": (geometric(2 * r, theta), rope.start),
        "twice as many channels turn, the exponent divided by rotary_dim": (
            theta ** (-2.0 * np.arange(r) / max(r, 1)), rope.start,
        ),
    }  # fmt: skip
    for text, (inv_freq, start) in tried.items():
        yield from (("ROTDIM", text, each) for each in made(inv_freq, start))


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 1).bit_length()


def exponents(rope: Rope) -> Wrong:
    """Another law for the frequencies."""
    if rope.axes is not None or rope.pairs < 2:
        return
    theta, n = rope.theta, rope.pairs
    i = np.arange(n)
    for text, w in {
        "the exponent is i/r, not 2i/r": theta ** (-i / (2 * n)),
        "the exponent is 4i/r, not 2i/r": theta ** (-4 * i / (2 * n)),
        "the exponent counts from 1": theta ** (-2 * (i + 1) / (2 * n)),
        "the exponent is (2i + 1)/r": theta ** (-(2 * i + 1) / (2 * n)),
        "the exponent is 2i/(r - 2)": theta ** (-2 * i / (2 * n - 2)),
        "frequencies are in reverse order": rope.omega[::-1],
        "frequencies are multiplied by 2 pi": rope.omega * 2 * np.pi,
        "frequencies fall in a straight line": np.linspace(1, 1 / theta, n),
    }.items():
        yield "FORMULA", text, replace(rope, inv_freq=w, theta=10000.0)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = 1 / rope.omega
    if np.isfinite(inverse).all():
        yield "FORMULA", "the exponent has the wrong sign: wavelengths for frequencies", replace(
            rope, inv_freq=inverse, theta=10000.0
        )


def axes(rope: Rope) -> Wrong:
    """Another share of the pairs for each axis."""
    if rope.axes is None or rope.heads is not None:
        return
    bug = rule(rope) or "AXIAL"
    omega, n = rope.omega, rope.axes
    speed = omega.sum(-1)
    counts = [(omega[:, a] != 0).sum() for a in range(n)]

    def shared(axis: Array) -> Rope:
        turned = np.zeros_like(omega)
        turned[np.arange(rope.pairs), axis.astype(int)] = speed
        return replace(rope, inv_freq=turned)

    blocks = np.repeat(np.arange(n), counts) if sum(counts) == rope.pairs else np.zeros(rope.pairs)
    for text, axis in {
        "the pairs of each axis lie in one block": blocks,
        "the blocks are in reverse order": blocks[::-1],
        "the axes take turns": np.arange(rope.pairs) % n,
        "the axes take turns, in reverse order": (n - 1) - np.arange(rope.pairs) % n,
        "equal blocks, one an axis": np.minimum(np.arange(rope.pairs) * n // rope.pairs, n - 1),
    }.items():
        yield bug, text, shared(np.asarray(axis))
    for a in range(n):
        yield bug, f"all pairs turn with axis {a}", shared(np.full(rope.pairs, a))
    for by in (1, -1):
        rolled = omega.copy()
        for a in range(1, n):
            mine = omega[:, a] != 0
            rolled[mine, a] = np.roll(omega[mine, a], by)
        yield bug, f"the frequencies of each axis but the first are moved round by {by}", replace(rope, inv_freq=rolled)
    for text, w in _reassigned(omega).items():
        yield bug, text, replace(rope, inv_freq=w)


def _reassigned(omega: Array) -> dict[str, Array]:
    """The same speeds, given to other pairs: by turns instead of in blocks, and the other way round."""
    n = omega.shape[1]
    by_axis = [omega[omega[:, a] != 0, a] for a in range(n)]
    if len({len(w) for w in by_axis}) != 1 or sum(map(len, by_axis)) != len(omega):
        return {}
    turns, blocks, swapped = np.zeros_like(omega), np.zeros_like(omega), np.zeros_like(omega)
    for a, w in enumerate(by_axis):
        turns[a::n, a] = w
        blocks[a * len(w) : (a + 1) * len(w), a] = w
        swapped[(n - 1 - a) * len(w) : (n - a) * len(w), a] = w
    return {
        "the axes take turns instead of lying in blocks": turns,
        "the axes lie in blocks instead of taking turns": blocks,
        "the axes lie in blocks, in reverse order": swapped,
        "the axes take turns, in reverse order, instead of lying in blocks": turns[:, ::-1].copy(),
    }


def clamped(rope: Rope) -> Iterator[Mutation]:
    """All positions divided and held within the trained length, in the place of a rule for each frequency."""
    given = rope.origin.given if rope.origin else {}
    factor, trained, bug = given.get("factor"), given.get("original_max_position_embeddings"), rule(rope)
    if not (factor and trained and bug and rope.axes is None):
        return
    theta = float(given.get("theta") or rope.theta)
    plain = replace(rope, inv_freq=geometric(2 * rope.pairs, theta), theta=10000.0)
    for last in (trained - 1, trained):
        yield Mutation(
            bug, f"positions are divided by {factor:g} and held below {trained:g}, frequencies are not scaled",
            {"rope": lambda r, c: plain, "positions": lambda p, c, m=last: np.minimum(p / factor, m)},
        )  # fmt: skip


def read(rope: Rope, reading: Reading) -> Iterator[Mutation]:
    """The frequencies that were read off: as another theta, as a multiple, or as they are."""
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    order = {int(a): i for i, a in enumerate(first)}
    w = np.zeros_like(rope.omega)
    for k, (a, b) in enumerate(zip(reading.first, reading.second, strict=True)):
        if int(a) not in order or second[order[int(a)]] != b or w.ndim == 3:
            return
        w[order[int(a)]] = reading.inv_freq[k]
    if w.shape != rope.omega.shape or not w.any():
        return
    if w.ndim == 1 and len(w) > 1 and (w > 0).all():
        slope = np.polyfit(np.arange(len(w)), np.log(w), 1)[0]
        theta = float(np.exp(-slope * len(w)))
        if np.abs(np.log(w) + np.arange(len(w)) / len(w) * np.log(theta)).max() < 1e-3:
            yield turned("THETA", f"theta is {theta:.7g}; expected {rope.theta:g}", replace(
                rope, inv_freq=geometric(2 * len(w), theta), theta=10000.0))  # fmt: skip
    turning = rope.omega != 0
    ratio = w[turning] / rope.omega[turning]
    if len(ratio) and np.ptp(ratio) < 1e-4 * np.abs(ratio).max() and not (w[~turning]).any():
        text = f"every angle is {np.median(ratio):.7g} times what it should be"
        yield turned(rule(rope) or "LAYER", text, replace(rope, inv_freq=rope.omega * np.median(ratio), theta=10000.0))
    bug = rule(rope)
    if bug is not None:
        wrong = np.flatnonzero((np.abs(w - rope.omega) > 1e-3 * np.abs(rope.omega).max(initial=0) + 0).reshape(len(w), -1).any(-1))
        pair = int(wrong[0]) if len(wrong) else 0
        text = f"the frequencies follow another rule: pair {pair} turns by {w[pair]}; expected {rope.omega[pair]}"
        yield turned(bug, text, replace(rope, inv_freq=w, theta=10000.0))
