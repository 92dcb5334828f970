"""The same training step in PyTorch: what this project is measured against."""
