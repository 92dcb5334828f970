"""The CPU engine's float32 operations in C++: microkernels on vectors, threads of their own. Compiled at first use for this machine."""
