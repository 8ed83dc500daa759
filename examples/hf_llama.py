"""Llama of transformers, with every kind of rope_parameters its configs know (LongRoPE through Phi-3).

    rope-ref check examples.hf_llama:implementation --variant default --head-dim 64

x is (batch, heads, seq, head_dim). Dynamic NTK and LongRoPE depend on the length of the sequence, so there the
Rope is a function of the length. FAULTS holds what goes wrong:

    one dynamic module    keeps the base of the longest call for shorter ones beyond the trained length: meant for
                          a sequence that grows, wrong for the next sequence
    original length       Phi3Config writes its own original_max_position_embeddings, 4096 unless given, over the one
                          in rope_parameters
    cast                  `module.bfloat16()` rounds inv_freq with everything else
"""

import torch
from transformers import LlamaConfig, Phi3Config
from transformers.models.llama import modeling_llama
from transformers.models.phi3 import modeling_phi3

import rope_ref as rr
from rope_ref.conformance import Implementation

HEAD_DIM = 64
TRAINED = 1024  # length after which dynamic NTK and LongRoPE change their frequencies
LONGROPE = dict(
    short_factor=[1.0 + i / 64 for i in range(32)], long_factor=[1.0 + i / 4 for i in range(32)],
    original_max_position_embeddings=TRAINED, factor=8.0,
)  # fmt: skip
TAKES = dict(
    arrays="torch", dtypes=("float32", "bfloat16", "float16"), rows=True, negative=True, fractional=True, strided=True
)

# a length is a whole number, and so are the positions of what depends on it
BY_LENGTH = TAKES | {"fractional": False}


def rotation(module, source=modeling_llama):
    """apply(x, positions) from a rotary module and the code of its model."""

    def apply(x, positions):
        cos, sin = module(x, torch.atleast_2d(positions))
        return source.apply_rotary_pos_emb(x, x, cos, sin)[0]

    return apply


def config(kind=LlamaConfig, length=131072, original=None, **parameters):
    parameters = {"rope_type": "default", "rope_theta": 10000.0} | parameters
    options = dict(hidden_size=2 * HEAD_DIM, num_attention_heads=2, max_position_embeddings=length, pad_token_id=0)
    if original is not None:
        options["original_max_position_embeddings"] = original
    return kind(rope_parameters=parameters, **options)


def llama(**parameters):
    """Frequencies that never change: every adapter there is."""
    made = config(**parameters)
    module = modeling_llama.LlamaRotaryEmbedding(made)
    apply = rotation(module)

    def apply_qk(q, k, q_positions, k_positions):
        """The model turns queries and keys of the same tokens; here each is turned at its own positions."""
        tables = [module(q, torch.atleast_2d(p)) for p in (q_positions, k_positions)]
        return (
            modeling_llama.apply_rotary_pos_emb(q, q, *tables[0])[0],
            modeling_llama.apply_rotary_pos_emb(k, k, *tables[1])[1],
        )

    def grad(x, positions, upstream):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(apply(x, positions), x, upstream)[0]

    return Implementation(
        apply=apply, apply_qk=apply_qk, make=lambda: rotation(modeling_llama.LlamaRotaryEmbedding(made)), grad=grad,
        tables=lambda p: tuple(t.reshape(*p.shape, -1) for t in module(torch.zeros(1), torch.atleast_2d(p))),
        frequencies=lambda: (module.inv_freq, module.attention_scaling), **TAKES,
    )  # fmt: skip


def dynamic(trained=TRAINED):
    return rotation(modeling_llama.LlamaRotaryEmbedding(config(length=trained, rope_type="dynamic", factor=4.0)))


def dynamic_of(length, trained=TRAINED):
    return rr.variants.dynamic_ntk(HEAD_DIM, 4.0, max_position_embeddings=trained, length=max(length, 1))


def longrope(original=TRAINED):
    made = config(Phi3Config, 8 * TRAINED, original, rope_type="longrope", **LONGROPE)
    return rotation(modeling_phi3.Phi3RotaryEmbedding(made), modeling_phi3)


def longrope_of(length):
    return rr.variants.longrope(HEAD_DIM, length=max(length, 1), **LONGROPE)


def cast():
    return rotation(modeling_llama.LlamaRotaryEmbedding(config()).bfloat16())


implementation, rope = llama(), rr.variants.default(HEAD_DIM)

CHECKS = {
    "default": (implementation, rope),
    "linear": (llama(rope_type="linear", factor=4.0), rr.variants.linear(HEAD_DIM, 4.0)),
    "llama3": (
        llama(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192),
        rr.variants.llama3(HEAD_DIM, 8.0),
    ),
    "yarn": (
        llama(length=4 * TRAINED, rope_type="yarn", factor=4.0, original_max_position_embeddings=TRAINED),
        rr.variants.yarn(HEAD_DIM, 4.0, TRAINED),
    ),
    "dynamic": (Implementation(apply=lambda x, p: dynamic()(x, p), **BY_LENGTH), dynamic_of),
    "longrope": (Implementation(apply=longrope(), make=longrope, **BY_LENGTH), longrope_of),
}  # fmt: skip

SHORT = 32  # so that most calls are beyond it
FAULTS = {
    "one dynamic module": (
        Implementation(make=lambda: dynamic(SHORT), **BY_LENGTH), lambda length: dynamic_of(length, SHORT)
    ),
    "original length": (Implementation(apply=longrope(original=None), **BY_LENGTH), longrope_of),
    "cast": (Implementation(apply=cast(), **TAKES), rope),
}  # fmt: skip
