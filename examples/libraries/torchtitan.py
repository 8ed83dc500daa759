"""torchtitan: right. YaRN's magnitude is not in its tables; the model has it in the scale of the softmax."""

import torch

import rope_ref as rr
from examples.libraries import alone
from rope_ref.conformance import Implementation

rope_module = alone("torchtitan.models.common.rope")
HEAD_DIM, LENGTH = 64, 8192
Complex, CosSin = rope_module.ComplexRoPE, rope_module.CosSinRoPE


def adapter(kind, **config):
    module = kind(kind.Config(dim=HEAD_DIM, max_seq_len=LENGTH, **config))

    def apply_qk(q, k, q_positions, k_positions):
        def one(x, positions):
            rows = torch.atleast_2d(positions).expand(len(x), -1)
            return module(x, x.clone(), rows)[0]

        return one(q, q_positions), one(k, k_positions)

    return Implementation(apply_qk=apply_qk, arrays="torch", layout="bshd", negative=False, max_position=LENGTH,
                          deviations=("RANGE",))  # fmt: skip


YARN = dict(scaling="yarn", rope_factor=4.0, original_seq_len=4096)
CHECKS = {
    "complex": (adapter(Complex), rr.variants.default(HEAD_DIM, pairing="interleaved")),
    "complex, llama3": (
        adapter(Complex, theta=500000.0, scaling="llama"), rr.variants.llama3(HEAD_DIM, 8.0, pairing="interleaved"),
    ),
    "complex, yarn": (
        adapter(Complex, **YARN), rr.variants.yarn(HEAD_DIM, 4.0, 4096, attention_factor=1.0, pairing="interleaved"),
    ),
    "cos and sin": (adapter(CosSin), rr.variants.default(HEAD_DIM)),
    "cos and sin, yarn": (adapter(CosSin, **YARN), rr.variants.yarn(HEAD_DIM, 4.0, 4096, attention_factor=1.0)),
}  # fmt: skip
