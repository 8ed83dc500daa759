"""CUDA tensors through the CUDA kernels, where the package numba-cuda (the extra `cuda`) is installed."""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor


@cache
def installed() -> bool:
    """Whether there are CUDA kernels; without them plain torch does the same."""
    if find_spec("numba_cuda") is None:
        return False
    try:
        import numba_kernels.cuda  # noqa: F401
    except ImportError:  # bindings to CUDA are missing or do not fit
        return False
    return True


def by_cuda(
    x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int, inverse: bool, out: Tensor | None = None
) -> Tensor:
    """Turn the pairs of x, into a new tensor without `out`: one launch on the current stream, and no wait."""
    from numba_kernels.cuda import rotate

    with torch.no_grad():  # gradients are the caller's, and no_grad lets kernels read what has some
        turned: Tensor = rotate(x, cos, sin, pairing=pairing, start=start, inverse=inverse, out=out)
    return turned


def both_by_cuda(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Query and key, of one dtype and as many channels, in one launch."""
    from numba_kernels.cuda import rotate_query_key

    with torch.no_grad():
        turned: tuple[Tensor, Tensor] = rotate_query_key(
            query, key, cos, sin, pairing=pairing, start=start, inverse=inverse
        )
    return turned


def norm_by_cuda(
    x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, epsilon: float, pairing: str, start: int
) -> Tensor:
    """Rows of x divided by their root mean square, weighed, and turned, in one launch."""
    from numba_kernels.cuda import normalise_and_rotate

    with torch.no_grad():
        turned: Tensor = normalise_and_rotate(x, weight, cos, sin, epsilon=epsilon, pairing=pairing, start=start)
    return turned
