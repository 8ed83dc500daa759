"""The CUDA kernels on Numba's simulator, as test_cuda runs these files, or on a GPU, as test_gpu does."""
