"""The command `rope-ref`."""

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rope_ref.explain import explain, grouped
from rope_ref.rope import ANGLE_DTYPES
from rope_ref.variants import CATALOGUE

EXAMPLES = """examples:
  rope-ref explain config.json                  every layer of a model
  rope-ref explain config.json --layer 5        one of them
  rope-ref explain config.json --length 100000  dynamic NTK or LongRoPE at this length
  rope-ref explain config.json --plot out.png   wavelengths, and the decay of the score with distance
  rope-ref show yarn                            the function of the specification

exit status: 0 done, 2 wrong usage or a config that is not understood
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
    return top


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
