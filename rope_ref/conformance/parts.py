"""To be."""

from rope_ref.conformance.properties import Property

PARTS: tuple[Property, ...] = ()
