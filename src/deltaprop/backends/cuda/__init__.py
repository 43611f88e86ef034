"""The CUDA backend: CuPy's arrays, kernels of our own, and cuBLAS."""
