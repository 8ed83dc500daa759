"""Between the kit's float64 NumPy arrays and the arrays of an implementation."""

import importlib
import sys
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]  # of float64, of positions, or of both

MANTISSA = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
LEAST_EXPONENT = {"float64": -1021, "float32": -125, "float16": -13, "bfloat16": -125}


def rounded(x: ArrayLike, dtype: str) -> Array:
    """x rounded to a dtype, to nearest, ties to even, as float64.

    >>> rounded([257.0, 1.0], "bfloat16")
    array([256.,   1.])
    """
    x = np.asarray(x, np.float64)
    _, exponent = np.frexp(x)
    unit = np.exp2(np.maximum(exponent, LEAST_EXPONENT[dtype]) - MANTISSA[dtype])
    return np.asarray(np.rint(x / unit) * unit)


def given(x: NDArray[Any], dtype: str, kind: str) -> Any:
    """The array of a kind that holds x; the numbers must be those of the dtype already."""
    if kind == "numpy":
        return x.astype(numpy_dtype(dtype), order="C")
    if kind == "torch":
        torch = load_torch()
        return torch.from_numpy(np.array(x, order="C")).to(getattr(torch, dtype))
    jax = importlib.import_module("jax")
    return jax.numpy.asarray(x, dtype=jax.dtypes.canonicalize_dtype(dtype))


@cache
def load_torch() -> Any:
    """torch, once it has called sin and cos: MKL chooses their code in the first call, and where two threads share that
    call (a large tensor), one of them may run code of 12 bits (pytorch/pytorch#188792). One number takes one thread."""
    torch = importlib.import_module("torch")
    for dtype in (torch.float32, torch.float64):
        torch.zeros(1, dtype=dtype, device="cpu").sin().cos()
    return torch


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype of a name. Raises ImportError for bfloat16 without ml_dtypes."""
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)


def dtype_name(array: Any) -> str:
    """ "float32", "bfloat16", ... of an array of any kind."""
    return str(array.dtype).removeprefix("torch.")


def numbers(array: Any) -> Array:
    """The numbers of an array of any kind. Raises TypeError for what is no array of real numbers."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        if array.device.type == "meta":
            raise TypeError("returned a tensor on the meta device; expected numbers")
        array = array.detach().to("cpu", torch.float64).numpy()
    elif not isinstance(array, np.ndarray) and hasattr(array, "__dlpack__"):
        try:
            array = np.from_dlpack(array)
        except (BufferError, RuntimeError, TypeError):  # a dtype or a device that NumPy does not have
            array = np.asarray(array)
    array = np.asarray(array)
    if array.dtype.kind not in "fiuV" or array.dtype.names:
        raise TypeError(f"returned {array.dtype}; expected an array of real numbers")
    return np.asarray(array, np.float64)


def exists(dtype: str, kind: str) -> bool:
    """Whether arrays of a kind have a dtype: jax makes float32 of float64 unless it is told otherwise."""
    return dtype_name(given(np.zeros(1), dtype, kind)) == dtype


def kind_of(array: Any) -> str | None:
    """ "numpy", "torch" or "jax", or None for what is none of them."""
    module = type(array).__module__.partition(".")[0]
    return {"numpy": "numpy", "torch": "torch", "jax": "jax", "jaxlib": "jax"}.get(module)


def arranged(x: NDArray[Any], layout: str) -> NDArray[Any]:
    """x (batch, heads, seq, head_dim) with the axes of a layout, "(hd)" standing for heads and head_dim in one.

    >>> arranged(np.zeros((2, 3, 5, 8)), "bs(hd)").shape
    (2, 5, 24)
    """
    letters = layout.replace("(", "").replace(")", "")
    if "b" not in letters:
        x, order = x[0], "hsd"
    else:
        order = "bhsd"
    x = x.transpose([order.index(letter) for letter in letters])
    if "(" in layout:
        at = layout.index("(")
        x = x.reshape(*x.shape[:at], -1, *x.shape[at + 2 :])
    return x


def restored(y: Array, layout: str, shape: tuple[int, ...]) -> Array:
    """The inverse of `arranged`: y as an array of `shape` (batch, heads, seq, head_dim). Raises ValueError."""
    sizes = dict(zip("bhsd", shape, strict=True))
    letters = layout.replace("(", "").replace(")", "")
    expected = arranged(np.empty(shape), layout).shape
    if y.shape != expected:
        raise ValueError(f"returned shape {y.shape}; expected {expected}, the shape of x")
    y = y.reshape([sizes[letter] for letter in letters])
    order = "bhsd" if "b" in letters else "hsd"
    y = y.transpose([letters.index(letter) for letter in order])
    return y if "b" in letters else y[None]


def check_layout(layout: str) -> None:
    """Raise ValueError unless the layout names heads, seq and head_dim once each, and batch at most once."""
    letters = layout.replace("(hd)", "hd")
    if sorted(letters) not in (list("bdhs"), list("dhs")):
        raise ValueError(
            f"layout is {layout!r}; expected the letters b, h, s, d, with (hd) for heads and head_dim in one"
        )
