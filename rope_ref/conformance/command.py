"""The command `rope-ref check`: what is on its line as an implementation and a Rope, and the report printed.

The object may be

- an `Implementation`;
- a function to be checked, one that can be called with (x, positions), or where layers differ (x, positions, layer);
- what makes one of these, if it can be called with no arguments and not with those: a function or a class.
"""

import argparse
import contextlib
import importlib
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rope_ref.catalogue import CATALOGUE
from rope_ref.configs import check_layer, layers
from rope_ref.conformance.adapters.declarations import assignments, declaration
from rope_ref.conformance.adapters.implementation import Implementation
from rope_ref.conformance.adapters.subject import Ropes
from rope_ref.conformance.check import check
from rope_ref.conformance.reporting.deviations import read_deviations
from rope_ref.conformance.reporting.render import progress, render
from rope_ref.conformance.reporting.report import Report
from rope_ref.rope import Rope

BY_LENGTH = ("dynamic", "longrope")  # rope types whose Rope depends on the length of the sequence


def run(given: argparse.Namespace) -> int:
    """Check what the command line names; 0 if it conforms, 1 if it does not. Raises ValueError for wrong usage."""
    rope, words = specification(given)
    declared = declarations(given)
    known = declared.pop("deviations", ())
    known += () if given.deviations is None else read_deviations(given.deviations)
    with contextlib.redirect_stdout(sys.stderr):  # whatever is checked may print; standard output is the report's
        one = implemented(given, rope, declared)
        one = replace(one, **declared, deviations=one.deviations + known)
        with progress(Console(stderr=True)) as step:
            report = check(one, rope, budget=given.budget, seed=given.seed, progress=step)
    write(report, given, words)
    if given.json != "-":
        out = Console(highlight=False)
        with contextlib.suppress(SystemExit):  # which rich raises where the reader has had enough
            out.print(f"{given.object or given.program} against {words}", markup=False, soft_wrap=True)
            render(report, rope, out)
            for entry in report.stale(one.deviations):
                out.print(f"listed as known and not found: {entry}", markup=False)
    return 0 if report.passed else 1


def write(report: Report, given: argparse.Namespace, words: str) -> None:
    """The files that were asked for. The JSON says first what was checked against what."""
    if given.junit is not None:
        Path(given.junit).write_text(report.as_junit(), encoding="utf-8")
    if given.json is not None:
        checked = {"implementation": given.object or given.program, "specification": words}
        text = json.dumps(checked | report.as_json(), indent=2) + "\n"
        if given.json == "-":
            sys.stdout.write(text)
        else:
            Path(given.json).write_text(text, encoding="utf-8")


def specification(given: argparse.Namespace) -> tuple[Ropes, str]:
    """What is to be computed, and the same in words."""
    if given.config is not None:
        if given.head_dim is not None or given.set:
            raise ValueError("--head-dim and --set belong to --variant; a config says everything itself")
        return of_config(given.config, given.layer, given.length, given.pairing)
    if given.layer is not None:
        raise ValueError("--layer belongs to --config; a variant has one")
    options = {"head_dim": given.head_dim, "length": given.length, "pairing": given.pairing}
    parameters = {name: value for name, value in options.items() if value is not None}
    for name, value in assignments("--set", given.set).items():
        if name in parameters:
            raise ValueError(f"{name} is given twice")
        parameters[name] = value
    return of_variant(given.variant, parameters)


