"""A catalogue of wrong rotary embeddings: each a small change to the specification, with the class it belongs to.

1. ``frequencies``  another pairing, width, base, variant or parameter
2. ``placing``      another position than the one that was given
3. ``sizes``        another magnitude
4. ``precision``    positions, frequencies, angles or tables in too few bits
5. ``turning``      another formula
6. ``written``      a result that is not all written
"""

from collections.abc import Iterator

from rope_ref.conformance.diagnosis.mutations import frequencies, placing, precision, sizes, turning, written
from rope_ref.conformance.diagnosis.reading import Reading
from rope_ref.conformance.properties.model import Mutation
from rope_ref.rope import Rope

__all__ = ["catalogue", "from_reading"]


def catalogue(rope: Rope) -> Iterator[Mutation]:
    """All that could be wrong with an implementation of this Rope, the plainest first."""
    yield from frequencies.other_factors(rope)
    yield from turning.mutations(rope)
    yield from written.mutations(rope)
    yield from frequencies.mutations(rope)
    yield from placing.mutations(rope)
    yield from sizes.mutations(rope)
    yield from precision.mutations(rope)


def from_reading(rope: Rope, reading: Reading) -> Iterator[Mutation]:
    """What was read off an implementation, as wrongs."""
    yield from frequencies.read(rope, reading)
    yield from sizes.read(rope, reading)
