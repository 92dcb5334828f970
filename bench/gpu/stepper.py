"""A training step with its batch, noise and rate, as the trainer does it, on any engine: a function of nothing that can be captured."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import philox
from models.objective import Objective
from models.vaegan import VAEGAN

STEPS = 512  # learning rates kept; the last one stays
LEARNING_RATE = 3e-4


class Stepper:
    """``body()`` is one step. All numbers that change from step to step are in arrays of the device.

    Args:
        engine: any. spec: of the network. batch: images a step.
        images: uint8 [n, S, S, C], or None: random ones. seed: of parameters, images and noise. fuse_update: as `VAEGAN`'s.
    """

    def __init__(
        self, engine: Any, spec: Any, batch: int, objective: Objective, *, images: np.ndarray | None = None, seed: int = 0,
        fuse_update: bool = True,
    ):  # fmt: skip
        self.engine, self.objective, self.seed, self.batch = engine, objective, seed, batch
        self.model = VAEGAN(engine, spec, seed=seed, fuse_update=fuse_update)
        size = (batch, spec.image_size, spec.image_size, spec.channels)
        source = drawn_images(spec, max(64, 2 * batch), seed) if images is None else images
        self.per_epoch = len(source) // batch
        self.images = uploaded(engine, source, np.uint8)
        self.order = uploaded(engine, np.random.default_rng(seed).permutation(len(source)), np.int32)
        self.counter = uploaded(engine, np.zeros(1), np.int64)
        self.rates = uploaded(engine, np.full(STEPS, LEARNING_RATE), engine.wide)
        self.rate = engine.empty((1,), engine.wide)
        self.x = engine.empty(size)
        self.eps, self.z_p = (engine.empty((batch, spec.latent), engine.wide) for _ in range(2))

    def body(self) -> None:
        engine = self.engine
        engine.gather_batch(self.x, self.images, self.order, self.counter, per_epoch=self.per_epoch, seed=self.seed, flip=True)
        engine.normal(self.eps, seed=self.seed, step=self.counter, stream=philox.STREAM_EPS)
        engine.normal(self.z_p, seed=self.seed, step=self.counter, stream=philox.STREAM_PRIOR)
        engine.look_up_rate(self.rate, self.rates, self.counter)
        self.model.train_step(self.x, self.eps, self.z_p, self.objective, self.rate)
        engine.advance(self.counter)

    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything that the model keeps."""
        return {name: np.array(self.engine.to_numpy(array)) for name, array in self.model.state_arrays().items()}


def uploaded(engine: Any, values: Any, dtype: Any) -> Any:
    """A device array of ``dtype`` with these values."""
    values = np.ascontiguousarray(values, dtype)
    array = engine.empty(values.shape, dtype)
    engine.put(array, values)
    return array


def drawn_images(spec: Any, count: int, seed: int) -> np.ndarray:
    """Random pictures with coarse structure: uint8 [count, S, S, C]."""
    rng, size = np.random.default_rng(seed + 100), spec.image_size
    coarse = rng.uniform(0, 255, (count, size // 8, size // 8, spec.channels)).repeat(8, 1).repeat(8, 2)
    return np.clip(coarse + 25 * rng.standard_normal(coarse.shape), 0, 255).astype(np.uint8)


def mid_training(state: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """A state with nothing trivial in it, in float32: γ, β, biases and running statistics as if trained a while.

    RMSProp's first steps move every weight by the same amount whatever its gradient, by the gradient's sign alone, so a rounding
    error in a gradient near zero would be the largest of all: the mean squares are set by `warm_squares`.
    """
    rng = np.random.default_rng(seed + 1)
    result = {name: np.array(array) for name, array in state.items()}
    for name, array in result.items():
        kind = name.rsplit("/", 1)[-1]
        if kind == "gamma":
            array[...] = 1.0 + 0.2 * rng.standard_normal(array.shape)
        elif kind in ("beta", "bias", "running_mean"):
            array[...] = 0.1 * rng.standard_normal(array.shape)
        elif kind == "running_var":
            array[...] = 0.5 + rng.random(array.shape)
    return rounded(result)


def warm_squares(state: dict[str, np.ndarray], gradients: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """``state`` with each parameter's mean squares at the mean of its squared gradient."""
    squares = {f"optimizer/{name}/mean_square": np.mean(np.square(g, dtype=np.float64)) for name, g in gradients.items()}
    return rounded({k: np.full_like(a, squares[k]) if k in squares else a for k, a in state.items()})


def rounded(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state that float32 holds exactly, in its own dtypes."""
    return {k: a.astype(np.float32).astype(a.dtype) if a.dtype.kind == "f" and "gate" not in k else a for k, a in state.items()}
