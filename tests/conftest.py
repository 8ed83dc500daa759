"""How properties are run."""

import os

from hypothesis import settings

# How long an example takes is no property of the code. Unattended runs draw the same examples each
# time, so that a failure belongs to a change; at a desk they are drawn anew.
settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("ours")
