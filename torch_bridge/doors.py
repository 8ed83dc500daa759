"""Names of torch that it does not document, each with why it is needed and what happens where it is missing.

Without any of these, `watched` is always true: then every rotation takes the operators, or torch's own
operations, as under a transform. That is slower, and as right. Where a config of transformers does not tell
how its model attends, `attention_of` is None, and attention stays as it is.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad


def watched() -> bool:
    """Whether a dispatch mode, a transform of functions or forward-mode differentiation has to see every operation."""
    return bool(modes()) or transformed()


def transformed() -> bool:
    """Whether a transform of functions or forward-mode differentiation is at work."""
    return bool(transforms()) or getattr(forward_ad, "_current_level", 0) >= 0


def attention_of(config: Any) -> str | None:
    """The name of how a model attends: `set_attn_implementation` sets it, nothing public tells it."""
    name: str | None = getattr(config, "_attn_implementation", None)
    return name


def private(name: str) -> Callable[[], Any]:
    """A function of torch._C without arguments, or one that says yes."""
    return getattr(torch._C, name, lambda: True)


modes = private("_len_torch_dispatch_stack")  # tracers and counters are modes, which tensors do not show
transforms = private("_are_functorch_transforms_active")  # what they wrap has the type of a plain tensor
