"""Rotary position embedding as an executable specification, in float64 NumPy.

Read in this order:

1. ``rope``         what a rotary embedding is: the frozen value `Rope`
2. ``pairing``      which channels turn together
3. ``frequencies``  how fast each pair turns
4. ``magnitude``    how much a rotation also scales: YaRN, LongRoPE, xPos
5. ``rotation``     angles, tables, rotate, unrotate
6. ``variants``     every named variant as a composition of the above
7. ``positions``    where tokens stand: sequences, packing, padding, grids, rolling caches
8. ``multimodal``   (t, h, w) ids of text and vision in one sequence
9. ``shards``       which tokens a rank holds when a sequence is split
10. ``cache``       moving keys that are already rotated
11. ``long_context``  grouped, clipped and chunked distances
12. ``vision``, ``video``  image and video transformers, each scheme by its name
13. ``decoupled``   the rotary part of multi-head latent attention; ``catalogue``, every variant by its name
14. ``attention``   what rotated queries do with rotated keys
15. ``beyond``      FoPE, PoPE and other bases: what ends in the same rotation
16. ``family``, ``families``  what is special about each model family; ``special``, those with words of their own
17. ``parameters``  the Rope that the rope parameters of a config describe; ``kinds``, which layers there are
18. ``configs``     the Rope of a model, read from its config; ``overrides``, what is laid over it where it is served;
                   ``towers``, of the part that reads images; ``formats``, from what else a model is written in
19. ``exactness``   how far a correct implementation may be from all this
20. ``explain``     a model's rotary embedding in words; ``spectrum``, in wavelengths; ``compare``, whether two
                   descriptions turn alike; ``show``, ``plot``, ``cli``: the command rope-ref
"""

from rope_ref import attention, beyond, cache, long_context, multimodal, positions, shards, variants, video, vision
from rope_ref.catalogue import CATALOGUE
from rope_ref.compare import compare
from rope_ref.configs import from_config
from rope_ref.decoupled import decoupled
from rope_ref.magnitude import XPos
from rope_ref.rope import Rope
from rope_ref.rotation import angles, rotate, tables, unrotate

__all__ = [
    "CATALOGUE",
    "Rope",
    "XPos",
    "angles",
    "attention",
    "beyond",
    "cache",
    "compare",
    "decoupled",
    "from_config",
    "long_context",
    "multimodal",
    "positions",
    "rotate",
    "shards",
    "tables",
    "unrotate",
    "variants",
    "video",
    "vision",
]
