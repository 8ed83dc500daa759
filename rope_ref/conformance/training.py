"""To be."""

from rope_ref.conformance.properties import Property

TRAINING: tuple[Property, ...] = ()
