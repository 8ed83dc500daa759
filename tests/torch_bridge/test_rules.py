"""The operators called on DTensors, on 2 and 4 processes: the bits of the whole, forward and backward, in silence."""

import shutil
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from functorch.compile import make_boxed_func
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.debug import CommDebugMode

import torch_bridge
from tests.torch_bridge.ranks import Ranks
from tests.torch_bridge.test_sharding import HEADS, SEQ, bits, layouts, mesh, part, sample
from torch_bridge import sharding
from torch_bridge.operators import rotate, rotate_, rotate_backward, rotate_qk
from torch_bridge.plain import arithmetic

SHAPE = (5, 4, 9, 8)  # batch, heads, seq, head_dim; no axis shorter than the ranks, two that do not divide
TABLES = {"seq": (9, 3), "rows": (5, 1, 9, 3), "heads": (4, 1, 3), "one": (3,), "all": (5, 4, 9, 3)}


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    several = Ranks(request.param, str(tmp_path_factory.mktemp("ranks") / "store"))
    yield several
    several.close()


def along(dim, table):
    """The axis of a table that goes with an axis of x, or None where all share it."""
    axis = None if dim is None else dim - (len(SHAPE) - len(table))
    return axis if axis is not None and axis >= 0 and table[axis] > 1 else None


def spread(x, sizes, dims):
    """A DTensor of what every rank has whole, without a word."""
    placements = [Replicate() if dim is None else Shard(dim) for dim in dims]
    return sharding.spread(x, mesh(*sizes), placements)


FORM = ("interleaved", 1)
CALLS = {
    "rotate": lambda x, cos, sin: rotate(x, cos, sin, *FORM),
    "rotate_": lambda x, cos, sin: in_place(x, cos, sin),
    "rotate_qk": lambda q, k, cos, sin: rotate_qk(q, k, cos, sin, *FORM),
    "torch_bridge.rotate": lambda x, cos, sin: torch_bridge.rotate(x, cos, sin, pairing=FORM[0], start=FORM[1]),
}


def in_place(x, cos, sin):
    x = x.clone()
    assert rotate_(x, cos, sin, *FORM) is None
    return x


def tensors(name, dtype, table):
    """What a call rotates, as many upstream gradients, and the tables."""
    many = 2 if name == "rotate_qk" else 1
    x = [sample(SHAPE, dtype, seed) for seed in range(2 * many)]
    return x[:many], x[many:], [sample(TABLES[table], arithmetic(dtype), seed) for seed in (8, 9)]


def called(name, x, grads, tables):
    """Results, then gradients of everything that went in."""
    inputs = [t.requires_grad_() for t in (*x, *tables)]
    y = CALLS[name](*inputs)
    y = y if len(x) > 1 else (y,)
    return [*y, *torch.autograd.grad(y, inputs, grads)]


def terms(grad, x, tables):
    """The absolute values that the gradient of cos is a sum of."""
    return rotate_backward(grad.abs(), x.detach().abs(), *tables, *FORM)[0].detach()


def on_a_rank(name, dtype, table, sizes, dims, split_tables):
    """Local parts, how all is split, how many collectives that took, and the gradient of cos in full."""
    x, grads, tables = tensors(name, dtype, table)
    of_tables = [along(dim, TABLES[table]) if split_tables else None for dim in dims]
    x, grads = ([spread(t, sizes, dims) for t in several] for several in (x, grads))
    with CommDebugMode() as talk:
        *out, of_cos, of_sin = called(name, x, grads, [spread(t, sizes, of_tables) for t in tables])
    placements = [t.placements for t in (*out, of_cos, of_sin)]
    return [bits(t.to_local()) for t in out], placements, talk.get_total_counts(), of_cos.full_tensor()


@pytest.mark.in_turn
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_operator_on_every_layout(ranks, data):
    """Tables split as x is, where they have the axis, or whole on every rank."""
    name, table = data.draw(st.sampled_from([*CALLS])), data.draw(st.sampled_from([*TABLES]))
    dtype, split_tables = data.draw(st.sampled_from([torch.float32, torch.bfloat16])), data.draw(st.booleans())
    sizes, dims = data.draw(st.sampled_from(layouts(len(ranks.pipes))))
    x, grads, tables = tensors(name, dtype, table)
    *expected, of_cos, _ = called(name, x, grads, tables)
    # the gradient of an entry: two products a row, at most 2 x 180 rows, summed in two orders
    near = 2 * 4 * 180 * 2.0**-24 * sum(terms(g, t, tables) for t, g in zip(x, grads, strict=True))
    mine = tuple(Replicate() if dim is None else Shard(dim) for dim in dims)
    axes = [along(dim, TABLES[table]) for dim in dims]
    of_tables = tuple(Replicate() if dim is None else Partial() if axis is None else Shard(axis)
                      for dim, axis in zip(dims, axes, strict=True))  # fmt: skip
    found = ranks.run(on_a_rank, name, dtype, table, sizes, dims, split_tables)
    for rank, (local, placements, talk, its_cos) in enumerate(found):
        assert local == [bits(part(t, rank, sizes, dims)) for t in expected]
        assert placements == [mine] * len(expected) + [of_tables] * 2 and talk == 0
        assert ((its_cos - of_cos).abs() <= near).all() and (of_cos.abs() > near).any()


