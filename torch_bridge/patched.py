"""The subclasses that a patched model's modules are instances of: the model's own, but for its rotation.

A module is patched by giving it another class and unpatched by giving it its own back, so a patch belongs to
one instance, and its weights, buffers, hooks and name stay what they are.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import CellType, FunctionType
from typing import Any

from torch import Tensor, nn

from torch_bridge.deferred import NAMES, deferring
from torch_bridge.exact import Exact
from torch_bridge.models import MODELS, NORMS

PREFIX = "torch_bridge_"
once: Any = functools.cache  # mypy takes the __hash__ of a module for that of its class


class Patched:
    """A mark, and how to copy and pickle an instance of a class that no module can be asked for."""

    original: type[nn.Module]
    model_type: str

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return born, (self.original, self.model_type), object.__getstate__(self)


class PatchedRotary(Patched):
    """Makes exact tables (batch, seq, pairs) where the original makes tables of its own type, each angle twice."""

    exact: Exact
    sin_first: bool

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> tuple[Tensor, Tensor]:
        cos, sin = self.exact(position_ids, x.dtype, layer_type)
        return (sin, cos) if self.sin_first else (cos, sin)


@once
def rotary(original: type[nn.Module], model_type: str) -> type[nn.Module]:
    """The class of a patched rotary module."""
    sin_first = any(call.alone for call in MODELS[model_type].values())
    return subclass(PatchedRotary, original, model_type, {"sin_first": sin_first})


@once
def attention(original: type[nn.Module], model_type: str) -> type[nn.Module] | None:
    """The class of patched attention, or None where `forward` calls nothing that rotates.

    Its forward is the original's with other names for the functions that rotate; the new names stand beside the
    old ones in the original's file, where nobody else looks for them. So all else that forward looks
    up is found as before, by Python and by the compiler. The modules `q_norm` and `k_norm` are asked for by
    new names too, of methods that may defer their work to the rotation (see ``deferred``).
    """
    names = {name: PREFIX + name for name in MODELS[model_type]}
    forward = renamed(original.forward, names)
    if forward is original.forward:
        return None
    file = original.__module__
    for name, call in MODELS[model_type].items():
        setattr(sys.modules[file], PREFIX + name, call.ours)
    methods = {PREFIX + name: deferring(name, NORMS[model_type], file) for name in NAMES if model_type in NORMS}
    forward = renamed(forward, {name.removeprefix(PREFIX): name for name in methods})
    return subclass(Patched, original, model_type, {"forward": forward, **methods})


def subclass(first: type, original: type[nn.Module], model_type: str, rest: Mapping[str, Any]) -> type[nn.Module]:
    body = {"original": original, "model_type": model_type, "__module__": __name__, **rest}
    made: type[nn.Module] = type(f"Patched{original.__name__}", (first, original), body)
    return made


def own(module: nn.Module) -> type[nn.Module]:
    """The class that a module has when it is not patched."""
    return module.original if isinstance(module, Patched) else type(module)


def born(original: type[nn.Module], model_type: str) -> nn.Module:
    """An empty patched module, to be filled by whoever copies or reads one."""
    kind: type[nn.Module] = attention(original, model_type) or rotary(original, model_type)
    return kind.__new__(kind)


def renamed(function: Callable[..., Any], names: Mapping[str, str]) -> Callable[..., Any]:
    """The function with other names for globals that it, or what it wraps, looks up; itself if it has none of them."""
    if not isinstance(function, FunctionType):
        return function
    code = function.__code__
    if names.keys() & set(code.co_names):
        code = code.replace(co_names=tuple(names.get(name, name) for name in code.co_names))
    inner = inspect.unwrap(function, stop=lambda f: f is not function)
    cells = function.__closure__ or ()
    wrapped = renamed(inner, names) if inner is not function else inner
    if wrapped is not inner:
        cells = tuple(CellType(wrapped) if filled(cell) is inner else cell for cell in cells)
    if code is function.__code__ and wrapped is inner:
        return function
    made = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__, made.__qualname__ = function.__kwdefaults__, function.__qualname__
    made.__dict__.update(function.__dict__)
    if wrapped is not inner:
        made.__dict__["__wrapped__"] = wrapped
    return made


def filled(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing was assigned yet
        return None
