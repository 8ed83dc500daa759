"""`patch(model)` makes a transformers model rotate through this package; `unpatch(model)` gives the original back."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from torch import nn

from torch_bridge import patched
from torch_bridge.doors import attention_of
from torch_bridge.exact import Exact
from torch_bridge.models import MODELS
from torch_bridge.patched import Patched
from torch_bridge.verify import verify, verify_norms

Given = list[tuple[Any, type[nn.Module], Exact | None]]
HOOK = "rope_ref_cache_hook"  # what makes the caches grow that a model is given
Attends = list[tuple[Any, str | None]]  # models, and the names of how they attend


class Changed(AbstractContextManager[nn.Module]):
    """A model some of whose modules have other classes than before, and which may attend in another way.

    As a context it gives them back at its end.
    """

    def __init__(self, model: nn.Module, new: Given, attends: Attends) -> None:
        self.model = model
        self._before: Given = [(module, type(module), getattr(module, "exact", None)) for module, _, _ in new]
        self._attended: Attends = [(owner, attention_of(owner.config)) for owner, _ in attends]
        give(new)
        attend(attends)

    def __enter__(self) -> nn.Module:
        return self.model

    def __exit__(self, *exception: object) -> None:
        give(self._before)
        attend(self._attended)


def attend(attends: Attends) -> None:
    """Let models attend by the names of an implementation, and their caches grow in place where it is ours."""
    for owner, name in attends:
        if name is None or name == attention_of(owner.config):
            continue
        from torch_bridge.cache import ready
        from torch_bridge.decoding import NAMES

        owner.set_attn_implementation(name)
        if hasattr(owner, HOOK):
            getattr(owner, HOOK).remove()
            delattr(owner, HOOK)
        if name in NAMES.values():
            setattr(owner, HOOK, owner.register_forward_pre_hook(ready, with_kwargs=True))


def give(new: Given) -> None:
    """Give modules their classes, and rotary modules what they rotate by."""
    for module, kind, exact in new:
        module.__class__ = kind
        module.__dict__.pop("exact", None)
        if exact is not None:
            module.exact = exact


class Found(NamedTuple):
    """A language model, its rotary module, its attention, and whose config they follow."""

    owner: Any
    config: Any
    rotary: Any
    attention: list[Any]


def patch(model: nn.Module, attention: bool = True) -> Changed:
    """Make every language model within `model` rotate by exact tables and fast kernels.

    Queries and keys are turned by `torch_bridge.rotate`, with tables from float64 angles that depend on nothing
    but the config: no cast of the model reaches them, while the model's own are made of float32
    angles and rounded to its dtype (see `exact`). Weights, caches and other models stay as they are,
    and so do vision towers. A model that is patched stays patched as it is. Where queries and keys are normalised
    right before, and neither gradients nor hooks ask for the result, both are done in one pass and rounded once.

    attention   let up to 16 new tokens on the CPU attend to what is kept by `torch_bridge.attend`, and caches grow in
                place (see `RotaryCache`); all else, and models that attend neither by sdpa nor eagerly, as before

    Before anything changes, the model's own rotation is compared with the specification of its config, and
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
    for owner, config, rotary, modules in found:
        if isinstance(rotary, Patched):
            continue
        exact = Exact(config, isinstance(getattr(rotary, "rope_type", None), dict), lengths(rotary))
        verify(rotary, exact, config.model_type, next(modules[0].parameters()).dtype)
        verify_norms(modules, config.model_type)
        new.append((rotary, patched.rotary(type(rotary), config.model_type), exact))
        for module in modules:
            kind = patched.attention(type(module), config.model_type)
            assert kind is not None  # or `search` would not have found it
            new.append((module, kind, None))
        if attention:
            attends.append((owner, faster(owner)))
    return Changed(model, new, attends)


def unpatch(model: nn.Module) -> Changed:
    """Give every patched module of `model` its own class back, and with it bit-identical results."""
    new: Given = [(m, patched.own(m), None) for m in model.modules() if isinstance(m, Patched)]
    return Changed(model, new, [(m, slower(m)) for m in model.modules() if hasattr(m, HOOK)])


def faster(owner: Any) -> str | None:
    """The name of our attention in place of a model's own, None where there is none."""
    from torch_bridge.decoding import NAMES

    return NAMES.get(attention_of(owner.config) or "")


def slower(owner: Any) -> str | None:
    """The name of a model's own attention in place of ours."""
    from torch_bridge.decoding import NAMES

    return {ours: own for own, ours in NAMES.items()}.get(attention_of(owner.config) or "")


def search(model: nn.Module) -> Iterator[Found]:
    """Every language model of a known type: the module that owns a rotary module, and the attention within it."""
    for owner in model.modules():
        config: Any = getattr(owner, "config", None)
        if getattr(config, "model_type", None) not in MODELS:
            continue
        for rotary in owner.children():
            if not type(rotary).__name__.endswith("RotaryEmbedding"):
                continue
            attention = [m for m in owner.modules() if rotates(m, rotary, config.model_type)]
            check(owner, rotary, attention, config.model_type)
            yield Found(owner, config, rotary, attention)


def rotates(module: nn.Module, rotary: nn.Module, model_type: str) -> bool:
    """Whether this is attention, of the same file as the rotary module, that calls what rotates."""
    kind = patched.own(module)
    return kind.__module__ == patched.own(rotary).__module__ and patched.attention(kind, model_type) is not None


def check(owner: nn.Module, rotary: nn.Module, attention: list[nn.Module], model_type: str) -> None:
    """Raise ValueError where a change of class would have no effect, or half of one."""
    if not attention:
        calls = " or ".join(MODELS[model_type])
        raise ValueError(f"{type(owner).__name__} has a {type(rotary).__name__}, but no module that calls {calls}")
    for module in (rotary, *attention):
        if "forward" in vars(module):
            raise ValueError(f"a {type(module).__name__} has a forward of its own; expected none when it is patched")
        if isinstance(module, Patched) != isinstance(rotary, Patched):
            names = f"{type(rotary).__name__} beside {type(module).__name__}"
            raise ValueError(f"{type(owner).__name__} is half patched, {names}; expected all or none: unpatch it first")


def lengths(rotary: nn.Module) -> dict[str | None, int]:
    """How far dynamic NTK has grown, for each layer type."""
    ending = "max_seq_len_cached"
    return {name.removesuffix(ending).rstrip("_") or None: int(value) for name, value in vars(rotary).items()
            if name.endswith(ending)}  # fmt: skip


def unknown(model: nn.Module) -> str:
    """What was looked for, and what is there instead."""
    rotary = sorted({type(m).__name__ for m in model.modules() if "rotary" in type(m).__name__.lower()})
    there = f"model_type {getattr(getattr(model, 'config', None), 'model_type', None)!r}"
    return (
        f"model is a {type(model).__name__} ({there}; rotary modules: {', '.join(rotary) or 'none'}); "
        f"expected one that holds a ...RotaryEmbedding beside a config whose model_type is one of {', '.join(MODELS)}"
    )

