"""A child that turns nothing and lies in the way that its argument says. Started by test_child."""

import os
import signal
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np

from rope_ref.conformance.adapters.tensors import load, save

HELLO = {"refuses": "error no such rope", "offers nothing": "ok", "offers more": "ok rotate dance", "babbles": "hi"}


def y_of(lie, x):
    """What is written under `y`."""
    changed = {
        "shape": x[:, :, :-1],
        "dtype": x.astype(np.float64),
        "integers": x.astype(np.int64),
        "bfloat16": x.astype(ml_dtypes.bfloat16),
        "nan": np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x),
    }
    return changed.get(lie, x)


def main(lie):
    for line in sys.stdin:
        operation, *words = line.split()
        paths = [Path(word) for word in words]
        if operation == "hello":
            print(HELLO.get(lie, "ok rotate tables frequencies"), flush=True)
            if lie == "talks early":
                print("by the way", flush=True)
            if lie == "leaves":
                return 0
            continue
        if lie == "dies":
            print("out of luck", file=sys.stderr)
            return 3
        if lie == "crashes":
            os.kill(os.getpid(), signal.SIGKILL)
        if lie == "hangs":
            time.sleep(1000)
        if lie == "mumbles":
            print("o", end="", flush=True)
            time.sleep(1000)
        if operation == "rotate" and lie != "writes nothing":
            write(lie, paths[1], load(paths[0])["x"])
            lie = "writes nothing" if lie == "writes once" else lie
        if operation == "tables":
            save(paths[1], {name: np.zeros((1, 1, 2, 7)) for name in ("cos", "sin")})
        if operation == "frequencies":
            save(paths[0], {"inv_freq": np.zeros(3), "scale": np.ones(1)})
        says = {"errs": "error I cannot", "errs quietly": "error", "nonsense": "okay", "twice": "ok\nok"}
        sys.stdout.write(says.get(lie, "ok") + "\n")  # one write for all, so that "twice" arrives at once
        sys.stdout.flush()
    return 0


def write(lie, file, x):
    save(file, {"z" if lie == "name" else "y": y_of(lie, x)})
    if lie == "cut short":
        file.write_bytes(file.read_bytes()[:-4])
    if lie == "garbage":
        file.write_bytes(b"y = x" * 100)


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
