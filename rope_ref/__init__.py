"""Rotary position embedding as an executable specification, in float64 NumPy.

Read in this order:

1. ``rope``         what a rotary embedding is: the frozen value `Rope`
2. ``pairing``      which channels turn together
3. ``frequencies``  how fast each pair turns
4. ``magnitude``    xPos, the scale that depends on position
5. ``rotation``     angles, tables, rotate, unrotate
6. ``variants``     every named variant as a composition of the above
"""

from rope_ref import variants
from rope_ref.magnitude import XPos
from rope_ref.rope import Rope
from rope_ref.rotation import angles, rotate, tables, unrotate
from rope_ref.variants import CATALOGUE

__all__ = ["CATALOGUE", "Rope", "XPos", "angles", "rotate", "tables", "unrotate", "variants"]
