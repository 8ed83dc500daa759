"""What an installed package must do by itself, with NumPy alone:

    python smoke.py          run outside of the repository
"""

import subprocess
import sys
from importlib import metadata, resources

import numpy as np

import rope_ref as rr


def main():
    loaded = {"numba", "torch", "hypothesis", "rich", "matplotlib"} & set(sys.modules)
    assert not loaded, f"import rope_ref has loaded {loaded}"
    for name, make in rr.CATALOGUE.items():
        assert make.__doc__, name
    rope = rr.variants.llama3(head_dim=64, factor=8.0)
    x, positions = np.random.default_rng(0).standard_normal((2, 4, 16, 64)), np.arange(16)
    assert np.allclose(rr.unrotate(rr.rotate(x, positions, rope), positions, rope), x)
    assert rr.from_config({"model_type": "llama", "head_dim": 64, "num_hidden_layers": 2}).pairs == 32
    assert resources.files("rope_ref").joinpath("py.typed").is_file()
    command = [sys.executable, "-m", "rope_ref", "show", "yarn"]
    assert "arXiv 2309.00071" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    refused = subprocess.run([*command[:3], "check", "os:getcwd", "--variant", "default", "--head-dim", "8"],
                             capture_output=True, text=True)  # fmt: skip
    assert refused.returncode == 2 and "rope-ref[conformance]" in refused.stderr, refused.stderr
    print(f"rope-ref {metadata.version('rope-ref')}, numpy {np.__version__}: as it should be")


if __name__ == "__main__":
    main()
