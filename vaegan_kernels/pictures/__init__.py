"""What a run draws: grids, curves, animations and labelled figures."""
