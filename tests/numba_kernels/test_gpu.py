"""The CUDA kernels and the bridge on a GPU. Without one all of this is skipped, and test_cuda is what there is."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import torch_bridge as tb
from tests.strategies import EXAMPLES
from torch_bridge import cuda as hook
from torch_bridge import operators
from torch_bridge.plain import plain

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or "NUMBA_ENABLE_CUDASIM" in os.environ or not hook.installed(), reason="no GPU"
)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
PAIRINGS = ["half-split", "interleaved"]
FORMS = [(pairing, start, inverse) for pairing in PAIRINGS for start, inverse in ((0, False), (1, True))]


def numbers(*shape, dtype=torch.float32, seed=0, device="cuda"):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.to(device, dtype)


def sample(dtype=torch.float32, seq=4, pairs=3, channels=8):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = ((2, 4, seq, channels), dtype), ((2, 2, seq, channels), dtype), ((seq, pairs), wide), ((seq, pairs), wide)
    return [numbers(*shape, dtype=d, seed=i) for i, (shape, d) in enumerate(shapes)]


@pytest.mark.parametrize("chosen", ["values.py", "arguments.py"])
def test_arrays_of_numpy_are_rotated_there(chosen):
    """What test_cuda has the simulator do, on copies in the memory of the GPU."""
    file = Path(__file__).parent / "simulator" / chosen
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# --- the bits of the CPU


@pytest.mark.parametrize("pairing, start, inverse", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels, pairs", [(8, 3), (64, 24), (128, 63), (35, 16)])
def test_tensors_have_the_bits_of_the_cpu(dtype, pairing, start, inverse, channels, pairs):
    query, key, cos, sin = sample(dtype, 5, pairs, channels)
    form = dict(pairing=pairing, start=start, inverse=inverse)
    here = [t.cpu() for t in (query, key, cos, sin)]
    views = (lambda t: t, lambda t: t.transpose(1, 2), lambda t: t[:, ::2], lambda t: t[:, :1, 1:])
    rows = (slice(None), (slice(None), None), slice(None), slice(1, None))
    for view, row in zip(views, rows, strict=True):
        expected = tb.rotate(view(here[0]), here[2][row], here[3][row], **form)
        assert torch.equal(tb.rotate(view(query), cos[row], sin[row], **form).cpu(), expected)
        target = query.clone()
        assert tb.rotate(view(target), cos[row], sin[row], **form, inplace=True).data_ptr() == view(target).data_ptr()
        assert torch.equal(view(target).cpu(), expected)
    for got, expected in zip(tb.rotate_qk(query, key, cos, sin, **form), tb.rotate_qk(*here, **form), strict=True):
        assert torch.equal(got.cpu(), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape, rows", [((2, 32, 1027, 128), (1027,)), ((3, 1027, 32, 128), (1027, 1)), ((1, 70001, 64), (70001,)),
                    ((5, 2**16, 96), (1,))])  # fmt: skip
def test_large_arrays_have_the_bits_of_torch(dtype, shape, rows):
    """Enough rows for a thread to turn several of them: heads before and behind the sequence, and none at all."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, (cos, sin) = numbers(*shape, dtype=dtype), numbers(2, *rows, shape[-1] // 2, dtype=wide, seed=1)
    for pairing, inverse in itertools.product(PAIRINGS, (False, True)):
        expected = plain(x, cos, sin, pairing, 0, inverse)
        assert torch.equal(tb.rotate(x, cos, sin, pairing=pairing, inverse=inverse), expected)


