"""The specification, the kernels and the bridge behind one call."""

import os

import numpy as np
import torch

import numba_kernels as nk
import rope_ref as rr
import torch_bridge.rotation as bridge
from tests.oracles import arithmetic, stored, value
from tests.strategies import DTYPES
from torch_bridge.cuda import installed
from torch_bridge.plain import plain


def spec(x, positions, rope, dtype, inverse=False):
    return (rr.unrotate if inverse else rr.rotate)(x, positions, rope)


def kernels(x, positions, rope, dtype, inverse=False):
    cos, sin = tables(rope, positions, dtype, inverse)
    y = nk.rotate(stored(x, dtype), cos, sin, pairing=rope.pairing, start=rope.start, inverse=inverse)
    return value(y, dtype)


def on_device(x, positions, rope, dtype, inverse=False):
    import numba_kernels.cuda as nc
    from tests.numba_kernels.simulator.device import Device

    arrays = [Device(a) for a in (stored(x, dtype), *tables(rope, positions, dtype, inverse))]
    return value(nc.rotate(*arrays, pairing=rope.pairing, start=rope.start, inverse=inverse).copy_to_host(), dtype)


def on_torch(turn, device="cpu"):
    def rotate(x, positions, rope, dtype, inverse=False):
        cos, sin = (torch.from_numpy(t.copy()).to(device) for t in tables(rope, positions, dtype, inverse))
        t = torch.from_numpy(np.array(x)).to(device, getattr(torch, dtype))
        return turn(t, cos, -sin if inverse else sin, rope.pairing, rope.start).double().cpu().numpy()

    return rotate


def tables(rope, positions, dtype, inverse):
    """Those of `positions`; for the inverse, divided twice by the magnitude that they hold."""
    cos, sin = rr.tables(rope, positions)
    over = rr.rotation.magnitude(rope, positions) ** 2 if inverse else 1.0
    return (cos / over).astype(arithmetic(dtype)), (sin / over).astype(arithmetic(dtype))


def bridged(x, cos, sin, pairing, start):
    return bridge.rotate(x, cos, sin, pairing=pairing, start=start)


BACKENDS = {
    "spec": spec,
    "kernels": kernels,
    "bridge": on_torch(bridged),
    "bridge in plain torch": on_torch(plain),
}
if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":  # Numba reads it once: test_cuda starts such a process
    BACKENDS["cuda simulator"] = on_device
elif torch.cuda.is_available() and installed():
    BACKENDS |= {"cuda": on_device, "bridge on cuda": on_torch(bridged, "cuda")}
CASES = [(name, dtype) for name in BACKENDS for dtype in (["float64"] if name == "spec" else DTYPES)]
