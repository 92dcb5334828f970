"""`python -m bench.aot`: every kernel compiled ahead of time for users' chips, and the rules for its machine code."""
