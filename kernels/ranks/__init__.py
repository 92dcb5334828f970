"""Several processes that compute one step together, each on its share of the batch; they know nothing of networks."""
