"""The class of a patched model's rotary module: the model's own, whose tables carry exact ones with them.

A module is patched by giving it another class and unpatched by giving it its own back, so a patch belongs to
one instance, and its weights, buffers, hooks and name stay what they are. Nothing else of a model is changed: whoever
is handed the tables and does not look for exact ones, a layer of one's own perhaps, gets those of the original.
"""

import functools
import sys
from typing import Any

import torch
from torch import Tensor, nn

from torch_bridge.exact import Exact
from torch_bridge.models import EXACT, Call, calls
from torch_bridge.verify import apart, verify

once: Any = functools.cache  # mypy takes the __hash__ of a module for that of its class
INSTALLED = "rope_ref_original"  # the attribute of a function that holds what it has taken the place of


class Patched:
    """Makes tables as the original does, and exact ones that go with them.

    exact   where they come from, None in a module that was made of this class rather than patched
    """

    original: type[nn.Module]
    exact: Exact | None = None

    def forward(self, x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, ...] | Tensor:
        """The original's tables, in new tensors: it might hand out the same ones when it is patched no more."""
        rope, theirs = self.exact, super().forward(x, position_ids, *args, **kwargs)  # type: ignore[misc]
        one = isinstance(theirs, Tensor)  # cos + i sin
        tables: tuple[Tensor, ...] = tuple(table.view_as(table) for table in ((theirs,) if one else theirs))
        if rope is None:
            return tables[0] if one else tables
        if rope.unchecked is not None and not position_ids.is_meta:
            check(self, rope, rope.unchecked)  # type: ignore[arg-type]
            rope.unchecked = None
        exact = rope(position_ids, x.dtype, args[0] if args else kwargs.get("layer_type"))
        for table in tables:
            setattr(table, EXACT, exact)
        return tables[0] if one else tables

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """How to copy and pickle an instance of a class that no module can be asked for."""
        return born, (self.original, self.exact), object.__getstate__(self)


@once
def rotary(original: type[nn.Module]) -> type[nn.Module]:
    """The class of a patched rotary module."""
    body = {"original": original, "__module__": __name__}
    made: type[nn.Module] = type(f"Patched{original.__name__}", (Patched, original), body)
    return made


def own(module: nn.Module) -> type[nn.Module]:
    """The class that a module has when it is not patched."""
    return module.original if isinstance(module, Patched) else type(module)


def born(original: type[nn.Module], exact: Exact | None) -> nn.Module:
    """An empty patched module, to be filled by whoever copies or reads one."""
    if exact is not None:
        install(original, exact)
    kind: type[nn.Module] = rotary(original)
    return kind.__new__(kind)


def functions(original: type[nn.Module], exact: Exact) -> dict[str, tuple[Any, Call]]:
    """What attention calls, of the file of a rotary module: as it was, and what takes its place."""
    file = sys.modules[original.__module__]
    found = calls(exact.pairing, file)
    return {name: (getattr(getattr(file, name), INSTALLED, getattr(file, name)), call) for name, call in found.items()}


def install(original: type[nn.Module], exact: Exact) -> None:
    """Let the functions of a model's file look for exact tables; without any they do what they did."""
    file = sys.modules[original.__module__]
    for name, (before, call) in functions(original, exact).items():
        if getattr(file, name) is before:
            after = call.instead_of(before)
            setattr(after, INSTALLED, before)
            setattr(file, name, after)


def check(module: nn.Module, exact: Exact, dtype: torch.dtype) -> None:
    """Raise ValueError unless a rotary module, and ours in its place, turn as their config says."""
    theirs = apart(module)
    theirs.__class__ = own(module)
    verify(theirs, exact, dtype, functions(own(module), exact))
