"""A failing case as a few lines of Python that can be pasted into a test."""

import inspect

from rope_ref.conformance.adapters.probes import Probe
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.rope import Rope

IMPORTS = """import rope_ref as rr
from rope_ref.conformance.adapters.probes import Probe
from rope_ref.conformance.adapters.subject import Subject

# implementation is what was checked
"""


def snippet(subject: Subject, adapter: str, case: tuple[Probe, ...]) -> str:
    """Statements that ask the same question; `implementation` stands for what was checked."""
    if not case:
        return ""
    lines = [f"{IMPORTS}subject = Subject(implementation, {ropes(subject)}, kind={subject.kind!r})"]
    if adapter in subject.adapters():
        for probe in case:
            lines.append(f"probe = {described(probe)}")
            lines.append(f"assert subject.deviates(subject.ask({adapter!r}, probe), probe) is None")
    else:
        lines += [f"# {adapter}, called in this order:"] + [f"{described(probe)}" for probe in case]
    return "\n".join(lines)


def described(probe: Probe) -> str:
    """A probe by what is not as usual."""
    fields = Probe.__dataclass_fields__
    words = [f"{n}={v!r}" for n, v in vars(probe).items() if n in fields and v != fields[n].default]
    return f"Probe({', '.join(words)})"


def ropes(subject: Subject) -> str:
    """The Rope, or the Ropes, as they were made."""
    if callable(subject.ropes):
        return "rope_of_length"
    return made(subject.ropes) if isinstance(subject.ropes, Rope) else f"[{', '.join(map(made, subject.ropes))}]"


def made(rope: Rope) -> str:
    if rope.origin is None:
        return f"rr.{rope!r}"
    make, given = rope.origin
    module = make.__module__.removeprefix("rope_ref.")
    prefix = "rr" if module == make.__name__ else f"rr.{module}"
    signature = inspect.signature(make).parameters
    words = [f"{n}={v!r}" for n, v in given.items() if n not in signature or v != signature[n].default]
    return f"{prefix}.{make.__name__}({', '.join(words)})"
