"""Array operations with hand-written gradients. This floor knows nothing of networks, parameters or training.

``engine("cpu")`` returns the one object through which the floors above call an operation; every engine has the same
operations with the same signatures (`kernels.engine.OPERATIONS`).
"""

from kernels import philox
from kernels.below import Below
from kernels.engine import OPERATIONS, Engine, OutOfMemory, UpdateEntry
from kernels.open import engine

__all__ = ["OPERATIONS", "Below", "Engine", "OutOfMemory", "UpdateEntry", "engine", "philox"]
__vaegan_kernels__ = True  # lets vaegan_kernels tell this package from a foreign one of the same (common) name
