"""Gradients, and what becomes of a torch module: casts, autocast, building on meta, copies, compilation."""

import copy
import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe, sequence
from rope_ref.conformance.adapters.subject import Answer, Deviation, Subject, differs
from rope_ref.conformance.properties.model import Mutation, computed
from rope_ref.conformance.properties.property import Case, Property, Trial, apart, drawn, failed, needs, observed

BACK = Mutation("", "", {"tables": lambda t, c: (t[0], -t[1])})


def gradient(subject: Subject, adapter: str, case: Case) -> Trial:
    """d(sum upstream y)/dx = m R^T upstream, for an upstream that is not constant; twice on one object."""
    probe, one = case[0], subject.implementation
    rope = subject.rope_for(probe)
    upstream = replace(probe, seed=int(probe.seed) + 1, memory="contiguous")  # type: ignore[arg-type]
    u = upstream.x(rope.head_dim, rope.axes)
    for turn in ("", "the second time "):
        x = subject.laid(probe.x(rope.head_dim, rope.axes), probe.dtype, probe.memory)
        try:
            if one.grad is not None:
                raw = subject.call(one.grad, x, subject.positions(probe), subject.laid(u, probe.dtype))
            else:
                raw = subject.call(by_autograd, one.apply, x, subject.positions(probe), subject.laid(u, probe.dtype))
            if raw is None:
                text = "no gradient comes back"
                return Trial(Deviation(text), (), "GRAD", text)
            y = subject.read(raw, u.shape)
        except Failed as error:
            return Trial(Deviation(str(error)), (), "GRAD", f"the backward pass {turn}{error}")
        expected, bound = computed(upstream, rope, subject.exactness(probe.dtype), (BACK, *subject.wrongs(probe)), u)
        deviation = differs(y, expected, bound if subject.mutations else bound / 2)
        if deviation is not None:
            return Trial(deviation, (), "GRAD", f"{turn}the gradient is not the transposed rotation of what comes in")
    return Trial(None)


def by_autograd(apply: Any, x: Any, positions: Any, upstream: Any) -> Any:
    x = x.detach().requires_grad_()
    y = apply(x, positions)
    if not y.requires_grad:
        raise RuntimeError("the result does not require a gradient though x does")
    y.backward(upstream)
    return x.grad


def differentiable(subject: Subject, facts: Facts) -> str:
    one = subject.implementation
    if one.grad is not None:
        return ""
    if subject.kind != "torch" or one.apply is None or subject.layered:
        return "no `grad`"
    probe = subject.through("apply", sequence(0, 3, subject.rope.axes, heads=facts.heads[-1]))
    x = subject.laid(probe.x(subject.rope.head_dim, subject.rope.axes), facts.dtypes[0])
    try:
        y = subject.call(one.apply, x.requires_grad_(), subject.positions(probe))
        return "" if y.requires_grad else "no gradients"
    except (Failed, AttributeError, RuntimeError):
        return "no gradients"


