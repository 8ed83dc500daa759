"""What wrong answers have in common, where no wrong of the catalogue explains them."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from rope_ref.conformance.adapters.probes import Probe
from rope_ref.conformance.adapters.subject import Deviation, Subject
from rope_ref.conformance.diagnosis.candidates import Observation, candidates, unconditional_stretch
from rope_ref.conformance.diagnosis.diagnose import coarse, fits, left, sharp
from rope_ref.conformance.diagnosis.mutations import precision
from rope_ref.conformance.properties.model import Mutation, computed, fixed, lenient
from rope_ref.pairing import channels
from rope_ref.rope import Rope
from rope_ref.rotation import angles


def passing_through(seen: Sequence[Observation]) -> int | None:
    """The first channel that should pass through and does not, if all that is wrong are such channels."""
    found = None
    for o in seen:
        if o.right or not np.isfinite(o.y).all():
            continue
        rope = o.rope
        turning = np.concatenate(channels(rope.pairing, rope.pairs, rope.start))
        rest = np.setdiff1d(np.arange(rope.head_dim), turning)
        y, bound = computed(o.probe, rope, lenient(o.probe.dtype))
        wrong = np.flatnonzero((np.abs(o.y - y) > bound).any((0, 1, 2)))
        if not len(wrong) or not np.isin(wrong, rest).all():
            return None
        found = int(wrong[0]) if found is None else found
    return found


def by_angle(seen: Sequence[Observation]) -> float | None:
    """The angle beyond which answers are wrong, whatever the position; None where it is not the angle that tells."""
    sizes, faults = [], []
    for o in seen:
        if not o.rope.pairs:
            continue
        expected, bound = computed(o.probe, o.rope, lenient(o.probe.dtype))
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(o.y - expected) <= bound)
        first, second = channels(o.rope.pairing, o.rope.pairs, o.rope.start)
        phi = np.abs(angles(o.rope, o.probe.rows(o.rope.axes)))
        phi = np.broadcast_to(phi[:, None] if o.rope.heads is None else phi, wrong[..., first].shape)
        sizes.append(phi.ravel())
        faults.append((wrong[..., first] | wrong[..., second]).ravel())
    if not sizes:
        return None
    phi, fault = np.concatenate(sizes), np.concatenate(faults)
    if not fault.any():
        return None
    least = float(phi[fault].min())
    return least if least > 0.5 and fault[phi >= least].mean() > 0.4 and (phi < least).any() else None


def _is(name: str, value: str, probe: Probe) -> bool:
    return bool(getattr(probe, name) == value)


def where(seen: Sequence[Observation], trained: int | None = None) -> str:
    """What the wrong answers have in common that the right ones do not, in words.

    trained: the length at which the Rope changes, if it does
    """
    wrong = [o.probe for o in seen if not o.right]
    right = [o.probe for o in seen if o.right and o.probe.where.any()]  # at 0 nothing turns, whatever is wrong
    if not wrong or not right:
        return ""
    features: dict[str, Callable[[Probe], bool]] = {
        "batch > 1 and seq = 1": lambda p: p.batch > 1 and p.where.shape[-1] == 1,
        "batch > 1": lambda p: p.batch > 1,
        "seq = 1": lambda p: np.size(p.where) == 1,
        "seq > 1": lambda p: np.size(p.where) > 1,
        **{f"dtype {d}": partial(_is, "dtype", d) for d in ("bfloat16", "float16", "float32", "float64")},
        **{f"x {m}": partial(_is, "memory", m) for m in ("sliced", "transposed", "stepped", "expanded")},
        **{f"positions in {d}": partial(_is, "position_dtype", d) for d in ("int32", "float32", "float64")},
        "negative positions": lambda p: bool((p.where < 0).any()),
    }
    if trained is not None:
        features |= {
            f"positions below the trained length, {trained}": lambda p: bool(p.where.max(initial=0) < trained),
            f"positions from the trained length on, {trained}": lambda p: bool(p.where.max(initial=0) >= trained),
        }
    for text, has in features.items():
        if all(map(has, wrong)) and not any(map(has, right)):
            return f"only with {text}"
    far, near = min(np.abs(p.where).max(initial=0) for p in wrong), max(np.abs(p.where).max(initial=0) for p in right)
    if far > near:
        return f"right up to position {near:g}, wrong from position {far:g} on"
    return ""


def closest(seen: Sequence[Observation], more: Sequence[dict[str, Mutation]]) -> str:
    """The one wrong that comes nearest to all wrong answers, in words; "" where none takes away half of the error.

    more: for each answer, wrongs beside the catalogue
    """
    wrong = [(o, extra | candidates(o.rope)) for o, extra in zip(seen, more, strict=True) if not o.right]
    wrong = sorted(((o, known) for o, known in wrong if np.isfinite(o.y).all()), key=lambda one: one[0].y.size)
    shares = {text: 0.0 for text in wrong[0][1]} if wrong else {}
    for o, known in wrong[:4]:
        off = left(o, ())
        for text in list(shares):
            share = left(o, (known[text],)) / off if text in known and off else np.inf
            shares[text] = max(shares[text], share)
            if not share < 0.5:
                del shares[text]
    text = min(shares, key=shares.__getitem__, default="")
    return f"closest: {text}, which leaves {shares[text]:.0%} of the error" if text else ""


def of_other_layers(seen: Sequence[Observation], ropes: Sequence[Rope]) -> str | None:
    """In words, which layers turn by the Rope of another one; None where that does not explain every wrong answer."""
    taken: dict[int, int] = {}
    others = {k: Mutation("LAYER", "", {"rope": fixed(lambda r, c, k: ropes[k], k)}) for k in range(len(ropes))}
    for o in (o for o in seen if not o.right):
        fitting = [k for k, wrong in others.items() if ropes[k] != o.rope and fits(o, (wrong,), sharp)]
        if not fitting or taken.setdefault(o.probe.layer, fitting[0]) not in fitting:
            return None
    words = [f"layer {layer} turns by the Rope of layer {k}" for layer, k in sorted(taken.items())]
    return ", ".join(words) or None


LESS = (
    (sharp, "ANGDT", "angles are rounded to float32"),
    (coarse, "TABDT", "cos, sin and products are rounded to the dtype of x"),
    (lenient, "ANGDT", "angles are computed by recurrence, and cos and sin rounded"),
)


def drifting(seen: Sequence[Observation]) -> str | None:
    """In words, where answers are nearly right near 0 and drift off, little by little, as positions grow."""
    finite = [o for o in seen if np.isfinite(o.y).all()]
    errors = sorted((float(np.abs(o.probe.where).max(initial=0)), left(o, ())) for o in finite)
    near = [e for p, e in errors if p <= errors[len(errors) // 3][0]] if errors else []
    far = [e for p, e in errors if p > 2 * errors[len(errors) // 3][0]] if errors else []
    if not near or not far or not max(near) < 0.02 or not max(far) > 4 * max(near) or max(far) > 0.5:
        return None
    return f"angles lose digits as positions grow: an error of {max(near):.1g} near 0, of {max(far):.1g} further on"


def less_exact(seen: Sequence[Observation], known: Sequence[Mutation]) -> tuple[str, str] | None:
    """The class and the words, where answers are right but for the accuracy that was declared."""
    finite = all(np.isfinite(o.y).all() for o in seen)
    for level, bug, text in LESS:
        if seen and finite and all(fits(o, (), level) or fits(o, known, level) for o in seen):
            return bug, f"it is right, but less exact than it should be: {text}"
    return None


def fewest_digits(seen: Sequence[Observation]) -> Mutation | None:
    """The rounding that comes nearest to all answers taken together, where each is too little off to tell of itself.

    It must leave less than half of what is off without it, and no number may be off by more than roundings allow.
    """
    finite = [o for o in seen if np.isfinite(o.y).all() and o.y.size]
    if not finite or all(o.right for o in finite):
        return None
    among = {m.text: m for m in precision.mutations(finite[0].rope)}

    def off(*texts: str) -> float:
        known = [candidates(o.rope) for o in finite]
        return max(left(o, [k[text] for text in texts if text in k]) for o, k in zip(finite, known, strict=True))

    distances = {text: off(text) for text in among}
    least = min(distances.values())
    if not least < 0.5 * off():
        return None
    alike = [text for text in among if distances[text] <= 1.1 * least]  # of these the one with the fewest roundings
    text = min(alike, key=lambda text: ("positions" in among[text].changes, len(among[text].changes)))
    known = all(text in candidates(o.rope) for o in finite)
    return among[text] if known and all(fits(o, [candidates(o.rope)[text]], lenient) for o in finite) else None


def negative_base(rope: Rope) -> bool:
    """Whether dynamic NTK without its condition makes a negative base of this length."""
    stretch = unconditional_stretch(rope)
    return stretch is not None and stretch < 0


def told_by_offset(mutation: Mutation) -> str:
    """Where only an offset is given, a place that is ignored or a row that is missing is an offset that got lost."""
    missing = "rows of the table are missing" in mutation.text
    return "OFFSET" if mutation.bug == "POSIGN" or missing else mutation.bug


def raised(deviation: Deviation) -> bool:
    return bool(np.isinf(deviation.error)) and "not finite" not in deviation.text


def widths_clash(text: str, subject: Subject) -> bool:
    """Whether an error speaks of two widths, one the head's and one that of its turned channels."""
    rope, numbers = subject.rope, {int(n) for n in "".join(c if c.isdigit() else " " for c in text).split()}
    whole, turned = {rope.head_dim, rope.head_dim // 2}, {2 * rope.pairs, rope.pairs}
    return 2 * rope.pairs < rope.head_dim and bool(numbers & whole) and bool(numbers & turned)
