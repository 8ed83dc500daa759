"""Arrays of jax: a right implementation conforms, a wrong one is named, in seconds though every shape is compiled."""

import pytest

import rope_ref as rr
from rope_ref.conformance import check

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
ROPE = rr.variants.default(64)


def turned(x, positions, dtype=jnp.float32, theta=10000.0):
    half = x.shape[-1] // 2
    angle = (positions[..., None].astype(dtype) * theta ** (-jnp.arange(half) / half)).astype(jnp.float32)
    angle = angle[:, None] if positions.ndim == 2 else angle
    cos, sin, a, b = jnp.cos(angle), jnp.sin(angle), *jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


@pytest.mark.parametrize("apply", [jax.jit(turned), turned], ids=["compiled", "eager"])
def test_a_right_one_conforms(apply):
    report = check(lambda x, p: apply(x, p), ROPE, budget="quick")
    assert report.passed and not report.findings, report
    assert report.inferred["arrays"] == "jax" and "float64" not in report.inferred["dtypes"]


@pytest.mark.parametrize("options, bug", [({"dtype": jnp.bfloat16}, "POSDT"), ({"theta": 5000.0}, "THETA")])
def test_a_wrong_one_is_named(options, bug):
    apply = jax.jit(lambda x, p: turned(x, p, **options))
    report = check(apply, ROPE, budget="quick", arrays="jax", dtypes=("float32",))
    assert {f.bug for f in report.findings} == {bug}, report
