"""`python -m bench.gpu`: everything that a GPU can show in one call, section by section."""
