"""The bounds of docs/exactness.md against implementations that make the declared roundings, the worst ones included.

Four kinds of opponents: an adversary, which moves every number by the most that its rounding could; code that
rounds to nearest, step by step; frequencies by the formulas in use; and the specification itself, by mpmath.
"""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import rounded
from rope_ref.conformance.properties.model import Accuracy
from rope_ref.conformance.vectors import angle_error
from rope_ref.exactness import UNIT, budget
from rope_ref.frequencies import geometric
from rope_ref.magnitude import XPos
from rope_ref.rope import Rope
from rope_ref.rotation import angles, magnitude, rotate, tables
from rope_ref.variants import llama3

DTYPES = tuple(UNIT)
HALVES = ("bfloat16", "float16")
SINGLE = np.float32

thetas = st.floats(np.log(10.0), np.log(1e8)).map(lambda log: float(np.float32(np.exp(log))))
head_dims = st.sampled_from([2, 4, 16, 48, 64, 80, 96, 112, 128, 192, 256])
spots = st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=6).map(np.array)
seeds = st.integers(0, 2**32)


def pairs_of(x):
    half = x.shape[-1] // 2
    return x[..., :half], x[..., half:]


def stepwise(x, cos, sin, arithmetic, store, fused=False):
    """Two products and a difference, each rounded to nearest; fused, the second product enters unrounded."""
    a, b = pairs_of(x)

    def product(u, v):
        return rounded(u * v, arithmetic)

    def last(u, v):
        return u * v if fused else product(u, v)

    y = (product(a, cos) - last(b, sin), product(a, sin) + last(b, cos))
    return rounded(rounded(np.concatenate(y, -1), arithmetic), store)