def few_key_heads():
    """Query heads over all ranks, of keys one that every rank holds; then both turned back in inference mode."""
    q, k = sample((2, 4, 9, 8), torch.float32, 0), sample((2, 1, 9, 8), torch.float32, 1)
    tables = [spread(sample((9, 3), torch.float32, seed), (), (None,)) for seed in (2, 3)]
    given = [spread(q, (), (HEADS,)), spread(k, (), (None,))]
    with CommDebugMode() as talk:
        turned = rotate_qk(*given, *tables, *FORM)
        with torch.inference_mode():
            back = torch_bridge.rotate_qk(*turned, *tables, pairing=FORM[0], start=FORM[1], inverse=True)
            grads = rotate_backward(turned[0], given[0], *tables, *FORM)
    placements = [t.placements for t in (*turned, *back, *grads)]
    return [bits(t.to_local()) for t in (*turned, *back)], placements, talk.get_total_counts()


def test_heads_of_keys_that_are_fewer_than_ranks(ranks):
    n = len(ranks.pipes)
    q, k = sample((2, 4, 9, 8), torch.float32, 0), sample((2, 1, 9, 8), torch.float32, 1)
    tables = [sample((9, 3), torch.float32, seed) for seed in (2, 3)]
    there = rotate_qk(q, k, *tables, *FORM)
    both = (*there, *rotate_qk(*there, *tables, *FORM, True))
    for rank, (found, placements, talk) in enumerate(ranks.run(few_key_heads)):
        assert found == [bits(part(t, rank, (n,), (dim,))) for t, dim in zip(both, (HEADS, None) * 2, strict=True)]
        assert placements == [(Shard(HEADS),), (Replicate(),)] * 2 + [(Partial(),)] * 2 and talk == 0


def twice():
    """A second derivative, by the upstream gradient."""
    x, upstream = (spread(sample(SHAPE, torch.float64, seed), (), (SEQ,)).requires_grad_() for seed in (0, 1))
    tables = [spread(sample(TABLES["seq"], torch.float64, seed), (), (0,)).requires_grad_() for seed in (2, 3)]
    with CommDebugMode() as talk:
        (first,) = torch.autograd.grad(rotate(x, *tables, *FORM), x, upstream, create_graph=True)
        second = torch.autograd.grad(first, (upstream, *tables), x.detach())
    return bits(second[0].to_local()), [t.placements for t in second], talk.get_total_counts()


def test_second_derivatives(ranks):
    n, x = len(ranks.pipes), sample(SHAPE, torch.float64, 0)
    y = rotate(x, *(sample(TABLES["seq"], torch.float64, seed) for seed in (2, 3)), *FORM)
    for rank, (found, placements, talk) in enumerate(ranks.run(twice)):
        assert found == bits(part(y, rank, (n,), (SEQ,))) and talk == 0
        assert placements == [(Shard(SEQ),), (Shard(0),), (Shard(0),)]


def other_layouts(name):
    """What the rules do not cover: what comes of it, and how many collectives that took."""
    n, seq = dist.get_world_size(), 9
    tables = [spread(sample((seq, 3), torch.float32, seed), (), (None,)) for seed in (2, 3)]
    x = spread(sample((5, 1, seq, 8), torch.float32, 0), (), ({"head_dim": 3, "short": HEADS}.get(name),))
    if name == "terms":
        x = DTensor.from_local(x.to_local() / n, mesh(), [Partial()], run_check=False)
    with CommDebugMode() as talk:
        y = rotate(x, *tables, *FORM)
    with pytest.raises(RuntimeError, match="in-place operations that require placement changes are not supported"):
        rotate_(x, *tables, *FORM)
    return y.full_tensor(), talk.get_total_counts()


@pytest.mark.parametrize("name", ["head_dim", "short", "terms"])
def test_other_layouts_are_changed_first(ranks, name):
    """x split along head_dim, or along an axis shorter than the ranks, or as terms of a sum: right, at a price."""
    tables = [sample((9, 3), torch.float32, seed) for seed in (2, 3)]
    expected = rotate(sample((5, 1, 9, 8), torch.float32, 0), *tables, *FORM)
    for y, talk in ranks.run(other_layouts, name):
        assert torch.equal(y, expected) and talk == 1


