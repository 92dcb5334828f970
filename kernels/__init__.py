"""Array operations with hand-written gradients. This floor knows nothing of networks, parameters or training.

``engine("cpu")`` returns the one object through which the floors above call an operation; `kernels.contract` says what each does.
"""

from kernels import philox
from kernels.contract.batch_norm import Running
from kernels.contract.operation import OPERATIONS, Array
from kernels.contract.optimizer import UpdateEntry
from kernels.contract.previous import Previous
from kernels.engine import CompilationError, Engine, Gradients, OutOfMemory
from kernels.open import engine

__all__ = [
    "OPERATIONS", "Array", "CompilationError", "Engine", "Gradients", "OutOfMemory", "Previous", "Running", "UpdateEntry", "engine",
    "philox",
]  # fmt: skip
__vaegan_kernels__ = True  # lets vaegan_kernels tell this package from a foreign one of the same (common) name
