"""To be."""

from rope_ref.conformance.properties import Property

ATTENTION: tuple[Property, ...] = ()
