"""A trained model for use: encode, decode, discriminate, and the gradients of one training step.

Axes: N images, S pixels a side, C channels, L latent numbers, A attributes of a conditional model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from models.networks import NetworkSpec
from models.vaegan import VAEGAN
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.checkpoint import Header
from vaegan_kernels.shell.cli import check_choice
from vaegan_kernels.shell.errors import UserError

NEEDED = ("parameters/", "statistics/", "average/")  # of a checkpoint, to use a model; the rest is for training
EXAMPLES = "condition/examples"  # in a conditional checkpoint: attributes of training images, float32 [<= 256, A]


class Model:
    """A trained VAE/GAN, or one of the systems it is compared with. Made by `load_model`.

    A conditional model's methods want the ``attributes`` of the images, [N, A]; others take none. What a system does not have (a
    gan's encoder, a vae's discriminator) is a `UserError`.

    Attributes: ``header`` (step, configuration, data of the checkpoint), ``spec`` (the network), ``engine``, ``image_shape``
    (S, S, C), ``latent`` (L), ``system`` ("vaegan", "vae", "vae-dis" or "gan"), ``has_encoder``, ``has_discriminator``,
    ``attribute_names`` (those A of the condition; () if there is none), ``weights`` ("average" or "raw": which it is used with; "raw"
    where there is no average).
    """

    def __init__(
        self, network: VAEGAN, spec: NetworkSpec, header: Header, examples: np.ndarray | None = None, *, weights: str = "average"
    ) -> None:  # fmt: skip
        self.network = network
        self.weights = header.weights or (weights if network.followed else "raw")
        self.system: str = network.system
        self.attribute_names = header.config.condition
        self.has_encoder, self.has_discriminator = network.encoder is not None, network.discriminator is not None
        self._examples = np.empty((0, spec.attributes), np.float32) if examples is None else examples
        self.spec = spec
        self.header = header
        self.engine = network.engine
        self.image_shape: tuple[int, int, int] = (spec.image_size, spec.image_size, spec.channels)
        self.latent: int = spec.latent

    def encode(self, images: Any, attributes: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """The parameters of q(z|x), with running batch-norm statistics.

        Args:
            images: [N, S, S, C], uint8 or float in [-1, 1].
            attributes: of the images, [N, A], of a conditional model.

        Returns: ``mu`` and ``logvar``, each [N, L]. Raises ValueError for a wrong shape, type or range.
        """
        self._need(self.has_encoder, "encoder, and cannot encode or reconstruct images")
        x = self._images(images)
        with self._chosen():
            mu, logvar = self.network.encode(x, self._attributes(attributes, len(x)))
        return self._numpy(mu), self._numpy(logvar)

    def decode(self, z: Any, attributes: Any = None) -> np.ndarray:
        """Images [N, S, S, C], float in [-1, 1], of latent vectors ``z`` [N, L]. Raises ValueError for a wrong shape or type."""
        latents = self._latents("z", z)
        with self._chosen():
            return self._numpy(self.network.decode(latents, self._attributes(attributes, len(latents))))

    def discriminate(self, images: Any, attributes: Any = None) -> np.ndarray:
        """The probability [N] that each of ``images`` [N, S, S, C] is a real one. Raises ValueError as `encode` does."""
        self._need(self.has_discriminator, "discriminator")
        x = self._images(images)
        with self._chosen():
            return self._numpy(self.network.discriminate(x, self._attributes(attributes, len(x)))).reshape(-1)

    def features(self, images: Any) -> np.ndarray:
        """Dis_l of ``images``, the learned metric's features [N, F], which do not depend on attributes. Raises ValueError as `encode`."""
        self._need(self.has_discriminator, "discriminator, and no learned metric")
        x = self._images(images)
        with self._chosen():
            return self._numpy(self.network.features(x))

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of the weights that it is used with: "parameters/…" and "statistics/…" by the names of the module tree."""
        with self._chosen():
            arrays = self.network.state_arrays().items()
            return {name: self._numpy(array) for name, array in arrays if name.startswith(("parameters/", "statistics/"))}

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
        attributes: Any = None,
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """The raw summed gradients of one step (of a VAE/GAN: Algorithm 1): training-mode batch norm, before weight decay and gate.

        Args:
            images: [N, S, S, C], uint8 or float in [-1, 1].
            eps, z_p: [N, L], the noise of the reconstructions and the latents of the samples.
            attributes: of the images, [N, A], of a conditional model.
            gamma, real_weight, gan_eps, bn_groups: the objective; None takes the value of the checkpoint's configuration.

        Returns: ({parameter name: gradient}, {loss name: sum over the batch}). The model is not changed. They are a step's: of the raw
        weights, not of their average.
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
        gradients, losses = self.network.gradients(x, *noise, config.objective(), self._attributes(attributes, len(x)))
        return {name: self._numpy(value) for name, value in gradients.items()}, {k: float(v) for k, v in losses.items()}

    def sample(self, count: int, seed: int = 0, attributes: Any = None) -> np.ndarray:
        """``count`` images [count, S, S, C] of z ~ N(0, I) drawn from ``seed``; of a conditional model with `examples`' attributes
        where none are given."""
        if attributes is None and self.attribute_names:
            attributes = self.examples(count, seed)
        return self.decode(self.prior(count, seed), attributes)

    def examples(self, count: int, seed: int = 0) -> np.ndarray:
        """float32 [count, A]: attributes of ``count`` training images, chosen by ``seed`` among those that the checkpoint keeps.

        Raises `UserError` where the model has no condition.
        """
        from kernels import philox

        if not self.attribute_names:
            raise UserError("the model is not conditional: it has no attributes")
        if not len(self._examples):
            raise UserError("the checkpoint has no examples of attributes (condition/examples); give the attributes")
        order = philox.permutation(len(self._examples), seed=seed, step=0, stream=philox.STREAM_FIGURE_PRIOR)
        return np.asarray(self._examples[np.resize(order, count)])

    def mean_attributes(self) -> np.ndarray:
        """float32 [A]: the mean of all examples, for attributes that are not known. Raises `UserError` as `examples`."""
        return np.asarray(self.examples(len(self._examples)).mean(axis=0))

    def prior(self, count: int, seed: int = 0) -> np.ndarray:
        """``count`` latents [count, L] from N(0, I), the same for the same seed on every machine."""
        from kernels import philox

        return np.asarray(philox.normal((count, self.latent), seed=seed, step=0, stream=philox.STREAM_FIGURE_PRIOR), self.engine.wide)

    def reconstruct(self, images: Any, *, mean: bool = False, seed: int = 0, attributes: Any = None) -> np.ndarray:
        """Decode a sampled z = mu + sigma*eps of each image (eps fixed by ``seed``), or mu itself with ``mean``."""
        return self.decode(self.latents(images, mean=mean, seed=seed, attributes=attributes), attributes)

    def latents(self, images: Any, *, mean: bool = False, seed: int = 0, attributes: Any = None) -> np.ndarray:
        """A sampled z = mu + sigma*eps [N, L] of each image (eps fixed by ``seed``), or mu itself with ``mean``."""
        from kernels import philox

        mu, logvar = self.encode(images, attributes)
        if mean:
            return mu
        eps = philox.normal(mu.shape, seed=seed, step=0, stream=philox.STREAM_FIGURE_EPS)
        return np.asarray(mu + np.exp(0.5 * logvar) * eps, mu.dtype)

    def _chosen(self) -> AbstractContextManager[None]:
        """Inside, the network is that of ``weights``."""
        return self.network.averaged(self.weights == "average")

    def _need(self, has: bool, what: str) -> None:
        if not has:
            raise UserError(f"a model of the system {self.system} has no {what}")

    def _attributes(self, value: Any, count: int) -> np.ndarray | None:
        names = self.attribute_names
        if not names:
            if value is not None:
                raise ValueError("attributes: given, but the model is not conditional; leave them out")
            return None
        expected = f"expected [{count}, {len(names)}]: {', '.join(names)}"
        if value is None:
            raise ValueError(f"attributes: missing, {expected}")
        array = np.asarray(value)
        if array.shape != (count, len(names)) or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise ValueError(f"attributes: got {array.dtype} {list(array.shape)}, {expected}, all finite numbers")
        return np.ascontiguousarray(array, dtype=self.engine.wide)

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


