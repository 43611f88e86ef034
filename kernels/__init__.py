"""CUDA C++ sources of the CuPy backend: read as text and compiled at run time, one idea a file."""
