"""`python -m bench.aot`: every kernel compiled ahead of time for users' chips, and what its machine code must keep to."""
