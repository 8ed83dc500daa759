"""Rotary position embedding as an executable specification, in float64 NumPy.

Read in this order:

1. ``rope``         what a rotary embedding is: the frozen value `Rope`
2. ``pairing``      which channels turn together
3. ``frequencies``  how fast each pair turns
4. ``magnitude``    how much a rotation also scales: YaRN, LongRoPE, xPos
5. ``rotation``     angles, tables, rotate, unrotate
6. ``variants``     every named variant as a composition of the above
7. ``families``     what is special about each model family
8. ``parameters``   the Rope that the rope parameters of a config describe
9. ``configs``      the Rope of a model, read from its config
"""

from rope_ref import variants
from rope_ref.configs import from_config
from rope_ref.magnitude import XPos
from rope_ref.rope import Rope
from rope_ref.rotation import angles, rotate, tables, unrotate
from rope_ref.variants import CATALOGUE

__all__ = ["CATALOGUE", "Rope", "XPos", "angles", "from_config", "rotate", "tables", "unrotate", "variants"]
