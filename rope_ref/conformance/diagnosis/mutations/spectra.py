"""Wrong laws for the frequencies: unscaled, scaled alike, blended otherwise, another exponent."""

from dataclasses import replace

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.diagnosis.mutations.parameters import Wrong
from rope_ref.conformance.diagnosis.mutations.rules import rule
from rope_ref.frequencies import geometric, linear, yarn
from rope_ref.rope import Rope


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
        yield (
            "FORMULA",
            "the exponent has the wrong sign: wavelengths for frequencies",
            replace(rope, inv_freq=inverse, theta=10000.0),
        )