def test_more_than_2_to_the_31_numbers():
    free, _ = torch.cuda.mem_get_info()
    if free < 24 * 2**30:
        pytest.skip("needs 24 GiB")
    rows, channels = 2**24 + 3, 128
    x = torch.empty(rows, channels, dtype=torch.bfloat16, device="cuda").uniform_(-1, 1)
    assert x.numel() > 2**31
    angle = torch.rand(rows, channels // 2, device="cuda")
    cos, sin = angle.cos_(), angle.sin()
    y = tb.rotate(x, cos, sin, pairing="half-split")
    for part in (slice(0, 1000), slice(rows // 2, rows // 2 + 1000), slice(rows - 1000, rows)):
        assert torch.equal(y[part], plain(x[part], cos[part], sin[part], "half-split"))
    assert (y != 0).any(1).all() and torch.isfinite(y.sum(dtype=torch.float64))


# --- autograd, torch.library, the compiler


@pytest.mark.parametrize("pairing, start, inverse", FORMS)
def test_gradients_of_any_order(pairing, start, inverse):
    x, _, cos, sin = sample(torch.float64, 3)
    given = [t.requires_grad_() for t in (x[:1, :2].contiguous(), cos, sin)]

    def turn(x, cos, sin):
        return tb.rotate(x, cos, sin, pairing=pairing, start=start, inverse=inverse)

    assert torch.autograd.gradcheck(turn, given) and torch.autograd.gradgradcheck(turn, given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_gradients_are_those_of_the_cpu(dtype, pairing):
    x, _, cos, sin = sample(dtype, 33, 16, 40)
    upstream, found = numbers(*x.shape, dtype=dtype, seed=9), []
    for device in ("cuda", "cpu"):
        given = [t.detach().to(device).requires_grad_() for t in (x, cos, sin)]
        y = tb.rotate(*given, pairing=pairing, start=2)
        found.append([y, *torch.autograd.grad(y, given, upstream.to(device))])
    assert all(torch.equal(a.cpu(), b) for a, b in zip(*(f[:2] for f in found), strict=True))
    for a, b in zip(*(f[2:] for f in found), strict=True):  # sums over rows, in another order
        torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-4 if dtype != torch.float64 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairing, start, inverse", FORMS[1:3])
def test_opcheck(dtype, pairing, start, inverse):
    query, key, cos, sin = sample(dtype)
    form = (cos, sin, pairing, start, inverse)
    torch.library.opcheck(operators.rotate_, (query.clone(), *form))
    for t in (query, key, cos, sin):
        t.requires_grad_()
    torch.library.opcheck(operators.rotate, (query, *form))
    torch.library.opcheck(operators.rotate_qk, (query, key, *form))
    torch.library.opcheck(operators.rotate_backward, (query.detach().clone(), query, *form))
    weights = [numbers(8, seed=i).requires_grad_() for i in (5, 6)]
    torch.library.opcheck(operators.rotate_qk_norm, (query, key, *weights, cos, sin, 1e-6, pairing, start))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiler_calls_the_kernel(dtype):
    query, key, cos, sin = sample(dtype, 16, 32, 64)

    def turn(q, k, cos, sin):
        return [2 * t for t in tb.rotate_qk(q, k, cos, sin, pairing="half-split")]

    found = []
    for way in (turn, torch.compile(turn, fullgraph=True)):
        given = [t.detach().requires_grad_() for t in (query, key, cos, sin)]
        results = way(*given)
        found.append([*results, *torch.autograd.grad(sum(t.float().square().sum() for t in results), given[:2])])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalisation_is_that_of_the_cpu(dtype):
    query, key, cos, sin = sample(dtype, 16, 32, 64)
    given = [query, key, *(1 + numbers(64, dtype=dtype, seed=i) / 4 for i in (5, 6)), cos, sin]
    for a, b in zip(*(tb.rotate_qk_norm(*(t.to(d) for t in given), epsilon=1e-6, pairing="half-split")
                      for d in ("cuda", "cpu")), strict=True):  # fmt: skip
        torch.testing.assert_close(a.cpu(), b, rtol=2.0**-7 if dtype == torch.bfloat16 else 1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma3_text", "cohere", "deepseek_v3"])
def test_a_patched_model_on_a_gpu(name):
    """It says what the patched model says on the CPU, and the same tokens as before it was patched."""
    pytest.importorskip("transformers")
    from tests.torch_bridge.models import build, greedy

    ids = torch.randint(3, 90, (2, 24), generator=torch.Generator().manual_seed(1))
    model = build(name)
    with torch.no_grad(), tb.patch(model):
        here = model(input_ids=ids).logits
    model.cuda()
    before = greedy(model, ids.cuda(), 32)
    with torch.no_grad(), tb.patch(model):
        torch.testing.assert_close(model(input_ids=ids.cuda()).logits.cpu(), here, rtol=1e-3, atol=1e-3)
        assert torch.equal(greedy(model, ids.cuda(), 32), before)


def test_the_module_on_a_gpu():
    """A Rotary that was moved there turns as on the CPU, gradients included."""
    for name in ("default", "partial", "yarn", "mrope"):
        rope = EXAMPLES[name]
        q, k = (numbers(1, n, 6, rope.head_dim, seed=n, device="cpu") for n in (4, 2))
        p = torch.arange(6)[:, None].expand(6, rope.axes) if rope.axes else torch.arange(6)
        found = []
        for device in ("cpu", "cuda"):
            given = [t.to(device).requires_grad_() for t in (q, k)]
            turned = tb.Rotary(rope).to(device)(*given, p.to(device))
            found.append([*turned, *torch.autograd.grad(sum(t.square().sum() for t in turned), given)])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b.cpu(), rtol=1e-5, atol=1e-5)


# --- streams, graphs, other makers of arrays


def test_the_current_stream_is_taken_and_nothing_is_waited_for():
    """What a rotation reads is written behind a long wait on the same stream, and it returns before that is over."""
    x, _, cos, sin = sample(torch.float32, 64, 32, 64)
    expected = tb.rotate(x, cos, sin, pairing="half-split")
    late, stream, began = torch.zeros_like(x), torch.cuda.Stream(), torch.cuda.Event()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(1_000_000_000)  # half a second
        late.copy_(x)
        y = tb.rotate(late, cos, sin, pairing="half-split")
        tb.rotate(late, cos, sin, pairing="half-split", inplace=True)
        began.record()
        assert not began.query()
    stream.synchronize()
    assert torch.equal(y, expected) and torch.equal(late, expected)


def test_a_graph_replays_on_new_numbers():
    query, key, cos, sin = sample(torch.bfloat16, 16, 32, 64)
    turn = lambda: tb.rotate_qk(query, key, cos, sin, pairing="interleaved")  # noqa: E731
    turn()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = turn()
    for seed in (5, 6):
        for t in (query, key, cos, sin):
            t.copy_(numbers(*t.shape, dtype=t.dtype, seed=seed))
        graph.replay()
        assert all(map(torch.equal, results, turn()))


def test_arrays_of_cupy_and_jax():
    import numba_kernels.cuda as nc

    x, _, cos, sin = sample(torch.float32, 16, 32, 64)
    expected = tb.rotate(x, cos, sin, pairing="half-split").cpu().numpy()
    cupy = pytest.importorskip("cupy")
    given = [cupy.asarray(t.cpu().numpy()) for t in (x, cos, sin)]
    y = nc.rotate(*given, pairing="half-split")
    assert isinstance(y, cupy.ndarray) and (cupy.asnumpy(y) == expected).all()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        y = nc.rotate(*given, pairing="half-split", out=given[0])
        stream.synchronize()
    assert y is given[0] and (cupy.asnumpy(y) == expected).all()
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    jax = pytest.importorskip("jax")
    given = [jax.numpy.asarray(t.cpu().numpy()) for t in (x, cos, sin)]
    assert (nc.rotate(*given, pairing="half-split").copy_to_host() == expected).all()


def test_threads_of_python_rotate_at_once():
    from concurrent.futures import ThreadPoolExecutor

    given = [(numbers(4, 8, 64, seed=i), numbers(8, 32, seed=i + 99), numbers(8, 32, seed=i + 999)) for i in range(16)]
    expected = [plain(*t, "half-split", 0) for t in given]
    torch.cuda.synchronize()
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda t: tb.rotate(*t, pairing="half-split"), given))
    torch.cuda.synchronize()
    assert all(map(torch.equal, results, expected))
