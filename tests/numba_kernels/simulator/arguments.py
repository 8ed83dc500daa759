"""Everything bad that may be handed in is said before a launch."""

import numpy as np
import pytest
import torch

import numba_kernels.cuda as nc
from numba_kernels.cuda.arrays import HERE
from numba_kernels.cuda.memory import SIMULATED
from tests.numba_kernels.simulator.device import Device

X, C, W = np.ones((2, 3, 4), np.float32), np.ones((3, 2), np.float32), np.ones(4, np.float32)
LONG = np.ones((4, 3, 4), np.float32)
TWICE = np.lib.stride_tricks.as_strided(np.ones((3, 4), np.float32), (2, 3, 4), (0, 16, 4))
ODD = np.zeros(49 * 4, np.int8)[1:-3].view(np.float32)[:24].reshape(2, 3, 4)


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (TypeError, "x is a ndarray", dict(x=X)),
        (TypeError, "x is a list", dict(x=[1.0])),
        (TypeError, "cos is a ndarray", dict(cos=C)),
        (TypeError, "x is on meta", dict(x=torch.ones(2, 3, 4, device="meta"))),
        (TypeError, "x needs gradients", dict(x=torch.ones(2, 3, 4, device=HERE, requires_grad=True))),
        (TypeError, "x is sparse", dict(x=torch.ones(2, 3, 4, device=HERE).to_sparse())),
        (TypeError, "lazily negated", dict(x=torch.ones(2, 3, 4, dtype=torch.cfloat, device=HERE).conj().imag)),
        (TypeError, "x has dtype int64", dict(x=Device(X.astype(int)))),
        (TypeError, "x has dtype >f4", dict(x=Device(X, typestr=">f4"))),
        (ValueError, r"x has shape \(\)", dict(x=Device(np.array(1.0)))),
        (ValueError, "x is at .* expected multiples of 4", dict(x=Device(ODD))),
        (ValueError, "pairing is 'both'", dict(pairing="both")),
        (TypeError, "pairing is", dict(pairing=["half-split"])),
        (TypeError, "inverse is 'no'", dict(inverse="no")),
        (TypeError, "start is True", dict(start=True)),
        (ValueError, "start is 1", dict(start=1)),
        (ValueError, "sin has shape", dict(sin=Device(C[:2]))),
        (TypeError, "sin has dtype int64", dict(sin=Device(C.astype(int)))),
        (TypeError, "cos has dtype uint16", dict(cos=Device(C.astype(np.uint16)))),
        (TypeError, "sin has dtype float64; expected float32", dict(sin=Device(C.astype(float)))),
        (ValueError, r"cos has shape \(\)", dict(cos=Device(C[0, 0].reshape(())))),
        (ValueError, "cos has leading axes", dict(cos=Device(np.ones((5, 2))), sin=Device(np.ones((5, 2))))),
        (IndexError, "positions span 0 to 3; expected 0 to 2", dict(positions=np.array([0, 1, 3]))),
        (IndexError, "positions span -1 to 2", dict(positions=[0, -1, 2])),
        (IndexError, "to 18446744073709551615", dict(positions=np.array([0, 1, 2**64 - 1], np.uint64))),
        (TypeError, "positions have dtype float64", dict(positions=np.ones(3))),
        (TypeError, "positions have dtype float32", dict(positions=Device(np.ones(3, np.float32)))),
        (ValueError, "positions has leading axes", dict(positions=Device(np.zeros(2, int)))),
        (ValueError, "out has shape", dict(out=Device(np.ones((2, 3, 5), np.float32)))),
        (TypeError, "out has dtype float64", dict(out=Device(np.ones((2, 3, 4))))),
        (ValueError, "out is read-only", dict(out=Device(X.copy(), readonly=True))),
        (ValueError, "written twice", dict(x=Device(TWICE), out=Device(TWICE))),
        (ValueError, "overlaps x", dict(x=Device(LONG[:2]), out=Device(LONG[1:3]))),
        (ValueError, "overlaps cos", dict(out=Device(LONG[:2]), cos=Device(LONG[0, :, :2]))),
        (ValueError, "cos is on stream 8; expected 7, as x", dict(x=Device(X, stream=7), cos=Device(C, stream=8))),
    ],
)
def test_bad_input_says_what_is_wrong_before_a_launch(monkeypatch, error, words, arguments):
    call = dict(x=Device(X), cos=Device(C), sin=Device(C), pairing="half-split") | arguments
    monkeypatch.setattr("numba_kernels.cuda.launch.run", None)
    with pytest.raises(error, match=words):
        nc.rotate(**call)
    assert all((a == 1).all() for a in (X, C, LONG, TWICE))


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (ValueError, "key has 5 channels of float32; expected 4", dict(key=Device(np.ones((2, 3, 5), np.float32)))),
        (ValueError, "key has 4 channels of float64", dict(key=Device(np.ones((2, 3, 4))))),
        (ValueError, "weights has 1 entries", dict(weights=[Device(W)])),
        (ValueError, r"weights of key have shape \(3,\)", dict(weights=[Device(W), Device(W[:3])])),
        (TypeError, "weights of key have dtype float64", dict(weights=[Device(W), Device(W.astype(float))])),
        (ValueError, "epsilon is -1", dict(weights=[Device(W), Device(W)], epsilon=-1)),
        (ValueError, "epsilon is nan", dict(weights=[Device(W), Device(W)], epsilon=np.nan)),
        (ValueError, "out has 1 entries", dict(out=[None])),
        (ValueError, "out of query overlaps out of key", dict(out=[Device(LONG[:2]), Device(LONG[1:3])])),
        (ValueError, "out of query overlaps key", dict(key=Device(LONG[:2]), out=[Device(LONG[:2]), None])),
        (ValueError, "out of key overlaps weights", dict(weights=[Device(W), Device(LONG[0, 0])],
                                                         out=[None, Device(LONG[:2])])),
    ],
)  # fmt: skip
def test_bad_input_of_pairs_says_what_is_wrong(monkeypatch, error, words, arguments):
    call = dict(query=Device(X), key=Device(X), cos=Device(C), sin=Device(C), pairing="half-split") | arguments
    monkeypatch.setattr("numba_kernels.cuda.launch.run", None)
    with pytest.raises(error, match=words):
        nc.rotate_query_key(**call)


