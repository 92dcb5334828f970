"""CUDA C and Triton without a GPU: kernels compiled by g++ and interpreted, on poisoned and guarded memory."""
