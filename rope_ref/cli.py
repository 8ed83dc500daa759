"""The command `rope-ref`."""

import argparse
import inspect
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rope_ref.catalogue import CATALOGUE
from rope_ref.compare import compare
from rope_ref.explain import as_json, explain, grouped, parts
from rope_ref.pairing import PAIRINGS
from rope_ref.rope import ANGLE_DTYPES
from rope_ref.show import shown
from rope_ref.usage import Parser, extra, summary

DESCRIBED = "a config.json, .gguf, .onnx, params.json, or tables in .npy, .safetensors, .pt"
OVERRIDES = "keys laid over the config, as by vLLM's --hf-overrides"
COMMANDS = "rope_ref.commands"  # the group of entry points by which other packages bring commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    try:
        given = parser().parse_args(arguments)
        status = int(given.run(given))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` perhaps, has had enough; Python must not flush to it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, IndexError, OSError, ImportError) as error:
        print(f"rope-ref: {in_words(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        return 130  # as of a program that the signal ends
    except Exception:  # a fault; status 1, with which Python would end, says that an implementation does not conform
        traceback.print_exc()
    return 2


def in_words(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def parser() -> Parser:
    top = Parser(prog="rope-ref", description="Rotary position embedding: what a model computes, and what is right.")
    top.add_argument("--version", action="version", version=f"%(prog)s {version()}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    add_explain(commands.add_parser("explain", help="a model's rotary embedding in words, equations and wavelengths"))
    add_diff(commands.add_parser("diff", help="whether two descriptions of a model turn alike, in any formats"))
    add_show(commands.add_parser("show", help="the code of the specification that computes a variant"))
    add_check(commands.add_parser("check", help="whether an implementation is right, and what is wrong with it"))
    add_vectors(commands.add_parser("vectors", help="inputs, right answers and bounds in files, for any language"))
    add_completion(commands.add_parser("completion", help="a script that completes this command in a shell"))
    for point in sorted(metadata.entry_points(group=COMMANDS)):
        commands.add_parser(point.name, help=summary(point), brings=point)
    return top


def version() -> str:
    """The version that is installed."""
    try:
        return metadata.version("rope-ref")
    except metadata.PackageNotFoundError:  # run from its folder
        return "not installed"


def add_explain(one: argparse.ArgumentParser) -> None:
    one.add_argument("config", metavar="CONFIG", help=f"{DESCRIBED}, or the folder that holds it")
    one.add_argument("--layer", type=int, metavar="N", help="this layer alone, counted from 0")
    one.add_argument("--length", type=int, metavar="N", help="length of the sequence, for dynamic NTK and LongRoPE")
    one.add_argument("--like", metavar="MODEL_TYPE", help="read a config of unknown model_type as one of this")
    one.add_argument("--pairing", choices=PAIRINGS, help="which channels turn together, where it is not as usual")
    one.add_argument("--part", choices=("text", "vision"), help="this part alone")
    one.add_argument("--overrides", type=json_dict, metavar="JSON", help=OVERRIDES)
    one.add_argument("--json", metavar="FILE", help="write it as JSON; - for standard output, and nothing else")
    one.add_argument("--angle-dtype", choices=ANGLE_DTYPES, default="float64", help="default: %(default)s")
    one.add_argument("--plot", metavar="FILE", help="draw a figure too (needs the extra `plot`)")
    one.set_defaults(run=run_explain)


def add_diff(one: argparse.ArgumentParser) -> None:
    one.add_argument("left", metavar="A", help=f"{DESCRIBED}, or a folder")
    one.add_argument("right", metavar="B", help="another")
    one.add_argument("--overrides", type=json_dict, metavar="JSON", help=f"{OVERRIDES}; over B")
    one.add_argument("--length", type=int, metavar="N", help="length of the sequence, for dynamic NTK and LongRoPE")
    one.add_argument("--json", metavar="FILE", help="write what differs as JSON; - for standard output")
    one.set_defaults(run=run_diff)


def add_show(one: argparse.ArgumentParser) -> None:
    one.add_argument("variant", metavar="VARIANT", choices=list(CATALOGUE), help=f"one of {', '.join(CATALOGUE)}")
    one.set_defaults(run=run_show)


def add_vectors(one: argparse.ArgumentParser) -> None:
    one.add_argument("directory", metavar="DIR", help="the folder to write them to; made if it is not there")
    one.set_defaults(run=run_vectors)


def add_completion(one: argparse.ArgumentParser) -> None:
    one.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that is to complete")
    one.set_defaults(run=run_completion)


def add_check(one: argparse.ArgumentParser) -> None:
    checked = one.add_mutually_exclusive_group(required=True)
    checked.add_argument("object", nargs="?", metavar="MODULE:OBJECT", help="what is checked: package.module:object")
    checked.add_argument("--command", dest="program", metavar="PROGRAM", help="a program to ask, in any language")
    right = one.add_mutually_exclusive_group(required=True)
    right.add_argument("--variant", metavar="VARIANT", choices=list(CATALOGUE),
                       help=f"what is right: {', '.join(CATALOGUE)}")  # fmt: skip
    right.add_argument("--config", metavar="CONFIG", help="a config.json, or the folder that holds it")
    one.add_argument("--head-dim", type=int, metavar="N", help="head_dim of the variant")
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the variant")
    one.add_argument("--layer", type=int, metavar="N", help="this layer of the config alone, counted from 0")
    one.add_argument("--length", type=int, metavar="N", help="this length alone, for dynamic NTK and LongRoPE")
    one.add_argument("--pairing", choices=PAIRINGS, help="which channels turn together")
    one.add_argument("--layout", help="the axes of x: bhsd (the default), bshd, shd, bs(hd), ...")
    one.add_argument("--arrays", metavar="KIND", help="numpy, torch or jax")
    one.add_argument("--dtype", action="append", default=[], metavar="DTYPE", help="a dtype of x; may be repeated")
    one.add_argument("--declare", action="append", default=[], metavar="NAME=VALUE",
                     help="another declaration of an Implementation: angle=float32, max_position=4096")  # fmt: skip
    one.add_argument("--deviations", metavar="FILE", help="known bugs: CLASS or CLASS:property a line, # for comments")
    one.add_argument("--seed", type=int, default=0, help="which cases are drawn (default: %(default)s)")
    one.add_argument("--budget", choices=("quick", "normal", "deep"), default="normal",
                     help="seconds, a minute, or longer (default: %(default)s)")  # fmt: skip
    one.add_argument("--json", metavar="FILE", help="write the report as JSON; - for standard output, and nothing else")
    one.add_argument("--junit", metavar="FILE", help="write the report as JUnit's XML")
    one.set_defaults(run=run_check)


def json_dict(text: str) -> dict[str, Any]:
    """A dict written as JSON, for argparse."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def run_explain(given: argparse.Namespace) -> int:
    names = ("layer", "length", "angle_dtype", "like", "pairing", "overrides")
    options = {name: getattr(given, name) for name in names}
    if given.part:
        groups = {given.part: grouped(given.config, part=given.part, **options)}
    else:
        groups = parts(given.config, **options)
    if given.plot:  # first, so that it is there even if the reader of the text leaves early
        with extra("plot"):
            from rope_ref.plot import plot

            plot(next(iter(groups.values())), given.plot)
    text = "\n\n".join(explain(each, part) for part, each in groups.items()) + "\n"
    written({part: as_json(each) for part, each in groups.items()}, text, given.json)
    if given.plot and given.json != "-":
        print(f"\ndrawn: {given.plot}")
    return 0


def run_diff(given: argparse.Namespace) -> int:
    found = compare(given.left, given.right, length=given.length, overrides=given.overrides)
    written(found.as_json(), f"{found}\n", given.json)
    return 0 if found.alike else 1


def written(facts: Any, text: str, file: str | None) -> None:
    """Print the text, and write the facts as JSON where asked; with "-" the facts alone are printed."""
    content = json.dumps(facts, indent=1) + "\n"
    if file and file != "-":
        Path(file).write_text(content)
    print(content if file == "-" else text, end="")


def run_show(given: argparse.Namespace) -> int:
    print("\n\n".join(inspect.getsource(function) for function in shown(CATALOGUE[given.variant])), end="")
    return 0


def run_check(given: argparse.Namespace) -> int:
    with extra("conformance"):
        from rope_ref.conformance.command import run
    return run(given)


def run_vectors(given: argparse.Namespace) -> int:
    with extra("conformance"):
        from rope_ref.conformance.vectors import write
    write(given.directory)
    return 0


def run_completion(given: argparse.Namespace) -> int:
    with extra("completion"):
        from rope_ref.completion import script
    print(script(given.shell, parser()))
    return 0
