"""The attribute regressor of section 4.2: almost Enc. It says how well the attributes of generated faces can be read off them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import Engine
from models.blocks import Linear
from models.encoder import trunk
from models.layer import Context, Pass
from models.memory import Pool
from models.networks import NetworkSpec
from models.optimizers import Optimizer
from models.parameter import Parameter, Statistic, load
from models.vaegan import INFERENCE_IMAGES


class Regressor:
    """Enc's convolutions and FC layer, then one linear head: images → ``outputs`` numbers, trained on their squared error.

    Args:
        engine, seed, optimizer, weight_decay: as in `models.vaegan.VAEGAN`.
        spec: of the same networks; its ``attributes`` are not read.
        outputs: numbers that are predicted for an image.

    Attributes:
        loss: float64 [1], ½ Σ (ŷ − y)² over the last batch.
    """

    def __init__(
        self, engine: Engine, spec: NetworkSpec, outputs: int, *, seed: int = 0, optimizer: str = "rmsprop", weight_decay: float = 2e-5
    ):  # fmt: skip
        self.engine, self.spec, self.outputs = engine, spec, outputs
        self.pool = Pool(engine)
        context = Context(engine, self.pool)
        self.trunk = trunk(context, "regressor", spec)
        self.head = Linear(context, "regressor/output", spec.encoder_units, outputs)
        for index, p in enumerate(self.parameters):
            p.place(engine, seed=seed, index=index)
        for s in self.statistics:
            s.place(engine)
        self.loss = engine.empty((1,), np.float64)
        engine.fill(self.loss, 0)
        self.optimizer = Optimizer(engine, optimizer, weight_decay)
        self.optimizer.place([(p, None) for p in self.parameters], [])
        self._images = 1

    @property
    def parameters(self) -> list[Parameter]:
        return [*self.trunk.parameters, *self.head.parameters]

    @property
    def statistics(self) -> list[Statistic]:
        return self.trunk.statistics

    def backpropagate(self, x: Any, targets: Any, *, training: bool = True) -> None:
        """Loss to ``loss``, gradients to ``Parameter.grad``. x [N, S, S, C]; targets wide [N, outputs]."""
        if tuple(targets.shape) != (len(x), self.outputs):
            raise ValueError(f"targets: got shape {tuple(targets.shape)}, expected ({len(x)}, {self.outputs})")
        pass_ = Pass((len(x),), update_running=training)
        body = self.trunk.apply(x, pass_)
        predicted, saved = self.head.forward(body.output, pass_)
        wide = self.pool.take(predicted.shape, self.engine.wide)
        self.engine.feature_likelihood(self.loss, wide, predicted, targets)
        error = self.pool.take(predicted.shape)  # products take errors of the engine's dtype
        self.engine.copy(error, wide)
        self.pool.give(wide)
        error = self.head.backward(error, saved, dx=True, dw=True)
        self.head.release(saved)
        body.backward(error, dx=False, dw=True)
        body.release()

    def train_step(self, x: Any, targets: Any, lr: Any) -> None:
        """One step of rate ``lr`` on images x [N, S, S, C] and what is to be read off them, targets wide [N, outputs]."""
        self.pool.watch()
        self.backpropagate(x, targets)
        self.optimizer.update(lr)
        self.pool.settle()
        self._images = len(x)

    def fetch_loss(self) -> float:
        """The last step's loss, a mean over its images."""
        return float(self.engine.to_numpy(self.loss)[0]) / self._images

    def gradients(self, x: Any, targets: Any) -> tuple[dict[str, np.ndarray], float]:
        """Summed gradients before weight decay, {parameter name: array}, and the summed loss. No state changes."""
        kept = self.engine.to_numpy(self.loss).copy()
        self.backpropagate(self.engine.asarray(x), self.engine.asarray(targets, self.engine.wide), training=False)
        loss = float(self.engine.to_numpy(self.loss)[0])
        self.engine.put(self.loss, kept)
        return {p.name: self.engine.to_numpy(p.grad).copy() for p in self.parameters}, loss

    # ---- inference: running statistics ----

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] → [N, outputs]."""
        return self._infer(x)[0]

    def features(self, x: np.ndarray) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] → the FC layer's units after their ReLU, [N, encoder_units]."""
        return self._infer(x)[1]

    def _infer(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        predicted = np.empty((len(x), self.outputs), self.engine.wide)
        features = np.empty((len(x), self.spec.encoder_units), self.engine.wide)
        for start in range(0, len(x), INFERENCE_IMAGES):
            cut = slice(start, start + INFERENCE_IMAGES)
            piece = self.engine.asarray(x[cut])
            pass_ = Pass((len(piece),), train=False)
            body = self.trunk.apply(piece, pass_)
            y, saved = self.head.forward(body.output, pass_)
            predicted[cut], features[cut] = self.engine.to_numpy(y), self.engine.to_numpy(body.output)
            self.head.release(saved)
            body.release()
        return predicted, features

    # ---- state ----

    def state_arrays(self) -> dict[str, Any]:
        """As `models.vaegan.VAEGAN.state_arrays`: "parameters/…", "statistics/…", "optimizer/…/…", live."""
        state = {f"parameters/{p.name}": p.data for p in self.parameters}
        state |= {f"statistics/{s.name}": s.data for s in self.statistics}
        return state | {f"optimizer/{p.name}/{key}": array for p in self.parameters for key, array in p.state.items()}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy ``arrays`` (as from `state_arrays`) in. Raises `ValueError` as `models.parameter.load` does."""
        load(self.engine, self.state_arrays(), arrays)
        for p in self.parameters:
            p.refresh(self.engine)
