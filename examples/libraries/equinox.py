"""equinox: right; its cache of tables does not know theta, so the first theta of a width and dtype is that of all."""

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox.nn._embedding import internal_rope_embedding_cache as cache

import rope_ref as rr
from rope_ref.conformance import Implementation

HEAD_DIM = 64


def adapter(theta, forget=False):
    module = eqx.nn.RotaryPositionalEmbedding(HEAD_DIM, theta)

    def sequence(x):
        if forget:
            cache.clear()
        return jax.vmap(module, in_axes=1, out_axes=1)(x)

    return Implementation(sequence=sequence, arrays="jax", layout="shd", dtypes=("float32",))


def after_another():
    """What a module of theta 500,000 does once one of theta 10,000 has been called."""
    mine, other = adapter(500000.0), eqx.nn.RotaryPositionalEmbedding(HEAD_DIM, 10000.0)

    def sequence(x):
        cache.clear()
        other(jnp.zeros((5000, HEAD_DIM)))
        return mine.sequence(x)

    return Implementation(sequence=sequence, arrays="jax", layout="shd", dtypes=("float32",))


slow = rr.variants.default(HEAD_DIM, 500000.0)
CHECKS = {"default": (adapter(10000.0, forget=True), rr.variants.default(HEAD_DIM))}
FAULTS = {"second theta": (after_another(), slow, "THETA")}
MENDED = {"second theta": (adapter(500000.0, forget=True), slow)}
