"""How properties are run."""

import os

from hypothesis import settings

# How long an example takes is no property of the code. Everywhere the same examples are drawn, so that a failure
# belongs to a change; `make fuzz` draws anew, each round by a seed of its own.
settings.register_profile("ours", deadline=None, derandomize=True)
settings.register_profile("anew", deadline=None, database=None, print_blob=True)
settings.load_profile(os.environ.get("ROPE_REF_EXAMPLES", "ours"))