def of_variant(name: str, parameters: Mapping[str, Any]) -> tuple[Ropes, str]:
    """A named variant; of every length, where it depends on the length and none is given."""
    make = CATALOGUE[name]
    signature = inspect.signature(make)
    names = [n for n in signature.parameters if n != "fields"]
    known = {*names, *(f.name for f in fields(Rope) if f.init)}
    for key in parameters:
        if key not in known:
            raise ValueError(f"{name} has no parameter {key!r}; it has {', '.join(names)}, and the fields of Rope")
    missing = [n for n in names if signature.parameters[n].default is inspect.Parameter.empty and n not in parameters]
    by_length = "length" in missing
    for key in missing:
        if key != "length":
            flag = "--head-dim N" if key == "head_dim" else f"--set {key}=VALUE"
            raise ValueError(f"{name} needs {key}; give it with {flag}")

    def of_length(length: int) -> Rope:
        return make(**parameters, length=length)

    try:
        rope = of_length(1) if by_length else make(**parameters)
    except Exception as error:  # whatever a value of the wrong type leads to
        raise ValueError(f"{name}: {error}") from error
    words = ", ".join(f"{key}={value!r}" for key, value in parameters.items())
    return (of_length, f"{name}({words}), of every length") if by_length else (rope, f"{name}({words})")


def of_config(given: str, layer: int | None, length: int | None, pairing: str | None) -> tuple[Ropes, str]:
    """The Rope of a model's config; one for each layer, where they differ and none is named."""
    every = layers(given, length=length, pairing=pairing)
    check_layer(layer, len(every))
    words = given + ("" if layer is None else f", layer {layer}") + ("" if length is None else f", length {length}")
    chosen = every if layer is None else [every[layer]]
    ropes = [one.rope for one in chosen]
    if length is None and any(one.rope_type in BY_LENGTH for one in chosen):
        if len(set(ropes)) > 1:
            raise ValueError(f"layers of {given} differ and depend on the length; name one by --layer, or a --length")
        of_length = lambda n: layers(given, length=n, pairing=pairing)[layer or 0].rope  # noqa: E731
        return of_length, f"{words}, of every length"
    return (ropes[0], words) if len(set(ropes)) == 1 else (ropes, f"{words}, layer by layer")


def implemented(given: argparse.Namespace, rope: Ropes, declared: Mapping[str, Any]) -> Implementation:
    """The implementation that is named, or that a program is."""
    if given.program is None:
        arguments = ("x", "positions") if isinstance(rope, Rope) or callable(rope) else ("x", "positions", "layer")
        return implementation(load(given.object), given.object, arguments)
    if not isinstance(rope, Rope):
        raise ValueError("--command takes one Rope; name a layer by --layer, or a length by --length")
    from rope_ref.conformance.adapters.child import command

    return command(given.program, rope, time_limit=declared.get("time_limit", Implementation().time_limit))


def load(name: str) -> Any:
    """The object of "package.module:object". Raises ValueError where there is none."""
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise ValueError(f"{name!r} names no object; expected package.module:object")
    sys.path.insert(0, "")
    try:
        found = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        raise ValueError(f"module {module_name!r} cannot be imported: {type(error).__name__}: {text}") from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"module {module_name!r} has no {path!r}") from None
    return found


def implementation(found: Any, name: str, arguments: Sequence[str], *, made: bool = False) -> Implementation:
    """An object as an Implementation; see above how it is told what it is."""
    if isinstance(found, Implementation):
        return found
    if not callable(found):
        raise ValueError(f"{name} is of type {type(found).__name__}; expected a function or an Implementation")
    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):  # of compiled functions nothing is known
        return Implementation(apply=found)
    if takes(signature, arguments):
        return Implementation(apply=found)
    if made or not takes(signature, ()):
        expected = ", ".join(arguments)
        raise ValueError(f"{name} takes {signature}; expected ({expected}), or () and to make what takes ({expected})")
    try:
        result = found()
    except Exception as error:
        raise ValueError(f"{name}() raised {type(error).__name__}: {error}") from error
    return implementation(result, f"{name}()", arguments, made=True)


def takes(signature: inspect.Signature, arguments: Sequence[str]) -> bool:
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def declarations(given: argparse.Namespace) -> dict[str, Any]:
    """What the options declare about the implementation, checked."""
    declared = assignments("--declare", given.declare)
    for name, value in {"layout": given.layout, "arrays": given.arrays, "dtypes": tuple(given.dtype)}.items():
        if value and name in declared:
            raise ValueError(f"{name} is declared twice")
        declared |= {name: value} if value else {}
    return {name: declaration(name, value) for name, value in declared.items()}
