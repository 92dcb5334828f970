"""The VAE/GAN as an autograd-free layer graph: networks, Algorithm 1, optimisers and schedules, on any engine of kernels."""

from models.networks import NETWORKS, NetworkSpec, network
from models.vaegan import VAEGAN, Objective

__all__ = ["NETWORKS", "VAEGAN", "NetworkSpec", "Objective", "network"]
__vaegan_kernels__ = True  # lets vaegan_kernels tell this package from a foreign one of the same (common) name
