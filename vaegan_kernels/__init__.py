"""Train and use the VAE/GAN of Larsen et al. (2016) with hand-written kernels.

``vaegan_kernels.load_model(path)`` gives a trained model: encode, decode, discriminate, gradients.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vaegan_kernels.shell import interrupt

interrupt.begin()  # before anything that takes its time

if TYPE_CHECKING:
    from vaegan_kernels.runs.inference import Model

__all__ = ["UserError", "__version__", "load_model"]

# `kernels` and `models` are common names. A foreign package that shadows one would fail later and obscurely.
for _name in ("kernels", "models"):
    _package = importlib.import_module(_name)
    if getattr(_package, "__vaegan_kernels__", None) is not True:
        raise ImportError(
            f"the package {_name!r} at {getattr(_package, '__file__', None) or list(_package.__path__)} is not the one of "
            "vaegan-kernels: another package of that name comes first; install vaegan-kernels in a virtual environment of its own"
        )

from vaegan_kernels.shell.errors import UserError  # noqa: E402
from vaegan_kernels.version import __version__  # noqa: E402


def load_model(path: Any, **options: Any) -> Model:
    """The trained model in ``path``, a run folder, a checkpoint file or "faces". See `vaegan_kernels.runs.inference.load_model`."""
    from vaegan_kernels.runs.inference import load_model as load

    return load(path, **options)
