"""Memory that large results leave behind: used again, never while somebody holds it."""

import gc
import mmap
import threading

import numpy as np
import pytest
import torch

import torch_bridge.rotation as bridge
from tests.test_operators import numbers
from torch_bridge import direct, memory, operators

SIZE = 1 << 16  # bytes
WHERE = torch.empty(SIZE, dtype=torch.uint8)
keeps = pytest.mark.skipif(not hasattr(mmap, "MADV_FREE"), reason="nothing is kept here")


@pytest.fixture(autouse=True)
def nothing_kept():
    memory.KEPT.clear()
    yield
    memory.KEPT.clear()


@keeps
def test_what_is_gone_serves_the_next():
    x = memory.like(WHERE)
    place = x.data_ptr()
    del x
    assert len(memory.KEPT) == 1 and memory.like(WHERE.view(4, -1).float()[:, : SIZE // 16]).data_ptr() == place
    assert memory.like(WHERE[1:]).data_ptr() != place  # of another size


@pytest.mark.parametrize("hold", [lambda x: x[3:], lambda x: x.numpy(), lambda x: x.untyped_storage(),
                                  lambda x: np.from_dlpack(x), lambda x: x.view(torch.int16)])  # fmt: skip
def test_what_somebody_holds_is_left_alone(hold):
    x = memory.like(WHERE).fill_(7)
    held = hold(x)
    del x
    gc.collect()
    assert not memory.KEPT
    memory.like(WHERE).fill_(9)
    assert held[0] == hold(torch.full_like(WHERE, 7))[0]


def test_few_are_kept():
    several = [memory.like(WHERE) for _ in range(3 * memory.MOST)]
    assert len({x.data_ptr() for x in several}) == len(several)
    del several
    assert len(memory.KEPT) <= memory.MOST


def test_nothing_large_is_kept_that_the_system_could_not_have_back(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", SIZE)
    monkeypatch.delattr(mmap, "MADV_FREE", raising=False)
    monkeypatch.delattr(mmap, "MAP_ANONYMOUS", raising=False)
    assert memory.like(WHERE).fill_(1).sum() == SIZE
    assert not memory.KEPT


def test_threads():
    wrong = []

    def work(number):
        for _ in range(300):
            x = memory.like(WHERE).fill_(number)
            y = memory.like(WHERE).fill_(number + 1)
            if (x != number).any() or (y != number + 1).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(10 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and len(memory.KEPT) <= memory.MOST


def test_large_rotations_in_memory_of_others(monkeypatch):
    """Forward and backward, channels that pass through included: no number of what was there before remains."""
    monkeypatch.setattr(direct, "HUGE", 0)
    cos, sin = numbers(2, 5, 3)
    for seed in range(6):
        x, grad = numbers(2, 5, 9, seed=seed).requires_grad_(), numbers(2, 5, 9, seed=seed + 10)
        memory.like(x).fill_(torch.nan)
        y = bridge.rotate(x, cos, sin, pairing="interleaved", start=1)
        memory.like(x).fill_(torch.nan)
        (to_x,) = torch.autograd.grad(y, x, grad)
        assert torch.equal(y, bridge.plain(x, cos, sin, "interleaved", 1))
        assert torch.equal(to_x, bridge.plain(grad, cos, sin, "interleaved", 1, True))


@pytest.mark.parametrize("steps", [(0, 0, 0), (1, 2, 10)])
def test_channels_that_are_not_side_by_side(steps):
    """As in the gradient of a sum, or of a transposed product: untouched themselves, and the result contiguous."""
    x = numbers(100)[:60].as_strided((2, 5, 6), steps)
    before, (cos, sin) = x.clone(), numbers(2, 5, 3)
    turned = operators.rotate(x, cos, sin, "half-split")
    assert torch.equal(turned, bridge.plain(before, cos, sin, "half-split")) and turned.is_contiguous()
    assert torch.equal(x, before)