def load_model(
    path: str | Path, *, precision: str = "float32", device: str = "cpu", engine: str = "auto", threads: int | None = None,
    weights: str | None = None, say: Callable[[str], None] | None = None,
) -> Model:  # fmt: skip
    """The trained model in ``path``, a run folder or a checkpoint file; or "faces", the one that comes with the program.

    Args:
        precision: "float32", or "float64" for checks; the checkpoint's numbers are converted.
        device: "cpu", "cuda" or "auto".
        engine: of the CPU: "native", "numpy", or "auto", the first in float32 where there is a compiler.
        threads: CPU threads; None means all cores.
        weights: "average", "raw", or None: the average where the run kept one.
        say: called with a line where the CPU's kernels are compiled first, which takes some seconds.

    Raises: `UserError`, in one line, for a missing, truncated, foreign or ill-fitting file, device, engine or precision.
    """
    from vaegan_kernels.settings.options import open_engine

    file = checkpoint.find(path)
    header = checkpoint.read_header(file)
    config = header.config
    if weights is not None:
        check_choice("--weights", weights, checkpoint.WEIGHTS)
    if weights == "average" and not config.average:
        raise UserError(f"--weights average: {file} has no averaged weights (it was trained without --average); leave it out, or give raw")
    if header.weights and weights not in (None, header.weights):
        raise UserError(f"--weights {weights}: {file} holds the {header.weights} weights alone; leave it out")
    asked = dataclasses.replace(config, device=device, precision=precision, engine=engine, threads=threads)
    asked.validate()
    opened, _ = open_engine(asked, say)
    spec = config.network_spec()
    if config.conditional and not config.condition:
        raise UserError(f"{file}, attribute config: conditional, but without the names of its attributes; the file is damaged")
    network = (dataclasses.replace(config, average=0.0) if header.weights else config).system(opened)
    needed = {name: array for name, array in network.state_arrays().items() if name.startswith(NEEDED)}
    network.load_state(checkpoint.read_arrays(file, needed, cast=True, partly=True), NEEDED)
    examples = checkpoint.read_extra(file, EXAMPLES) if config.conditional else None
    if examples is not None and (examples.ndim != 2 or examples.shape[1] != spec.attributes):
        raise UserError(f"{file}: {EXAMPLES} has shape {examples.shape}, expected (up to 256, {spec.attributes}); the file is damaged")
    return Model(network, spec, header, examples, weights=weights or "average")
