"""The rotary embeddings of other libraries, through the kit: `python -m examples.libraries [name ...]`

A file a library. CHECKS are right as they are, FAULTS are wrong as they are, with the class that the kit must name, and
MENDED are the same without the fault. Each library is installed by itself under build/libraries, without what it
depends on unless its rotary embedding needs that too; nothing of it is in the environment that runs the tests.
"""

import importlib
import sys
import types
from importlib.machinery import PathFinder

# What is installed for each library: pinned, since its bugs are those of this version.
REQUIREMENTS = {
    "diffusers": ["diffusers==0.42.1"],
    "equinox": ["equinox==0.13.8", "jax==0.10.2", "jaxlib==0.10.2", "jaxtyping", "opt_einsum", "scipy",
                "wadler_lindig"],
    "esm": ["esm==3.2.1.post1"],
    "fair_esm": ["fair-esm==2.0.0"],
    "fairseq2": ["fairseq2==0.8.1"],
    "keras_hub": ["keras-hub==0.32.0", "keras==3.15.1", "absl-py", "optree", "namex", "h5py"],
    "litgpt": ["litgpt==0.5.13", "jsonargparse", "lightning", "lightning-utilities", "psutil", "torchmetrics"],
    "mlx_lm": ["mlx-lm==0.32.2"],
    "speechbrain": ["speechbrain==1.1.2", "hyperpyyaml", "ruamel.yaml", "joblib"],
    "timm": ["timm==1.0.31"],
    "torchtitan": ["torchtitan==0.3.0", "spmd_types", "tyro", "docstring_parser", "typeguard"],
    "torchtune": ["torchtune==0.6.1"],
    "vit_pytorch": ["vit-pytorch==1.26.11"],
    "x_transformers": ["x-transformers==2.31.10", "einx", "frozendict", "loguru", "torch-einops-utils"],
}  # fmt: skip


def rows_of(places):
    """positions (seq, axes) -> which of these places each is: the row of a table that holds one grid."""
    rows = {tuple(place): row for row, place in enumerate(places.tolist())}
    return lambda positions: [rows[tuple(p)] for p in positions.tolist()]


def alone(module):
    """A module, imported without running the `__init__` of the packages around it, which need what is not installed."""
    *packages, _ = module.split(".")
    path = None
    for i in range(len(packages)):
        name = ".".join(packages[: i + 1])
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        path = list(spec.submodule_search_locations)
        empty = sys.modules.setdefault(name, types.ModuleType(name))
        empty.__path__ = path
    return importlib.import_module(module)
