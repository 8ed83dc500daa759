"""The CUDA kernels on the simulator in a process of its own, and compiled without being run. On a GPU: test_gpu."""

import ctypes
import os
import re
import struct
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
    "chosen", ["simulator/values.py", "simulator/memory.py", "simulator/arguments.py",
               pytest.param("../test_laws.py", marks=pytest.mark.in_turn)]
)  # fmt: skip
def test_on_the_simulator(chosen):
    """Numba decides once a process whether CUDA is simulated."""
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    file, only = Path(__file__).parent / chosen, ["-k", "simulator"] if "laws" in chosen else []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, *only]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


WIDE = {"v4.u32", "v4.b32", "v4.f32", "v2.f64", "v2.b64"}  # 16 bytes
MOVES = {16: WIDE, 8: {"u64", "b64", "f64", "v2.f32", "v2.u32", "v2.b32"}, 4: {"u32", "b32", "f32"}, 2: {"u16", "b16"}}


def forms():
    from numba_kernels.cuda.kernel import Form

    usual = dict(weight=None, place=None, dense=True, axes=1, both=False, rest=False, once=True, far=False)
    for kind, size in (("float64", 8), ("float32", 4), ("float16", 2), ("bfloat16", 2)):
        table = "float64" if kind == "float64" else "float32"
        for lanes in (16 // size, 8 // size, 1):
            for interleaved in (False, True):
                yield (9, 0), Form(**usual | dict(kind=kind, table=table, lanes=lanes, interleaved=interleaved))
    yield (7, 5), Form("bfloat16", "float32", "bfloat16", "int32", False, 8, True, 2, True, True, True, False)
    yield (10, 0), Form("float16", "bfloat16", "float32", "int64", True, 8, True, 1, True, False, True, False)
    yield (9, 0), Form("float32", "float32", None, "uint8", False, 1, False, 3, True, True, False, True)


@pytest.mark.in_turn
@pytest.mark.parametrize("number", range(27))
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
    taken = re.findall(r"\.param \.(\w+) \S+_param_\d+,?$", code, re.MULTILINE)
    assert taken == ["u64"] * count + ["f64"]  # as `launch` packs them
    assert "fma" not in code and "mul.rn.f" in code
    assert "cvt.rn.f16.f32" in code and "and.b32" not in code if form.kind == "float16" and not form.place else True
    assert ".local" not in code
    moved = {op for op in re.findall(r"(?:ld|st)\.global\.(\S+)", code)}
    moved -= {"s32", "b32", "u64", "b64", "u8", "b8"} if form.place else set()  # positions
    size = np.dtype(arithmetic.STORED[form.kind]).itemsize * form.lanes
    tables = WIDE if np.dtype(arithmetic.STORED[form.table]).itemsize * form.lanes >= 16 else MOVES[size]
    assert moved and moved <= MOVES[size] | (tables if form.lanes > 1 else {"f32", "b32", "u32"})


@installed
def test_numbers_are_handed_over_as_one_block(monkeypatch):
    """What the driver is told, with nothing behind it."""
    from numba_kernels.cuda import launch, plan

    side = plan.Side((5, 64), (256, 4), (5, 64), (256, 4))
    table = plan.Table("float32", (5, 32), (5, 32), (128, 4), (128, 4))
    found = plan.make("float32", (side,), "half-split", 0, True, False, table, None, None, (0, 0, 0))
    told, stack, errors = [], [], {"success": "CUDA_SUCCESS", "none": "CUDA_ERROR_INVALID_CONTEXT"}
    kinds = {name: type("Error", (), {"name": name}) for name in errors.values()}

    class Driver:
        CUresult = type("CUresult", (), kinds)
        current = None

        def cuCtxGetDevice():
            return (kinds["CUDA_ERROR_INVALID_CONTEXT"] if Driver.current is None else Driver.CUresult.CUDA_SUCCESS,
                    Driver.current)  # fmt: skip

        def cuCtxPushCurrent(context):
            stack.append(("push", context))
            return (Driver.CUresult.CUDA_SUCCESS,)

        def cuCtxPopCurrent():
            stack.append("pop")

        def cuLaunchKernel(function, *form):
            (*form, extra) = form
            pointer, block, size, length, end = (ctypes.c_uint64 * 5).from_address(extra)
            bytes_ = ctypes.string_at(block, ctypes.c_size_t.from_address(length).value)
            told.append((function, form, struct.unpack(f"{len(bytes_) // 8 - 1}qd", bytes_)))
            assert (pointer, size, end) == (1, 2, 0)
            return (Driver.answer,)

        answer = CUresult.CUDA_SUCCESS

    monkeypatch.setattr(launch, "driver", Driver)
    monkeypatch.setattr(launch, "entry", lambda form, count, device: (form, count, device))
    monkeypatch.setattr(launch, "context", lambda device: f"context {device}")
    addresses = [2**47 + 256 * i for i in range(len(found.slots))]
    for Driver.current, stream in ((None, launch.DEFAULT), (0, 77), (1, 77)):
        launch.run(found, addresses, 1e-6, 1, stream)
    wanted = list(found.numbers)
    for slot, address in zip(found.slots, addresses, strict=True):
        wanted[slot] = address
    assert [t[2] for t in told] == [(*wanted, 1e-6)] * 3 and -1 in wanted
    assert all(t[0] == (found.form, len(wanted), 1) for t in told)
    assert [t[1] for t in told] == [[found.blocks, 1, 1, *found.threads, 1, 0, s, 0] for s in (0, 77, 77)]
    assert stack == [("push", "context 1"), "pop"] * 2
    Driver.answer = kinds["CUDA_ERROR_INVALID_CONTEXT"]
    with pytest.raises(RuntimeError, match="the rotation could not be started: CUDA_ERROR_INVALID_CONTEXT"):
        launch.run(found, addresses, 1e-6, 1, 7)


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
    for name in ("rotate", "rotate_", "rotate_qk", "rotate_kernel", "rotate_kernel_", "rotate_qk_kernel"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rope_ref::{name}", "CUDA")


def test_the_extra_is_looked_for_once(monkeypatch):
    hook.installed.cache_clear()
    monkeypatch.setattr(hook, "find_spec", lambda name: None)
    assert not hook.installed()
    monkeypatch.undo()
    assert not hook.installed()
    hook.installed.cache_clear()
