"""How good images and models are: distances, sharpness, diversity; attribute vectors, and the regressor that judges attributes."""