def test_mixed_and_old_devices_are_refused(monkeypatch):
    devices = {"x": 1, "cos": 0}
    real = nc.checks.view
    monkeypatch.setattr("numba_kernels.cuda.checks.view", lambda name, a: real(name, a)._replace(
        device=devices.get(name, 1)))  # fmt: skip
    arrays = [Device(a) for a in (X, C, C)]
    with pytest.raises(ValueError, match="cos is on device 0; expected 1, as x"):
        nc.rotate(*arrays, pairing="half-split", out=arrays[0])
    devices["cos"] = 1
    monkeypatch.setattr("numba_kernels.cuda.launch.capability", lambda device: (6, 1))
    with pytest.raises(ValueError, match=r"device 1 has compute capability 6.1; expected at least 7.0"):
        nc.rotate(*arrays, pairing="half-split", out=arrays[0])


@pytest.mark.skipif(SIMULATED, reason="the simulator's memory is the host's")
def test_memory_of_the_host_is_refused():
    array = Device(X)
    array.__cuda_array_interface__["data"] = X.__array_interface__["data"]
    with pytest.raises(ValueError, match="is unknown to CUDA: CUDA_ERROR_INVALID_VALUE; expected memory of a device"):
        nc.rotate(array, Device(C), Device(C), pairing="half-split")
    with pytest.raises(TypeError, match="x is on cpu; expected a CUDA device"):
        nc.rotate(torch.from_numpy(X), Device(C), Device(C), pairing="half-split")
