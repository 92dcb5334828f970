"""The CPU engine: one file an operation in NumPy, what they share, and `engine`, which holds them together."""
