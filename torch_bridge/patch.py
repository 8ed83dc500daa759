"""`patch(model)` makes a transformers model rotate through this package; `unpatch(model)` gives the original back."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from torch import nn

from rope_ref.families import FAMILIES
from torch_bridge import patched
from torch_bridge.doors import attention_of
from torch_bridge.exact import Exact
from torch_bridge.models import EXPECTED, version
from torch_bridge.patched import Patched

Given = list[tuple[Any, type[nn.Module], Exact | None]]  # modules, their classes, and what they rotate by
HOOK = "rope_ref_cache_hook"  # what makes the caches grow that a model is given, and the rotary module that it asks
NOTHING = (None, None)
# a model, the name of its attention, and its rotary module, by which its caches go, where they grow in place
Attends = list[tuple[Any, str | None, Any]]


class Changed(AbstractContextManager[nn.Module]):
    """A model some of whose modules have other classes than before, and which may attend in another way.

    As a context it gives them back at its end.
    """

    def __init__(self, model: nn.Module, new: Given, attends: Attends) -> None:
        self.model = model
        self._before: Given = [(module, type(module), vars(module).get("exact")) for module, _, _ in new]
        self._attended: Attends = [(o, attention_of(o.config), getattr(o, HOOK, NOTHING)[1]) for o, *_ in attends]
        give(new)
        attend(attends)

    def __enter__(self) -> nn.Module:
        return self.model

    def __exit__(self, *exception: object) -> None:
        give(self._before)
        attend(self._attended)


def attend(attends: Attends) -> None:
    """Let models attend by the name of an implementation, if any, and their caches grow in place or not.

    What a cache has to know of the rotation, it asks the rotary module that is given.
    """
    for owner, name, rotary in attends:
        if name is not None and name != attention_of(owner.config):
            owner.set_attn_implementation(name)
        if (rotary is not None) == hasattr(owner, HOOK):
            continue
        if rotary is not None:
            from torch_bridge.cache import ready

            hook = owner.register_forward_pre_hook(partial(ready, rotary), with_kwargs=True)
            setattr(owner, HOOK, (hook, rotary))
        else:
            getattr(owner, HOOK)[0].remove()
            delattr(owner, HOOK)


def give(new: Given) -> None:
    """Give rotary modules their classes and what they rotate by."""
    for module, kind, exact in new:
        module.__class__ = kind
        module.__dict__.pop("exact", None)
        if exact is not None:
            module.exact = exact


def patch(model: nn.Module, attention: bool = True) -> Changed:
    """Make every language model within `model` rotate by exact tables and fast kernels.

    Queries and keys are turned by `torch_bridge.rotate`, with tables from float64 angles that depend on nothing
    but the config: no cast of the model reaches them, while the model's own are made of float32
    angles and rounded to its dtype (see `exact`). Weights, caches and other models stay as they are,
    and so do vision towers. A model that is patched stays patched as it is. A model without memory, on the
    meta device, is verified when it first makes tables.

    attention   let up to 16 new tokens on the CPU attend to what is kept by `torch_bridge.attend`, and caches grow in
                place (see `RotaryCache`); all else, and attention that is neither sdpa nor eager, as before

    Before anything changes, a model's own rotation is compared with the specification of its config, and
    so is ours in its place. Raises ValueError where they differ, for a config that
    `rope_ref.from_config` does not understand, and for a model with nothing in it that is known.

        patch(model)                  # from now on
        with patch(model): ...        # for a while
    """
    found = list(search(model))
    if not found:
        raise ValueError(unknown(model))
    new: Given = []
    attends: Attends = []
    for owner, rotary in found:
        if isinstance(rotary, Patched) and rotary.exact:
            continue
        exact = Exact(owner.config, isinstance(getattr(rotary, "rope_type", None), dict), lengths(rotary))
        dtype = next(owner.parameters()).dtype
        if any(buffer.is_meta for buffer in rotary.buffers()):
            exact.unchecked = dtype
        else:
            patched.check(rotary, exact, dtype)
        original = patched.own(rotary)
        patched.install(original, exact)
        new.append((rotary, patched.rotary(original), exact))
        if attention:
            attends.append((owner, faster(owner), rotary))
    return Changed(model, new, attends)


def unpatch(model: nn.Module) -> Changed:
    """Give every patched module of `model` its own class back, and with it bit-identical results."""
    new: Given = [(m, patched.own(m), None) for m in model.modules() if isinstance(m, Patched)]
    return Changed(model, new, [(m, slower(m), None) for m in model.modules() if hasattr(m, HOOK)])


def faster(owner: Any) -> str | None:
    """The name of our attention in place of a model's own, None where there is none, or it is not looked up by name."""
    from torch_bridge.decoding import NAMES

    if not hasattr(sys.modules[type(owner).__module__], "ALL_ATTENTION_FUNCTIONS"):
        return None
    return NAMES.get(attention_of(owner.config) or "")


def slower(owner: Any) -> str | None:
    """The name of a model's own attention in place of ours."""
    from torch_bridge.decoding import NAMES

    return {ours: own for own, ours in NAMES.items()}.get(attention_of(owner.config) or "")


def search(model: nn.Module) -> Iterator[tuple[Any, Any]]:
    """Every language model of a known type, and the rotary module that it owns, beside functions that it calls."""
    for owner in model.modules():
        if getattr(getattr(owner, "config", None), "model_type", None) not in FAMILIES:
            continue
        for rotary in owner.children():
            name, file = type(rotary).__name__, sys.modules[patched.own(rotary).__module__]
            if not name.endswith("RotaryEmbedding") or "Vision" in name or not set(EXPECTED) & vars(file).keys():
                continue
            if "forward" in vars(rotary):
                raise ValueError(
                    f"a {name} has a forward of its own, as accelerate gives to what it offloads; "
                    "expected the model to be patched before that"
                )
            yield owner, rotary


def lengths(rotary: nn.Module) -> dict[str | None, int]:
    """How far dynamic NTK has grown, for each layer type."""
    ending = "max_seq_len_cached"
    return {name.removesuffix(ending).rstrip("_") or None: int(value) for name, value in vars(rotary).items()
            if name.endswith(ending)}  # fmt: skip


def unknown(model: nn.Module) -> str:
    """What was looked for, and what is there instead."""
    rotary = ", ".join(sorted({type(m).__name__ for m in model.modules() if "rotary" in type(m).__name__.lower()}))
    there = f"model_type {getattr(getattr(model, 'config', None), 'model_type', None)!r}"
    return (
        f"model is a {type(model).__name__} of {version()} ({there}; "
        f"rotary modules: {rotary or 'none'}); "
        f"expected one that holds a ...RotaryEmbedding, in a file with {' or '.join(EXPECTED)}, beside a config of a "
        f"model_type that rope_ref.from_config reads"
    )

