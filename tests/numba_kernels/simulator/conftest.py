"""Nothing here is to be imported where there is neither the simulator nor a GPU: test_cuda starts the simulator."""

import os

import torch

if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1" and not torch.cuda.is_available():
    collect_ignore_glob = ["*.py"]
