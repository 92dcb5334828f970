"""Benchmarks: each operation and the step beside PyTorch, memory, scaling, and what is counted instead of timed."""
