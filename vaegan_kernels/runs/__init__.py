"""A run from its first step to its checkpoint: training loop, run folder, resuming, and the trained model."""
