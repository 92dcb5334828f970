"""A trained model for use: encode, decode, discriminate, and the gradients of one training step.

Axes: N images, S pixels a side, C channels, L latent numbers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels import checkpoint
from vaegan_kernels.checkpoint import Header
from vaegan_kernels.errors import UserError


class Model:
    """A trained VAE/GAN. Made by `load_model`.

    Attributes: ``header`` (step, configuration, data of the checkpoint), ``spec`` (the network), ``engine``,
    ``image_shape`` (S, S, C), ``latent`` (L).
    """

    def __init__(self, network: Any, spec: Any, header: Header) -> None:
        self.network = network
        self.spec = spec
        self.header = header
        self.engine = network.engine
        self.image_shape: tuple[int, int, int] = (spec.image_size, spec.image_size, spec.channels)
        self.latent: int = spec.latent

    def encode(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """The parameters of q(z|x), with running batch-norm statistics.

        Args:
            images: [N, S, S, C], uint8 or float in [-1, 1].

        Returns: ``mu`` and ``logvar``, each [N, L]. Raises ValueError for a wrong shape, type or range.
        """
        mu, logvar = self.network.encode(self._images(images))
        return self._numpy(mu), self._numpy(logvar)

    def decode(self, z: Any) -> np.ndarray:
        """Images [N, S, S, C], float in [-1, 1], of latent vectors ``z`` [N, L]. Raises ValueError for a wrong shape or type."""
        return self._numpy(self.network.decode(self._latents("z", z)))

    def discriminate(self, images: Any) -> np.ndarray:
        """The probability [N] that each of ``images`` [N, S, S, C] is a real one. Raises ValueError as `encode` does."""
        return self._numpy(self.network.discriminate(self._images(images))).reshape(-1)

    def gradients(
        self,
        images: Any,
        eps: Any,
        z_p: Any,
        *,
        gamma: float | None = None,
        real_weight: float | None = None,
        gan_eps: float | None = None,
        bn_groups: str | None = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """The raw summed gradients of one step of Algorithm 1: training-mode batch norm, before weight decay and gate.

        Args:
            images: [N, S, S, C], uint8 or float in [-1, 1].
            eps, z_p: [N, L], the noise of the reconstructions and the latents of the samples.
            gamma, real_weight, gan_eps, bn_groups: the objective; None takes the value of the checkpoint's configuration.

        Returns: ({parameter name: gradient}, {loss name: sum over the batch}). The model is not changed.
        Raises ValueError for a wrong shape, type, range or objective.
        """
        x = self._images(images)
        noise = self._latents("eps", eps, len(x)), self._latents("z_p", z_p, len(x))
        given = {"gamma": gamma, "real_weight": real_weight, "gan_eps": gan_eps, "bn_groups": bn_groups}
        given = {name: value for name, value in given.items() if value is not None}
        try:
            config = dataclasses.replace(self.header.config, **given)  # type: ignore[arg-type]
            config.validate()
        except (TypeError, UserError) as error:
            raise ValueError(str(error)) from None
        gradients, losses = self.network.gradients(x, *noise, config.objective())
        return {name: self._numpy(value) for name, value in gradients.items()}, {k: float(v) for k, v in losses.items()}

    def sample(self, count: int, seed: int = 0) -> np.ndarray:
        """``count`` images [count, S, S, C] of z ~ N(0, I) drawn from ``seed``."""
        return self.decode(self.prior(count, seed))

    def prior(self, count: int, seed: int = 0) -> np.ndarray:
        """``count`` latents [count, L] from N(0, I), the same for the same seed on every machine."""
        from kernels import philox

        return np.asarray(philox.normal((count, self.latent), seed=seed, step=0, stream=philox.STREAM_FIGURE_PRIOR), self.engine.wide)

    def reconstruct(self, images: Any, *, mean: bool = False, seed: int = 0) -> np.ndarray:
        """Decode a sampled z = mu + sigma*eps of each image (eps fixed by ``seed``), or mu itself with ``mean``."""
        from kernels import philox

        mu, logvar = self.encode(images)
        if mean:
            return self.decode(mu)
        eps = philox.normal(mu.shape, seed=seed, step=0, stream=philox.STREAM_FIGURE_EPS)
        return self.decode((mu + np.exp(0.5 * logvar) * eps).astype(mu.dtype))

    def _images(self, images: Any) -> np.ndarray:
        array = np.asarray(images)
        if array.ndim != 4 or array.shape[1:] != self.image_shape or len(array) == 0:
            size = ", ".join(map(str, self.image_shape))
            raise ValueError(f"images: got shape {array.shape}, expected [N, {size}] with N >= 1 (NHWC)")
        if array.dtype == np.uint8:
            return np.ascontiguousarray(array.astype(self.engine.wide) / 127.5 - 1)
        if array.dtype.kind != "f":
            raise ValueError(f"images: got dtype {array.dtype}, expected uint8, or float with values in [-1, 1]")
        low, high = float(array.min()), float(array.max())
        if not (low >= -1.001 and high <= 1.001):  # NaN fails too
            raise ValueError(f"images: got float values from {low:g} to {high:g}, expected [-1, 1] (x / 127.5 - 1), or uint8")
        return np.ascontiguousarray(array, dtype=self.engine.wide)

    def _latents(self, name: str, value: Any, count: int | None = None) -> np.ndarray:
        array = np.asarray(value)
        if array.ndim != 2 or array.shape[1] != self.latent or len(array) != (count if count is not None else max(1, len(array))):
            raise ValueError(f"{name}: got shape {array.shape}, expected [{'N' if count is None else count}, {self.latent}]")
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{name}: got dtype {array.dtype}, expected float")
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: has values that are not finite")
        return np.ascontiguousarray(array, dtype=self.engine.wide)

    def _numpy(self, array: Any) -> np.ndarray:
        return np.array(self.engine.to_numpy(array))


def load_model(path: str | Path, *, precision: str = "float32", device: str = "cpu", threads: int | None = None) -> Model:
    """The trained model in ``path``, a run folder or a checkpoint file.

    Args:
        precision: "float32", or "float64" for checks; the checkpoint's numbers are converted.
        device: "cpu", "cuda" or "auto".
        threads: CPU threads; None means all cores.

    Raises: `UserError`, in one line, for a missing, truncated, foreign or ill-fitting file, device or precision.
    """
    from models.vaegan import VAEGAN
    from vaegan_kernels.options import open_engine

    file = checkpoint.find(path)
    header = checkpoint.read_header(file)
    config = header.config
    asked = dataclasses.replace(config, device=device, precision=precision, threads=threads)
    asked.validate()
    engine, _ = open_engine(asked)
    spec = config.network_spec()
    network = VAEGAN(engine, spec, seed=config.seed, optimizer=config.optimizer, weight_decay=config.weight_decay)
    network.load_state(checkpoint.read_arrays(file, network.state_arrays(), cast=True))
    return Model(network, spec, header)
