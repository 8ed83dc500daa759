"""The CUDA kernels on Numba's simulator: test_cuda runs these files in a process where it is on."""
