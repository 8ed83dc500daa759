"""Normalisation that waits for the rotation behind it, so that both are one pass over memory.

Attention of some models hands queries and keys from its modules `q_norm` and `k_norm` to the rotation.
Patched attention gets a stand-in from there, where nothing can tell the difference. Our rotation takes
two of them at once; whatever else is done to one is done to what the module itself makes of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_bridge.doors import hooked
from torch_bridge.kernel import takes_kernel
from torch_bridge.rotation import rotate_qk, rotate_qk_norm

NAMES = ("q_norm", "k_norm")
FEW = 1 << 14  # numbers: with fewer, as when a token is decoded, two calls cost less than a stand-in and one


class Norm(NamedTuple):
    """A class of a model's file that divides rows by their root mean square in float32, and weighs them."""

    kind: str
    weight: Callable[[Any], Tensor]
    epsilon: Callable[[Any], float]

    def is_of(self, norm: Any, file: str) -> bool:
        """Whether a module is of this very class, not of one that took its place, and has no forward of its own."""
        kind = type(norm)
        return kind.__name__ == self.kind and kind.__module__ == file and "forward" not in norm.__dict__


class Deferred:
    """What `norm` will make of x (..., head_dim)."""

    def __init__(self, x: Tensor, norm: Any, how: Norm) -> None:
        self.x, self.norm, self.how = x, norm, how

    def now(self) -> Tensor:
        made: Tensor = self.norm(self.x)
        return made

    def transpose(self, a: int, b: int) -> Any:
        last = self.x.ndim - 1
        if last in (a % (last + 1), b % (last + 1)):
            return self.now().transpose(a, b)
        return Deferred(self.x.transpose(a, b), self.norm, self.how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now(), name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, given: Any = (), words: Any = None) -> Any:
        given, words = torch.utils._pytree.tree_map_only(Deferred, Deferred.now, (given, words or {}))
        return function(*given, **words)


def _done_now(name: str) -> Any:
    return lambda self, *given: getattr(self.now(), name)(*given)


for each in {name for name in dir(Tensor) if name.startswith("__") and callable(getattr(Tensor, name))} - set(
    dir(Deferred)
):
    setattr(Deferred, each, _done_now(each))  # Python looks for operators in the class alone


def deferring(name: str, how: Norm, file: str) -> Callable[[Any, Tensor], Any]:
    """The method that patched attention calls in place of its module of this name."""

    def method(self: nn.Module, x: Tensor) -> Any:
        norm = getattr(self, name)
        return Deferred(x, norm, how) if how.is_of(norm, file) and unseen(norm, x) else norm(x)

    return method


def unseen(norm: Any, x: Tensor) -> bool:
    """Whether it pays, and nobody can tell when the module runs: no hook, no gradient, no training.

    Its numbers are those of float32, rounded to the dtype that x and its weight share. The compiler sees an operator.
    """
    return (
        (torch.compiler.is_compiling() or (x.numel() >= FEW and takes_kernel(x) and takes_kernel(norm.weight)))
        and x.device.type == norm.weight.device.type == "cpu"
        and x.dtype == norm.weight.dtype != torch.float64
        and not norm.training
        and not (torch.is_grad_enabled() and (x.requires_grad or norm.weight.requires_grad))
        and not (norm._forward_hooks or norm._forward_pre_hooks or norm._backward_hooks or norm._backward_pre_hooks)
        and not hooked()
    )


def rotate_both(q: Any, k: Any, cos: Tensor, sin: Tensor, pairing: str) -> tuple[Tensor, Tensor]:
    """`rotate_qk`, of what was deferred too."""
    if isinstance(q, Deferred) and isinstance(k, Deferred) and q.how.epsilon(q.norm) == k.how.epsilon(k.norm):
        first, second = (each.how.weight(each.norm) for each in (q, k))
        return rotate_qk_norm(q.x, k.x, first, second, cos, sin, epsilon=q.how.epsilon(q.norm), pairing=pairing)
    q, k = (each.now() if isinstance(each, Deferred) else each for each in (q, k))
    return rotate_qk(q, k, cos, sin, pairing=pairing)
