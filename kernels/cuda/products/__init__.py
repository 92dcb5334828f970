"""Matrix products in Triton: convolutions, linear layers, their gradients and epilogues; a launcher `x.py` beside its `x_kernel.py`."""
