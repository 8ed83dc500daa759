"""keras-hub: default, linear and YaRN are right; Llama's position_scaling_factor is ignored; "dynamic" divides all."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # read when keras is imported

import rope_ref as rr  # noqa: E402
from examples.libraries import alone  # noqa: E402
from rope_ref.conformance import Implementation  # noqa: E402

RotaryEmbedding = alone("keras_hub.src.layers.modeling.rotary_embedding").RotaryEmbedding
Llama = alone("keras_hub.src.models.llama.llama_rotary_embedding").LlamaRotaryEmbedding
HEAD_DIM = 64
LLAMA3 = dict(low_freq_factor=1.0, high_freq_factor=4.0, frequency_adjustment_factor=8.0,
              pretraining_sequence_length=8192)  # fmt: skip


def adapter(layer):
    return Implementation(
        apply=lambda x, positions: layer(x, positions=positions), decode=lambda x, offset: layer(x, start_index=offset),
        arrays="torch", layout="bshd", dtypes=("float32",),
    )  # fmt: skip


linear = rr.variants.linear(HEAD_DIM, 4.0)
CHECKS = {
    "default": (adapter(RotaryEmbedding()), rr.variants.default(HEAD_DIM)),
    "linear": (adapter(RotaryEmbedding(rope_type="linear", scaling_factor=4.0)), linear),
    "yarn": (
        adapter(RotaryEmbedding(rope_type="yarn", scaling_factor=4.0, original_max_position_embeddings=4096)),
        rr.variants.yarn(HEAD_DIM, 4.0, 4096),
    ),
    "llama": (adapter(Llama(500000)), rr.variants.default(HEAD_DIM, 500000.0)),
    "llama3": (adapter(Llama(500000, **LLAMA3)), rr.variants.llama3(HEAD_DIM, 8.0)),
}
FAULTS = {
    "llama, linear": (adapter(Llama(position_scaling_factor=4.0)), linear, "LAYER"),
    "dynamic": (
        adapter(RotaryEmbedding(rope_type="dynamic", scaling_factor=4.0)),
        lambda length: rr.variants.dynamic_ntk(HEAD_DIM, 4.0, length=length, max_position_embeddings=2048),
        "DYN",
    ),
}


class Mended(Llama):
    """Frequencies are divided by the factor."""

    def _get_inverse_freq(self, rotary_dim):
        return super()._get_inverse_freq(rotary_dim) / self.position_scaling_factor


MENDED = {"llama, linear": (adapter(Mended(position_scaling_factor=4.0)), linear)}
