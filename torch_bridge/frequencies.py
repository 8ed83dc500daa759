"""Frequencies of the drop-in: held in a parameter as in the original, exact whatever it was cast or rounded to."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rope_ref import frequencies
from torch_bridge.functions import wide

HALVES = (torch.float16, torch.bfloat16)


def whole(dim: Any) -> int:
    """A number of channels, of NumPy or torch too. Raises TypeError for what is no whole number."""
    try:
        if not isinstance(dim, bool):
            return operator.index(dim)
    except TypeError:
        pass
    raise TypeError(f"dim is {dim!r}; expected a whole number")


def chosen(
    dim: int, custom_freqs: Tensor | None, freqs_for: str, theta: float, max_freq: float, num_freqs: int,
    theta_rescale_factor: float,
) -> Tensor:  # fmt: skip
    """The frequencies (pairs,) in float64 that the arguments of a RotaryEmbedding ask for."""
    if custom_freqs is not None:
        if not isinstance(custom_freqs, Tensor) or custom_freqs.is_complex():
            raise TypeError(f"custom_freqs are {custom_freqs!r}; expected a real tensor")
        if custom_freqs.ndim != 1:
            raise ValueError(f"custom_freqs have shape {tuple(custom_freqs.shape)}; expected (pairs,)")
        return custom_freqs.detach().to(device="cpu", dtype=torch.float64, copy=True)
    if freqs_for == "lang":
        base = frequencies.ntk_theta(theta, theta_rescale_factor, dim)
        return torch.from_numpy(frequencies.geometric(dim, base))
    if freqs_for == "pixel":
        return torch.from_numpy(frequencies.pixel(dim - dim % 2, max_freq))
    if freqs_for == "constant":
        return torch.from_numpy(frequencies.constant(num_freqs))
    raise ValueError(f"freqs_for is {freqs_for!r}; expected 'lang', 'pixel' or 'constant'")


class Frequencies(nn.Module):
    """A module whose parameter `freqs` stands for exact frequencies.

    The parameter has the dtype that the original's state dict has; `_exact` gives back what that rounds away, as long
    as nobody changes the parameter.
    """

    freqs: nn.Parameter
    freqs_for: str
    learned_freq: bool
    cache_if_possible: bool

    def _hold(self, exact: Tensor, custom_freqs: Tensor | None) -> None:
        # float32 as in the original's state dict; `_exact` gives back what that rounds away
        device = torch.get_default_device() if custom_freqs is None else custom_freqs.device
        double = custom_freqs is not None and custom_freqs.dtype == torch.float64
        self.freqs = nn.Parameter((exact if double else exact.float()).to(device), requires_grad=self.learned_freq)
        self._exact = exact
        self._angles_in = self.freqs.dtype  # what the module was cast to, though frequencies keep their digits

    @property
    def learns(self) -> bool:
        """Whether frequencies are trained: as in the original, where what is kept of frozen ones has no gradient."""
        frozen = not self.learned_freq and self.cache_if_possible and self.freqs_for != "pixel"
        return self.freqs.requires_grad and not frozen

    @property
    def device(self) -> torch.device:
        return self.freqs.device

    def _omega(self, device: torch.device) -> Tensor:
        """Frequencies in force: the exact ones wherever `freqs` still is what they round to."""
        if hasattr(self.freqs, "device_mesh"):
            raise ValueError(
                "freqs are a DTensor, of which FSDP gathers the whole in forward alone; expected a call from within a "
                "module under fully_shard, or register_fsdp_forward_method for the method that is called"
            )
        if self.learns and self.freqs.dtype in HALVES:
            raise ValueError(
                f"freqs are {self.freqs.dtype}, which rounds what is learned; expected float32 or float64: under mixed "
                f"precision, give this module to fully_shard by itself, with no param_dtype"
            )
        if self.learns or self.freqs.shape != self._exact.shape:
            return self.freqs.to(device, wide(device))
        freqs, exact = self.freqs.detach().to(device, wide(device)), self._exact.to(device, wide(device))
        rounded = exact.to(self.freqs.dtype)  # a half type under FSDP's mixed precision
        return torch.where((freqs == exact) | (freqs == exact.float()) | (freqs == rounded), exact, freqs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frequencies":
        """Move with the module; never round frequencies to a half type, never leave them uninitialised."""
        before, sharded = self.freqs.detach(), hasattr(self.freqs, "device_mesh")
        super()._apply(fn, recurse)
        self._angles_in = self.freqs.dtype
        dtype = before.dtype if self.freqs.dtype in HALVES else self.freqs.dtype
        lost = before.is_meta
        if lost:
            before = self._exact_shard() if sharded else self._exact
        if lost or dtype != self.freqs.dtype or not self.freqs.requires_grad:
            before = before.to(self.device, dtype)
            if sharded:  # setting .data leaves the memory of a DTensor as it is
                self.freqs = nn.Parameter(before, self.freqs.requires_grad)
            else:
                self.freqs.data = before
        return self

    def _exact_shard(self) -> Tensor:
        """The exact frequencies, split as `freqs` is."""
        from torch.distributed.tensor import DTensor

        from torch_bridge.sharding import spread

        assert isinstance(self.freqs, DTensor)
        return spread(self._exact.to(self.device), self.freqs.device_mesh, self.freqs.placements)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """A half-precision checkpoint of the frequencies in force leaves those in force."""
        loaded, dtype = state_dict.get(prefix + "freqs"), self.freqs.dtype
        super()._load_from_state_dict(state_dict, prefix, *args)
        if loaded is not None and loaded.dtype in HALVES and loaded.shape == self._exact.shape:
            exact = self._exact.to(loaded.device)
            same = torch.allclose(loaded.double(), exact, rtol=2 * torch.finfo(loaded.dtype).eps, atol=0)
            if same and not self.learns:
                self.freqs.data = exact.to(dtype)
            elif self.freqs.dtype in HALVES:  # assigned as it is, which would round what is learned from then on
                self.freqs.data = self.freqs.data.to(dtype)
