"""The decoupled rotary part of multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1.3).

A query head is [content | rotary], of qk_nope_head_dim and qk_rope_head_dim channels; only the
last part turns. Keys have a content part for each head and one rotary part for all of them, so
the cache holds it once, rotated. Two ways of saying the same:

    rotate the whole head by a Rope that starts behind the content
    rotate the rotary part alone by a Rope of its own width, then concatenate

The second is what the shared key needs: it is one head, broadcast over the query heads after
rotation.

>>> import numpy as np
>>> from rope_ref.rope import Rope
>>> from rope_ref.rotation import rotate
>>> q, p = np.arange(18.0).reshape(1, 3, 6), np.arange(3)  # one head, three tokens, content 2 and rotary 4
>>> part = rotate(q[..., 2:], p, Rope(head_dim=4, pairing="interleaved"))
>>> bool((rotate(q, p, decoupled(2, 4)) == np.concatenate([q[..., :2], part], -1)).all())
True
"""

from typing import Any

from rope_ref.rope import Rope, variant


@variant
def decoupled(qk_nope_head_dim: int, qk_rope_head_dim: int, pairing: str = "interleaved", **fields: Any) -> Rope:
    """The Rope of a whole head: frequencies of qk_rope_head_dim, on the last channels.

    DeepSeek's checkpoints interleave; Hugging Face permutes the channels as it runs.
    """
    return Rope(
        qk_nope_head_dim + qk_rope_head_dim,
        rotary_dim=qk_rope_head_dim,
        start=qk_nope_head_dim,
        pairing=pairing,
        **fields,
    )
