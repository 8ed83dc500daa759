"""The CUDA kernels where there is no GPU: on the simulator in a process of its own, and compiled without being run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit

import numba_kernels as nk
from numba_kernels import arithmetic
from torch_bridge import cuda as hook
from torch_bridge import operators
from torch_bridge.plain import plain

installed = pytest.mark.skipif("not hook.installed()", reason="the extra `cuda` is not installed")


@installed
@pytest.mark.parametrize(
    "chosen", ["simulator/values.py", "simulator/memory.py", "simulator/arguments.py", "test_laws.py"]
)
def test_on_the_simulator(chosen):
    """Numba decides once a process whether CUDA is simulated."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    file, only = Path(__file__).parent / chosen, ["-k", "simulator"] if chosen == "test_laws.py" else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, *only]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


WIDE = {"v4.u32", "v4.b32", "v4.f32", "v2.f64", "v2.b64"}  # 16 bytes


def forms():
    from numba_kernels.cuda.kernel import Form

    for kind, lanes in (("float64", 2), ("float32", 4), ("float16", 8), ("bfloat16", 8)):
        table = "float64" if kind == "float64" else "float32"
        yield (9, 0), Form(kind, table, None, None, kind == "float32", lanes, 1, False)
    yield (7, 5), Form("bfloat16", "float32", "bfloat16", "int32", False, 8, 2, True)
    yield (10, 0), Form("float16", "bfloat16", "float32", "int64", True, 8, 1, True)
    yield (9, 0), Form("float32", "float32", None, None, False, 1, 0, False)


@pytest.mark.parametrize("number", range(7))
@installed
def test_the_code_for_a_gpu(number, monkeypatch):
    """Vectors are 16 bytes wide and stay in registers; no product is fused with a sum, so every bit is the CPU's."""
    from numba import cuda
    from numba.cuda import dispatcher, types
    from numba.cuda.cudadrv import nvvm

    from numba_kernels.cuda import kernel

    try:
        nvvm.NVVM()
    except Exception as failure:  # whatever a search for libraries raises
        pytest.skip(f"no NVVM: {failure}")
    capability, form = list(forms())[number]
    monkeypatch.setattr(dispatcher, "get_current_device", lambda: type("GPU", (), {"compute_capability": capability}))
    count = kernel.LAUNCH + (1 + form.both) * (kernel.SIDE + kernel.AXIS * form.axes)
    given = types.void(types.UniTuple(types.int64, count), types.float64)
    code, _ = cuda.compile(
        kernel.compiled.__wrapped__(form).py_func, given, cc=capability, output="ptx", device=False, abi="numba"
    )
    assert f".target sm_{capability[0]}{capability[1]}" in code
    assert "fma" not in code and "mul.rn.f" in code
    assert ".local" not in code
    moved = {op for op in re.findall(r"(?:ld|st)\.global\.(\S+)", code)}
    moved -= {"s32", "b32", "u64", "b64"} if form.place else set()  # positions
    assert moved and moved <= (WIDE if form.lanes > 1 else {"f32", "b32", "u32"})


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_conversions_are_those_of_the_cpu_kernels(kind):
    """The plain functions, compiled for the CPU, against vector code: every half number, and many a float32."""
    widen, narrow = njit(arithmetic.WIDEN[kind]), njit(arithmetic.NARROW[kind])
    words = np.arange(2**16, dtype=np.uint16)
    wide = torch.from_numpy(words.view(np.int16)).view(getattr(torch, kind)).float().numpy()
    numbers = ~np.isnan(wide)
    found = np.array([widen(w) for w in words], np.float32)
    assert np.array_equal(found[numbers].view(np.uint32), wide[numbers].view(np.uint32))
    assert np.isnan(found[~numbers]).all()
    some = np.random.default_rng(0).integers(0, 2**32, 1 << 14, dtype=np.uint32).view(np.float32)
    halfway = 1 << (12 if kind == "float16" else 15)  # between two half numbers: a tie, which goes to the even one
    steps = np.array([-1, 0, 1, halfway - 1, halfway, halfway + 1], np.int32).view(np.uint32)
    edges = wide[:, None].view(np.uint32).repeat(6, 1) + steps
    c = np.concatenate((some, edges.ravel().view(np.float32))).reshape(-1, 1)
    ones = np.ones((len(c), 2), np.float16 if kind == "float16" else np.uint16)
    if kind == "bfloat16":
        ones[...] = 0x3F80
    turned = nk.rotate(ones, c, np.zeros_like(c), pairing="half-split").view(np.uint16)[:, 0]
    with np.errstate(invalid="ignore"):
        product = c[:, 0] * np.float32(1) - np.float32(0)  # quiet as the kernel makes it
    assert np.array_equal(np.array([narrow(n) for n in product], np.uint16), turned)
    few = product[::97]
    assert np.array_equal(np.array([narrow.py_func(n) for n in few]), turned[::97])


def test_the_arithmetic_of_a_pair_is_that_of_the_cpu_kernels():
    a, b, cos, sin = np.random.default_rng(0).standard_normal((4, 1000)).astype(np.float32)
    pairs = np.stack((a, b), -1)
    expected = nk.rotate(pairs, cos[:, None], sin[:, None], pairing="interleaved")
    for turn in (njit(arithmetic.turn), arithmetic.turn):
        assert np.array_equal(np.array([turn(*n) for n in zip(a, b, cos, sin, strict=True)], np.float32), expected)


def test_without_the_extra_tensors_of_cuda_take_plain_torch(monkeypatch):
    """What the CPU can see of it: the operators of a device call kernels only where they are installed."""
    x, cos, sin = torch.randn(2, 3, 8), torch.randn(3, 4), torch.randn(3, 4)
    calls, form = [], (cos, sin, "half-split", 0, True)
    monkeypatch.setattr(operators, "by_cuda", lambda *given, out=None: calls.append((given, out)) or given[0])
    for there in (False, True):
        monkeypatch.setattr(operators, "installed", lambda there=there: there)
        here = x.clone()
        operators.on_cuda_(here, *form)
        for turned in (operators.on_cuda(x, *form), here):
            assert torch.equal(turned, x if there else plain(x, *form))
        assert len(calls) == 2 * there
    (of_here, out), (given, new) = calls
    assert given[0] is x and new is None and of_here[0] is here is out and given[1:] == of_here[1:] == form


def test_every_operator_has_a_kernel_of_cuda():
    for name in ("rotate", "rotate_", "rotate_qk"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rope_ref::{name}", "CUDA")


def test_the_extra_is_looked_for_once(monkeypatch):
    hook.installed.cache_clear()
    monkeypatch.setattr(hook, "find_spec", lambda name: None)
    assert not hook.installed()
    monkeypatch.undo()
    assert not hook.installed()
    hook.installed.cache_clear()