def numbers(seed, shape, dtype):
    """Normal numbers, some of them 0 or tiny, that a dtype has."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal(shape) * generator.choice([1, 1, 1, 0, 1e-3, 1e-7], shape)
    return rounded(x, dtype)


def allowed(x, p, rope, accuracy, store):
    """The bound of an Accuracy on tokens (seq, head_dim)."""
    angle = accuracy.angle_error(rope, np.asarray(p, np.float64)[None])[0, 0]
    return budget(x, p, rope, store=store, arithmetic=accuracy.arithmetic, table=accuracy.table, angle=angle)


# ---- tables, products, difference, store ----


@given(thetas, spots, seeds, st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_an_adversary_reaches_the_bound_and_does_not_pass_it(theta, p, seed, table, arithmetic, store):
    rope = Rope(8, theta=theta)
    x = np.random.default_rng(seed).standard_normal((len(p), 8))
    a, b = pairs_of(x)
    cos, sin = tables(rope, p)
    right, worst = a * cos - b * sin, 0.0
    for t1, t2, d1, d2, d3, s in itertools.product((-1, 1), repeat=6):
        first = a * cos * (1 + t1 * UNIT[table]) * (1 + d1 * UNIT[arithmetic])
        second = b * sin * (1 + t2 * UNIT[table]) * (1 + d2 * UNIT[arithmetic])
        y = (first - second) * (1 + d3 * UNIT[arithmetic]) * (1 + s * UNIT[store])
        worst = np.maximum(worst, np.abs(y - right))
    bound = pairs_of(budget(x, p, rope, store=store, arithmetic=arithmetic, table=table))[0]
    # this test, in float64, rounds the numbers of size |a cos| + |b sin| ten times itself
    own = 10 * UNIT["float64"] * (np.abs(a * cos) + np.abs(b * sin))
    assert (worst <= bound + own).all()
    # where the two products have opposite signs all roundings can go the same way, and no bound could be smaller but
    # for the four units of float64 and the smallest numbers that it also counts
    apart = a * cos * b * sin < 0
    spare = 4 * UNIT["float64"] * 1.04 * (np.abs(a * cos) + np.abs(b * sin))
    spare += 4 * 2.0**-24 + (np.abs(a) + np.abs(b)) * 2.0**-25
    assert (worst >= bound - own - spare)[apart].all()


@given(
    thetas, head_dims, spots, seeds, st.sampled_from([d for d in DTYPES if d != "float16"]), st.sampled_from(DTYPES),
    st.sampled_from(DTYPES), st.booleans(),
)  # fmt: skip
def test_rounding_to_nearest_stays_within_the_bound(theta, head_dim, p, seed, table, arithmetic, store, fused):
    rope = Rope(head_dim, theta=theta)
    x = numbers(seed, (len(p), head_dim), store)
    cos, sin = (rounded(t, table) for t in tables(rope, p))
    # x that the arithmetic does not have would be rounded once more: then it is wider than its store
    arithmetic = store if UNIT[arithmetic] > UNIT[store] else arithmetic
    arithmetic = "float32" if {arithmetic, store} == set(HALVES) else arithmetic
    if arithmetic == "float16" and table != "float16":
        arithmetic = "float32"  # nor could it hold the tables
    y = stepwise(x, cos, sin, arithmetic, store, fused)
    bound = budget(x, p, rope, store=store, arithmetic=arithmetic, table=table)
    assert (np.abs(y - rotate(x, p, rope)) <= bound).all()


@given(thetas, spots, seeds, st.sampled_from(HALVES))
def test_a_half_store_of_a_tiny_number_is_within_the_bound(theta, p, seed, store):
    rope = Rope(8, theta=theta)
    x = rounded(numbers(seed, (len(p), 8), store) * 1e-6, store)
    y = stepwise(x, *(rounded(t, "float32") for t in tables(rope, p)), "float32", store)
    bound = budget(x, p, rope, store=store, arithmetic="float32", table="float32")
    assert (np.abs(y - rotate(x, p, rope)) <= bound).all()


@given(st.floats(0, 1), st.floats(-10.0, 10.0), st.floats(-np.pi, np.pi))
def test_an_angle_moves_a_number_by_no_more_than_itself(mix, angle, delta):
    x = np.array([[mix, np.sqrt(1 - mix**2)]])
    moved, here = (rotate(x, [1], Rope(2, inv_freq=(w,))) for w in (angle + delta, angle))
    exact = dict.fromkeys(("store", "arithmetic", "table"), "float64")
    assert (np.abs(moved - here) <= budget(x, [1], Rope(2, inv_freq=(angle,)), angle=delta, **exact)).all()


# ---- frequencies and angles ----

EXPONENT = {
    "1 / theta^e": lambda t, r, e, i: 1 / t**e,
    "theta^-e": lambda t, r, e, i: t**-e,
    "exp(-i (ln theta / r))": lambda t, r, e, i: np.exp(i * -(np.log(t) / r)),
    "exp(-e ln theta)": lambda t, r, e, i: np.exp(-(e * np.log(t))),
    "1 / exp(e ln theta)": lambda t, r, e, i: 1 / np.exp(e * np.log(t)),
    "2^(-e log2 theta)": lambda t, r, e, i: np.exp2(-(e * np.log2(t))),
}


def frequencies(formula, theta, r):
    i = np.arange(0, r, 2).astype(SINGLE)
    w = EXPONENT[formula](SINGLE(theta), SINGLE(r), i / SINGLE(r), i)
    assert w.dtype == SINGLE
    return w


def single_angles(p, w):
    return p.astype(SINGLE)[:, None] * w


@given(st.sampled_from(list(EXPONENT)), thetas, head_dims, spots)
def test_float32_angles_by_every_formula(formula, theta, head_dim, p):
    rope = Rope(head_dim, theta=theta)
    phi = single_angles(p, frequencies(formula, theta, head_dim))
    bound = Accuracy("float32").angle_error(rope, p[None].astype(float))[0, 0]
    assert (np.abs(phi - angles(rope, p)) <= bound - 2 * UNIT["float32"]).all()  # those are for cos and sin


@given(thetas, head_dims, spots)
def test_float32_angles_by_recurrence(theta, head_dim, p):
    rope, ratios = Rope(head_dim, theta=theta), np.full(head_dim // 2, SINGLE(theta) ** (SINGLE(-2) / SINGLE(head_dim)))
    ratios[0] = 1
    w = np.multiply.accumulate(ratios)
    factors = np.tile(ratios, (len(p), 1))
    factors[:, 0] = p
    phi = np.multiply.accumulate(factors, axis=1)
    assert ratios.dtype == w.dtype == phi.dtype == SINGLE
    bound = Accuracy("recurrence").angle_error(rope, p[None].astype(float))[0, 0] - 2 * UNIT["float32"]
    for each in (phi, single_angles(p, w)):  # the position is multiplied first, or last
        assert (np.abs(each - angles(rope, p)) <= bound).all()


@given(thetas, head_dims, spots)
def test_a_rope_of_float32_angles_is_near_the_exact_one(theta, head_dim, p):
    rope = Rope(head_dim, theta=theta)
    phi = angles(Rope(head_dim, theta=theta, angle_dtype="float32"), p)
    for bound in (Accuracy("float32").angle_error(rope, p[None].astype(float))[0, 0], angle_error(rope, p, 2.0**-24)):
        assert (np.abs(phi - angles(rope, p)) <= bound).all()


@given(st.integers(1, 3), seeds)
def test_float32_sums_over_axes(axes, seed):
    generator = np.random.default_rng(seed)
    omega = rounded(generator.standard_normal((8, axes)) * np.exp(generator.uniform(-9, 0, (8, 1))), "float32")
    rope, p = Rope(16, inv_freq=omega), generator.integers(-(10**6), 10**6, (4, axes))
    phi = np.zeros((4, 8), SINGLE)
    for axis in range(axes):
        phi = phi + p[:, axis, None].astype(SINGLE) * omega[None, :, axis].astype(SINGLE)
    bound = Accuracy("float32").angle_error(rope, p[None].astype(float))[0, 0] - 2 * UNIT["float32"]
    assert (np.abs(phi - angles(rope, p)) <= bound).all()


# ---- all of it ----


@given(
    st.sampled_from(list(EXPONENT)), thetas, head_dims, spots, seeds,
    st.sampled_from(["float32", "bfloat16", "float16"]), st.booleans(), st.floats(1.0, 2.0),
)  # fmt: skip
def test_a_whole_rotation_in_float32_or_half(formula, theta, head_dim, p, seed, store, narrow, scale):
    rope = Rope(head_dim, theta=theta, attention_scale=scale)
    dtype = store if narrow else "float32"
    x = rounded(np.random.default_rng(seed).standard_normal((len(p), head_dim)), store)
    phi = single_angles(p, frequencies(formula, theta, head_dim))
    cos, sin = (rounded(t * SINGLE(scale), dtype) for t in (np.cos(phi), np.sin(phi)))
    y = stepwise(x, cos, sin, dtype, store)
    assert (np.abs(y - rotate(x, p, rope)) <= allowed(x, p, rope, Accuracy("float32", dtype, dtype), store)).all()


@given(thetas, spots)
def test_the_specification_is_within_its_four_units_of_float64(theta, p):
    rope = Rope(16, theta=theta, attention_scale=1.1)
    phi, found = angles(rope, p), tables(rope, p)
    with mpmath.workdps(40):
        for table, function in zip(found, (mpmath.cos, mpmath.sin), strict=True):
            for value, angle in zip(table.ravel(), phi.ravel(), strict=True):
                exact = mpmath.mpf(1.1) * function(mpmath.mpf(float(angle)))
                # a unit in the last place of the library, two roundings, and one for the magnitude
                assert abs(float(mpmath.mpf(float(value)) - exact)) <= 3 * UNIT["float64"] * abs(float(exact))


# ---- where an earlier bound was none ----


def test_tables_of_a_wrong_angle_are_rounded_too():
    delta, rope, x = 0.0080265, Rope(2, inv_freq=(np.pi / 2,)), np.array([[1.0, 0.0]])
    dtypes = dict.fromkeys(("store", "arithmetic", "table"), "bfloat16")
    phi = np.array([[np.pi / 2 - delta]])
    y = stepwise(x, *(rounded(t, "bfloat16") for t in (np.cos(phi), np.sin(phi))), "bfloat16", "bfloat16")
    assert (np.abs(y - rotate(x, [1], rope)) <= budget(x, [1], rope, angle=delta, **dtypes)).all()


def test_tables_of_float16_have_a_smallest_number():
    rope, x = Rope(2, inv_freq=(1.476e-7,)), np.array([[0.0, 8.6875]])
    y = stepwise(x, *(rounded(t, "float16") for t in tables(rope, [1])), "float32", "float16")
    assert (np.abs(y - rotate(x, [1], rope)) <= allowed(x, [1], rope, Accuracy("exact", "float16"), "float16")).all()


@pytest.mark.parametrize("factor", [32.0, 128.0])
def test_a_blend_of_frequencies_magnifies_their_roundings(factor):
    """The rule of Llama 3 as Hugging Face writes it, in float32, from powers that are rounded once."""
    head_dim, theta, trained = 80, 150000.0, 8192
    w = geometric(head_dim, theta, SINGLE)
    wavelength = SINGLE(2 * np.pi) / w
    t = (SINGLE(trained) / wavelength - 1) / SINGLE(3)
    blend = np.where(wavelength > trained, w / SINGLE(factor), np.where(
        wavelength < trained / 4, w, (1 - t) * w / SINGLE(factor) + t * w))  # fmt: skip
    rope = llama3(head_dim, factor, original_max_position_embeddings=trained, theta=theta)
    p = np.array([10**6])
    bound = Accuracy("float32").angle_error(rope, p[None].astype(float))[0, 0]
    assert blend.dtype == SINGLE and (np.abs(single_angles(p, blend) - angles(rope, p)) <= bound).all()


def test_xpos_in_float32_is_rounded_too():
    rope, p = Rope(128, theta=1e6, xpos=XPos()), np.arange(-5000, -4800)
    zeta = rounded(rope.xpos.zeta(64), "float32").astype(SINGLE)
    m = zeta ** (p.astype(SINGLE)[:, None] / SINGLE(512))
    x = np.random.default_rng(0).standard_normal((len(p), 128)).astype(SINGLE)
    phi = angles(rope, p)
    cos, sin = (t.astype(SINGLE) * m for t in (np.cos(phi), np.sin(phi)))
    assert (np.abs(m / magnitude(rope, p) - 1) < 2.0**-19).all()  # right to 19 bits
    y = stepwise(x, cos, sin, "float32", "float32")
    assert (np.abs(y - rotate(x, p, rope)) <= allowed(x, p, rope, Accuracy("exact"), "float32")).all()
