"""How good images are: distances, sharpness, diversity."""