def steps_back(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    wide = tuple(d for d in facts.dtypes if d in ("float32", "float64")) or facts.dtypes[:1]
    memory = ("contiguous", "sliced", "transposed") if facts.strided else ("contiguous",)
    options: dict[str, Any] = {"starts": apart, "batches": facts.batches, "dtype": wide, "memory": memory}
    shared = drawn(**options)(subject, facts)
    return shared | drawn(kind="rows", **options)(subject, facts) if facts.rows else shared


# ---- modules: each makes a module some way, and judges what it computes ----


def calling(subject: Subject) -> Callable[[Any, Any, Any], Any]:
    """How a module is asked to rotate."""
    return subject.implementation.call or (lambda module, x, positions: module(x, positions))


def through(make: Callable[[Subject, Probe], Any]) -> Callable[[Subject, str, Case], Trial]:
    def trial(subject: Subject, adapter: str, case: Case) -> Trial:
        probe, call = case[0], calling(subject)
        try:
            module = subject.call(make, subject, probe)
        except Failed as error:
            return failed(error)
        answer = subject.answer(lambda p, x: subject._apply(lambda *a: call(module, *a), p, x), probe)
        deviation = subject.deviates(answer, probe)
        return Trial(deviation, observed(subject, probe, answer, deviation))

    return trial


def cast(subject: Subject, probe: Probe) -> Any:
    """To the dtype before its first call."""
    torch = importlib.import_module("torch")
    return subject.implementation.module().to(getattr(torch, probe.dtype))  # type: ignore[misc]


def cast_later(subject: Subject, probe: Probe) -> Any:
    """To the dtype after a first call in float32."""
    module, call = subject.implementation.module(), calling(subject)  # type: ignore[misc]
    single = replace(probe, dtype="float32")
    call(module, subject.laid(single.x(subject.rope.head_dim, subject.rope.axes), "float32"), subject.positions(probe))
    torch = importlib.import_module("torch")
    return module.to(getattr(torch, probe.dtype))


def materialised(subject: Subject, probe: Probe) -> Any:
    """Built without memory, given memory full of junk, loaded from the state of another."""
    torch = importlib.import_module("torch")
    make = subject.implementation.module
    state = make().state_dict()  # type: ignore[misc]
    with torch.device("meta"):
        module = make()  # type: ignore[misc]
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*module.buffers(), *module.parameters()):
            if tensor.is_floating_point():
                tensor.fill_(0.123)
    module.load_state_dict(state)
    return module


def copied(subject: Subject, probe: Probe) -> Any:
    module = subject.implementation.module()  # type: ignore[misc]
    other = copy.deepcopy(module)
    del module
    return other


def halves(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    dtypes = tuple(d for d in facts.dtypes if d in ("bfloat16", "float16"))
    return drawn(starts=lambda f: (0, 5000), dtype=dtypes or facts.dtypes)(subject, facts)


def has_half_module(subject: Subject, facts: Facts) -> str:
    if subject.implementation.module is None:
        return "no `module`"
    return "" if {"bfloat16", "float16"} & set(facts.dtypes) else "no half dtypes"


def autocast(subject: Subject, adapter: str, case: Case) -> Trial:
    """The same answer under autocast."""
    torch, probe = importlib.import_module("torch"), case[0]
    inner = subject.implementation.apply

    def under(*args: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return inner(*args)  # type: ignore[misc]

    answer: Answer = subject.answer(lambda p, x: subject._apply(under, p, x), probe)
    if answer.y is None:  # refused, as some combinations of dtypes are by torch itself
        return Trial(None)
    deviation = subject.deviates(answer, probe)
    if deviation is None and answer.dtype != probe.dtype:
        plain = subject.ask("apply", probe)
        if plain.dtype == probe.dtype:
            text = f"under autocast, {probe.dtype} comes back as {answer.dtype}"
            return Trial(Deviation(text), (), "TABDT", text)
    if deviation is None:
        return Trial(None)
    return Trial(deviation, observed(subject, probe, answer, deviation), "ANGDT", "angles lose digits under autocast")


def on_torch(subject: Subject, facts: Facts) -> str:
    return "" if subject.kind == "torch" and subject.implementation.apply is not None else "not a torch function"


TRAINING = (
    Property("gradients", "the gradient of a rotation is its transpose, also of channels that pass through", "GRAD",
             steps_back, gradient, skip=differentiable),
    Property("autocast", "autocast is for matrix products, not for angles", "ANGDT",
             drawn(starts=lambda f: (0, min(70_000, f.reach - 1)), dtype=lambda f: tuple(
                 d for d in f.dtypes if d in ("float32", "bfloat16")) or f.dtypes), autocast, skip=on_torch),
    Property("module cast", "casting a model to half precision leaves its frequencies alone", "INVDT", halves,
             through(cast), names=("INVDT",), skip=has_half_module),
    Property("module cast later", "casting a model that has been used leaves its tables right", "INVDT", halves,
             through(cast_later), names=("INVDT",), skip=has_half_module),
    Property("module on meta", "a model built without memory and loaded computes its frequencies", "LIFE",
             drawn(starts=apart), through(materialised), names=(), skip=needs("module")),
    Property("module copy", "a copy of a model computes the same", "LIFE", drawn(starts=apart), through(copied),
             names=(), skip=needs("module")),
)  # fmt: skip
