"""The command `rope-ref`."""

import argparse
import contextlib
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rope_ref.explain import explain, grouped
from rope_ref.pairing import PAIRINGS
from rope_ref.rope import ANGLE_DTYPES
from rope_ref.variants import CATALOGUE

EXAMPLES = """examples:
  rope-ref explain config.json                  every layer of a model
  rope-ref explain config.json --layer 5        one of them
  rope-ref explain config.json --length 100000  dynamic NTK or LongRoPE at this length
  rope-ref explain config.json --plot out.png   wavelengths, and the decay of the score with distance
  rope-ref show yarn                            the function of the specification
  rope-ref check my.model:apply_rope --variant llama3 --head-dim 128 --set factor=8.0
                                                what is wrong with an implementation
  rope-ref vectors golden                       right answers in files, for tests in any language
  rope-ref generate path/to/model               its tokens per second, before and after it is patched
  rope-ref bench --quick                        speed of the kernels on this machine

exit status: 0 done, 1 an implementation that does not conform, 2 wrong usage or a config that is not understood
"""

CHECK_EXAMPLES = """examples:
  rope-ref check my.model:apply_rope --variant llama3 --head-dim 128 --set factor=8.0
  rope-ref check my.model:apply_rope --config config.json --layer 0 --layout bshd --arrays torch
  rope-ref check my.model:implementation --variant default --head-dim 64 --budget deep --json report.json
  rope-ref check --command './my_rope' --variant yarn --head-dim 64 --set factor=4 \\
      --set original_max_position_embeddings=4096

The object is a function (x, positions) -> y, with a third argument, the layer, where layers differ; or an
Implementation, which has further ways in: decode, tables, cache, ...; or what makes one of these when it is
called with no arguments. Modules are looked for in the current folder first.

exit status: 0 it conforms, 1 it does not, 2 wrong usage
"""


BENCH_EXAMPLES = """examples:
  rope-ref bench                                all tables, in some minutes
  rope-ref bench --quick                        fewer rows and rounds, in less than one
  rope-ref bench --only decode --only peers     two of them
  rope-ref bench --rounds 50 --json mine.json --png mine.png

Ratios of calls that are taken in turn, each with its spread and the number of runs. Every result is compared with
torch's own operations before it is timed; other implementations are compared where they are installed.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given = parser().parse_args(arguments)
    try:
        status = int(given.run(given))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader, `head` perhaps, has had enough; Python must not flush to it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, TypeError, IndexError, OSError, ImportError) as error:
        print(f"rope-ref: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="rope-ref", description="Rotary position embedding: what a model computes, and what is right.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("explain", help="a model's rotary embedding in words, equations and wavelengths")
    one.add_argument("config", metavar="CONFIG", help="a config.json, or the folder that holds it")
    one.add_argument("--layer", type=int, help="this layer alone, counted from 0")
    one.add_argument("--length", type=int, help="length of the sequence, for dynamic NTK and LongRoPE")
    one.add_argument("--angle-dtype", choices=ANGLE_DTYPES, default="float64", help="default: %(default)s")
    one.add_argument("--plot", metavar="FILE", help="draw a figure too (needs the extra `plot`)")
    one.set_defaults(run=run_explain)
    other = commands.add_parser("show", help="the function of the specification that makes a variant")
    other.add_argument("variant", metavar="VARIANT", choices=CATALOGUE, help=", ".join(CATALOGUE))
    other.set_defaults(run=run_show)
    add_check(commands.add_parser(
        "check", help="whether an implementation is right, and what is wrong with it", epilog=CHECK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ))  # fmt: skip
    vectors = commands.add_parser("vectors", help="write inputs, right answers and bounds, for tests in any language")
    vectors.add_argument("directory", metavar="DIR", help="the folder to write them to")
    vectors.set_defaults(run=run_vectors)
    add_generate(commands.add_parser("generate", help="a transformers model's speed before and after it is patched"))
    add_bench(commands.add_parser(
        "bench", help="speed of the kernels, against the speed of memory and other implementations",
        epilog=BENCH_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    ))  # fmt: skip
    return top


def add_generate(one: argparse.ArgumentParser) -> None:
    one.add_argument("folder", nargs="?", metavar="FOLDER", help="where a model was saved; by default a small one")
    one.add_argument("--prompt", help="text to go on from (needs the folder's tokenizer)")
    one.add_argument("--tokens", type=int, default=64, metavar="N", help="how many to generate (default: %(default)s)")
    one.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32",
                     help="default: %(default)s")  # fmt: skip
    one.set_defaults(run=run_generate)


def add_bench(one: argparse.ArgumentParser) -> None:
    one.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    one.add_argument("--rounds", type=int, metavar="N",
                     help="runs of every call; by default at most 50, and fewer of long ones")  # fmt: skip
    one.add_argument("--only", action="append", default=[], metavar="TABLE", help="a table alone; may be repeated: "
                     "size, shape, tables, decode, training, together, peers, threads, growth, start")  # fmt: skip
    one.add_argument("--json", metavar="FILE", default="rope-ref-bench.json", help="default: %(default)s")
    one.add_argument("--png", metavar="FILE", default="rope-ref-bench.png",
                     help="bandwidth by size, where matplotlib is installed (default: %(default)s)")  # fmt: skip
    one.set_defaults(run=run_bench)


def add_check(one: argparse.ArgumentParser) -> None:
    checked = one.add_mutually_exclusive_group(required=True)
    checked.add_argument("object", nargs="?", metavar="MODULE:OBJECT", help="what is checked: package.module:object")
    checked.add_argument("--command", dest="program", metavar="PROGRAM", help="a program to ask, in any language")
    right = one.add_mutually_exclusive_group(required=True)
    right.add_argument("--variant", metavar="NAME", help=f"what is right: {', '.join(CATALOGUE)}")
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


def run_explain(given: argparse.Namespace) -> int:
    path = Path(given.config)
    path = path / "config.json" if path.is_dir() else path
    groups = grouped(path, layer=given.layer, length=given.length, angle_dtype=given.angle_dtype)
    if given.plot:  # first, so that it is there even if the reader of the text leaves early
        from rope_ref.plot import plot

        plot(groups, given.plot)
    print(explain(groups))
    if given.plot:
        print(f"\ndrawn: {given.plot}")
    return 0


def run_show(given: argparse.Namespace) -> int:
    print(inspect.getsource(CATALOGUE[given.variant]), end="")
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


def run_generate(given: argparse.Namespace) -> int:
    with extra("models"):
        from torch_bridge.generate import run
    return run(given)


def run_bench(given: argparse.Namespace) -> int:
    with extra("bench"):
        from torch_bridge.bench.command import run
    return run(given)


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports that need an extra of the package. Raises ImportError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        raise ImportError(f"{missing} is not installed; pip install rope-ref[{name}]") from error
