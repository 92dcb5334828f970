"""The CPU engine's float32 operations in C++: microkernels on vectors, threads of their own. Built at first use for the processor at hand."""
