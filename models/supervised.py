"""Networks that are trained on what is known of each image: a trunk of the paper's networks and one linear layer (sections 4.2 and 4.3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import Array, Engine
from models.blocks import Linear
from models.layer import Context, Pass
from models.memory import Pool
from models.networks import NetworkSpec
from models.optimizers import Optimizer
from models.parameter import Parameter, Statistic, load
from models.vaegan import INFERENCE_IMAGES


class Supervised:
    """``trunk`` (images → units [N, U]) and ``head`` (units → ``outputs`` numbers); a subclass makes them and has the loss.

    ``trunk`` has ``parameters``, ``statistics`` and ``apply(x, pass_)``, whose result has ``output``, ``backward`` and ``release``.

    Args:
        engine, seed, optimizer, weight_decay: as in `models.vaegan.VAEGAN`.
        spec: of the same networks; its ``attributes`` are not read.
        outputs: numbers that are predicted for an image.
        freeze: train the head alone, on the units that the trunk gives with its running statistics.

    Attributes:
        loss: float64 [1], summed over the last batch.
    """

    def __init__(
        self, engine: Engine, spec: NetworkSpec, outputs: int, *, seed: int = 0, optimizer: str = "rmsprop", weight_decay: float = 2e-5,
        freeze: bool = False,
    ):  # fmt: skip
        self.engine, self.spec, self.outputs, self.freeze = engine, spec, outputs, freeze
        self.pool = Pool(engine)
        self.trunk, self.head = self.networks(Context(engine, self.pool))
        self.units = self.head.weight.shape[0]
        trained = self.trained
        for index, p in enumerate(self.parameters):
            p.allocate(engine, seed=seed, index=index, grad=p in trained)
        for s in self.statistics:
            s.allocate(engine)
        self.loss = engine.empty((1,), np.float64)
        engine.fill(self.loss, 0)
        self.optimizer = Optimizer(engine, optimizer, weight_decay)
        self.optimizer.allocate([(p, None, 1.0) for p in trained], [], [])
        self._images = 1

    def networks(self, context: Context) -> tuple[Any, Linear]:
        """(trunk, head)."""
        raise NotImplementedError

    def check_targets(self, targets: Array, n: int) -> None:
        """Raise `ValueError` unless ``targets`` are those of n images."""
        raise NotImplementedError

    def compare(self, error: Array, predicted: Array, targets: Array) -> None:
        """The loss to ``loss``, its gradient to ``error``, of predicted's shape and the engine's dtype."""
        raise NotImplementedError

    @property
    def parameters(self) -> list[Parameter]:
        return [*self.trunk.parameters, *self.head.parameters]

    @property
    def trained(self) -> list[Parameter]:
        """Those that a step updates."""
        return self.head.parameters if self.freeze else self.parameters

    @property
    def statistics(self) -> list[Statistic]:
        return list(self.trunk.statistics)

    def backpropagate(self, x: Array, targets: Array, *, training: bool = True) -> None:
        """Loss to ``loss``, gradients to ``Parameter.grad``. x [N, S, S, C]; targets as the subclass has them."""
        self.check_targets(targets, len(x))
        pass_ = Pass((len(x),), train=not self.freeze, update_running=training)
        body = self.trunk.apply(x, pass_)
        predicted, saved = self.head.forward(body.output, pass_)
        error = self.pool.take(predicted.shape)  # products take errors of the engine's dtype
        self.compare(error, predicted, targets)
        error = self.head.backward(error, saved, dx=not self.freeze, dw=True)
        self.head.release(saved)
        if not self.freeze:
            body.backward(error, dx=False, dw=True)
        body.release()

    def train_step(self, x: Array, targets: Array, lr: Any) -> None:
        """One step of rate ``lr`` on images x [N, S, S, C] and what is to be read off them."""
        self.pool.watch()
        self.backpropagate(x, targets)
        self.optimizer.update(lr)
        self.pool.settle()
        self._images = len(x)

    def fetch_loss(self) -> float:
        """The last step's loss, a mean over its images."""
        return float(self.engine.to_numpy(self.loss)[0]) / self._images

    def gradients(self, x: Array, targets: Array) -> tuple[dict[str, np.ndarray], float]:
        """Summed gradients before weight decay, {name of a trained parameter: array}, and the summed loss. No state changes."""
        kept = self.engine.to_numpy(self.loss).copy()
        self.backpropagate(self.engine.asarray(x), targets, training=False)
        loss = float(self.engine.to_numpy(self.loss)[0])
        self.engine.put(self.loss, kept)
        return {p.name: self.engine.to_numpy(p.grad).copy() for p in self.trained}, loss

    # ---- inference: running statistics ----

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] → [N, outputs]."""
        return self._infer(x)[0]

    def features(self, x: np.ndarray) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] → the FC layer's units after their ReLU, [N, U]."""
        return self._infer(x)[1]

    def _infer(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        predicted = np.empty((len(x), self.outputs), self.engine.wide)
        features = np.empty((len(x), self.units), self.engine.wide)
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
