"""The CUDA engine: Triton for matrix products, CUDA C for the rest, CuPy arrays as memory."""
