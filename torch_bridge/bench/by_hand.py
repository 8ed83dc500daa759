"""The rotation written in C by hand: compiled where there is a compiler, and called from here."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_bridge.bench.rows import LeftOut

COMPILERS = ("cc", "gcc", "clang")
OPTIONS = ("-O3", "-ffp-contract=off", "-fopenmp", "-shared", "-fPIC")
SOURCE = Path(__file__).with_name("by_hand.c")
NAME = "C by hand"
BLOCK = 32  # tokens
LINE = 64  # bytes of a cache line
FEW = 1 << 20  # numbers below which one thread may be faster than several


class Rotation(ctypes.Structure):
    """`struct rotation` of the source, where its fields are explained."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("x", "out", "cos", "sin")),
        *((name, ctypes.c_int64) for name in ("heads", "tokens", "width", "interleaved")),
        *((name, ctypes.c_int64) for name in ("block", "ahead", "streams", "threads")),
    ]


def compiler() -> str:
    """The C compiler of this machine. Raises LeftOut where there is none."""
    found = next(filter(None, map(shutil.which, COMPILERS)), None)
    if found is None:
        raise LeftOut(f"no C compiler is installed, none of {', '.join(COMPILERS)}", NAME)
    return found


@cache
def library(path: str, processor: str = "native") -> Any:
    """The source as compiled for a processor by the compiler at a path; why it could not be, where it could not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "by_hand.so"
        words = [path, *OPTIONS, f"-march={processor}", str(SOURCE), "-o", str(target)]
        try:
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                return f"{Path(path).name} fails: {(done.stderr.strip().splitlines() or ['without a word'])[0]}"
            return ctypes.CDLL(str(target))
        except OSError as failure:
            return f"{Path(path).name} fails: {failure}"


def ways(x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> dict[str, Callable[[], Any]]:
    """Calls that rotate x (1, heads, tokens, head_dim) into out, one for each choice of options, by their names.

    Raises LeftOut where the source cannot be compiled.
    """
    made = library(compiler())
    if isinstance(made, str):
        raise LeftOut(made, NAME)
    heads, tokens, width = x.shape[1:]
    threads_of_torch = torch.get_num_threads()
    streams = (0, 1) if made.lanes() > 1 and out.data_ptr() % LINE == 0 else (0,)
    blocks = sorted({min(BLOCK, tokens), tokens})
    threads = sorted({1, threads_of_torch}) if x.numel() < FEW else [threads_of_torch]
    calls: dict[str, Callable[[], Any]] = {}
    for block, ahead, stream, many in product(blocks, (0, 1), streams, threads):
        words = f"blocks of {block}" + ", prefetch" * ahead + ", streaming" * stream + f", threads {many}"
        addresses = (t.data_ptr() for t in (x, out, cos, sin))
        form = Rotation(*addresses, heads, tokens, width, pairing == "interleaved", block, ahead, stream, many)
        calls[words] = partial(made.rotate, ctypes.byref(form))  # which keeps the form
    return calls