def with_plain_tables():
    x = spread(sample(SHAPE, torch.float32, 0), (), (SEQ,))
    torch_bridge.rotate(x, *(sample(TABLES["seq"], torch.float32, seed) for seed in (1, 2)), pairing=FORM[0])


def test_plain_tables_are_refused(ranks):
    """Whether they are this rank's or everybody's cannot be seen."""
    with pytest.raises(RuntimeError, match="got mixed torch.Tensor and DTensor"):
        ranks.run(with_plain_tables)


def mismatched(name):
    """Tables that do not go with x."""
    x, other = spread(sample(SHAPE, torch.float32, 0), (), (SEQ,)), (dist.get_world_size(), 1)
    table = {
        "too few rows": lambda: spread(torch.ones(8, 3), (), (0,)),
        "half": lambda: spread(torch.ones(9, 3).half(), (), (0,)),
        "another mesh": lambda: spread(torch.ones(9, 3), other, (0, None)),
    }[name]()
    rotate(x, table, table, *FORM)


@pytest.mark.parametrize("name, error", {
    "too few rows": r"cos and sin have shapes \(8, 3\) and \(8, 3\); expected one that broadcasts to x",
    "half": "cos has dtype torch.float16; expected torch.float32",
    "another mesh": "mesh",
}.items())  # fmt: skip
def test_a_mismatch_says_so(ranks, name, error):
    with pytest.raises(RuntimeError, match=f"(?s)rank 0: .*{error}"):
        ranks.run(mismatched, name)


# --- the compiler


def step(q, k, cos, sin):
    """All three forms in a graph."""
    q, k = rotate_qk(q, k, cos, sin, *FORM)
    q = torch_bridge.rotate(q, cos, sin, pairing=FORM[0], start=FORM[1], inverse=True)
    return q * 2, in_place(k, cos, sin)


def compiled(backend, dims):
    """Whether a whole graph gives the same, forward and backward, at growing lengths; what was compiled."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    same, graphs = [], []

    def keep(graph, inputs):
        graphs.append(graph.code)
        return make_boxed_func(graph.forward)

    whole = torch.compile(step, fullgraph=True, backend=backend or aot_autograd(fw_compiler=keep))
    for seq in (12, 16, 20):
        of_tables = [{SEQ: 0}.get(dim) for dim in dims]
        cos, sin = (spread(sample((seq, 3), torch.float32, seed), (), of_tables) for seed in (2, 3))
        results = []
        for function in (whole, step):
            q, k = (spread(sample((2, h, seq, 8), torch.float32, h), (), dims).requires_grad_() for h in (8, 4))
            y = function(q, k, cos, sin)
            grads = torch.autograd.grad(y, (q, k), [t.detach() for t in y])
            results.append([bits(t.to_local()) for t in (*y, *grads)])
        same.append(results[0] == results[1])
    return same, torch._dynamo.utils.counters["stats"]["unique_graphs"], graphs


BACKENDS = [None, pytest.param("inductor", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no g++"))]


@pytest.mark.in_turn
@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 13),
    reason=f"torch {torch.__version__} compiles no DTensor whose length changes, not even x * 2",
)
@pytest.mark.parametrize("dim", [HEADS, SEQ])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_compiler(ranks, backend, dim):
    """The whole graph, once for one length and once for all others, the operators on shards and no collective in it."""
    for same, times, graphs in ranks.run(compiled, backend, (dim,)):
        assert same == [True] * 3 and times == 2 and len(graphs) == (0 if backend else 2 * 2)
        for code in graphs:
            assert "rope_ref.rotate" in code and "c10d" not in code


# --- when the rules are told


ALONE = """
import sys, torch
{first}
assert ("torch.distributed.tensor" in sys.modules) == {already}
{then}
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
with torch.inference_mode():  # which skips autograd's part of an operator
    x, cos, sin = (distribute_tensor(torch.ones(4, n), init_device_mesh("cpu", (2,)), [Shard(0)]) for n in (6, 3, 3))
    assert torch.ops.rope_ref.rotate(x, cos, sin, "half-split").to_local().shape == (2, 6)
assert not any("rules" in type(finder).__module__ for finder in sys.meta_path)
"""
DTENSOR = "import torch.distributed.tensor"
LOOKED_FOR = "import importlib.util; importlib.util.find_spec('torch.distributed.tensor')"


@pytest.mark.in_turn
@pytest.mark.parametrize("first, then", [("import torch_bridge", DTENSOR), (DTENSOR, "import torch_bridge"),
                                         (f"import torch_bridge; {LOOKED_FOR}", DTENSOR)])  # fmt: skip
def test_rules_wait_for_dtensors(first, then):
    """`import torch_bridge` imports none of that; whichever comes first, the rules are there when they are needed."""
    code = ALONE.format(first=first, then=then, already=first == DTENSOR)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
