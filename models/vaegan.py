"""The VAE/GAN: its three networks, their state, and one training step (Algorithm 1 is `models.algorithm1.backpropagate`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels import Engine
from models.algorithm1 import LOSSES, Objective, backpropagate
from models.decoder import decoder
from models.discriminator import Discriminator
from models.encoder import Encoder
from models.layer import Context, Pass
from models.memory import Pool
from models.networks import NetworkSpec
from models.optimizers import Optimizer
from models.parameter import Parameter, Statistic

__all__ = ["VAEGAN", "Objective"]

INFERENCE_IMAGES = 64  # images in one piece of an inference pass


class VAEGAN:
    """Enc, Dec and Dis on one engine.

    Args:
        engine: `kernels.engine`.
        spec: `models.network`.
        seed: of the initial parameters.
        optimizer, weight_decay: see `models.optimizers.Optimizer`.
        fuse_update: whether Enc's FC weights, two thirds of all, are updated where their gradient is made (RMSProp only), so that
            it is never stored; None: where the engine says that this pays.

    Attributes:
        encoder, decoder, discriminator: the networks.
        pool: every activation and error comes from it.
        losses: float64 [5], sums of the last step (`models.algorithm1.LOSSES` names them).
        flags: uint8 [2], the last step's equilibrium gate: (Dec updated, Dis updated).
        gate_counts: float64 [3], steps, Dec updates and Dis updates since `fetch_losses` was last called.
    """

    def __init__(
        self, engine: Engine, spec: NetworkSpec, *, seed: int = 0, optimizer: str = "rmsprop", weight_decay: float = 2e-5,
        fuse_update: bool | None = None,
    ):  # fmt: skip
        self.engine, self.spec = engine, spec
        self.pool = Pool(engine)
        context = Context(engine, self.pool)
        self.encoder, self.decoder = Encoder(context, spec), decoder(context, spec)
        self.discriminator = Discriminator(context, spec)
        self.optimizer = Optimizer(engine, optimizer, weight_decay)
        fuse = optimizer == "rmsprop" and (engine.fuses_update if fuse_update is None else fuse_update)
        self.fused = [self.encoder.largest] if fuse else []
        for index, p in enumerate(self.parameters):
            p.place(engine, seed=seed, index=index, grad=p not in self.fused)
        for s in self.statistics:
            s.place(engine)
        self.losses = engine.empty((len(LOSSES),), np.float64)
        self.flags = engine.empty((2,), np.uint8)
        self.gate_counts = engine.empty((3,), np.float64)
        for array, value in ((self.losses, 0), (self.flags, 1), (self.gate_counts, 0)):
            engine.fill(array, value)
        # Enc is never gated
        networks = (self.encoder, None), (self.decoder, self.flags[0:1]), (self.discriminator, self.flags[1:2])
        self.optimizer.place([(p, flag) for net, flag in networks for p in net.parameters], self.fused)
        self._rows = (1, 1, 1)  # images, real rows and generated rows of the last step, to turn sums into means

    @property
    def parameters(self) -> list[Parameter]:
        """All trained arrays in a fixed order: Enc, Dec, Dis, each from input to output."""
        return [*self.encoder.parameters, *self.decoder.parameters, *self.discriminator.parameters]

    @property
    def statistics(self) -> list[Statistic]:
        return [*self.encoder.statistics, *self.decoder.statistics, *self.discriminator.statistics]

    # ---- training ----

    def train_step(self, x: Any, eps: Any, z_p: Any, objective: Objective, lr: Any) -> None:
        """One step of Algorithm 1: losses, gate, gradients, updates. Nothing is returned; see `fetch_losses`.

        Args:
            x: images [N, S, S, C] in [-1, 1]. eps, z_p: [N, latent], wide, draws from N(0, I).
            lr: the applied learning rate of this step, a float or a wide array [1].
        """
        for p in self.fused:
            p.product = self.optimizer.fused_update(p, lr)
        backpropagate(self, x, eps, z_p, objective)
        self.optimizer.update(lr)
        for p in self.fused:
            p.product = None
        self.engine.count_gate(self.gate_counts, self.flags)
        self._rows = (len(x), len(x), objective.generated(len(x)))

    def fetch_losses(self) -> dict[str, float]:
        """The last step's losses as means (prior, like: an image; gan_*, generator: a row of Dis's batch), and the share of
        steps since the last call in which Dec and Dis were updated."""
        images, real, generated = self._rows
        counts = np.array([images, images, real, generated, generated])
        result = dict(zip(LOSSES, (self.engine.to_numpy(self.losses) / counts).tolist(), strict=True))
        steps, dec, dis = self.engine.to_numpy(self.gate_counts).tolist()
        self.engine.fill(self.gate_counts, 0)
        return {**result, "dec_updated": dec / max(1.0, steps), "dis_updated": dis / max(1.0, steps)}

    def gradients(self, x: Any, eps: Any, z_p: Any, objective: Objective) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Summed gradients of Algorithm 1 before weight decay and gate, and the summed losses. No state changes.

        Args as in `train_step`. Returns {parameter name: array}, {"prior", "like", "gan", "gan_real", "gan_generated", and
        "generator" with the non-saturating loss}.
        """
        engine, wide = self.engine, self.engine.wide
        for p in self.fused:
            p.place_grad(engine)
        kept = engine.to_numpy(self.losses).copy()
        backpropagate(self, engine.asarray(x), engine.asarray(eps, wide), engine.asarray(z_p, wide), objective, training=False)
        gradients = {p.name: engine.to_numpy(p.grad).copy() for p in self.parameters}
        losses = dict(zip(LOSSES, engine.to_numpy(self.losses).tolist(), strict=True))
        engine.put(self.losses, kept)
        losses["gan"] = losses["gan_real"] + losses["gan_generated"]
        if objective.generator_loss == "minimax":
            del losses["generator"]
        return gradients, losses

    # ---- inference: running statistics ----

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images [N, S, S, C] in [-1, 1] → μ, log σ², each [N, latent]."""
        mu = np.empty((len(x), self.spec.latent), self.engine.wide)
        logvar = np.empty_like(mu)
        for cut, piece, pass_ in self._pieces(x):
            enc = self.encoder.apply(piece, pass_)
            mu[cut], logvar[cut] = self.engine.to_numpy(enc.mu), self.engine.to_numpy(enc.logvar)
            enc.release()
        return mu, logvar

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z [N, latent] → images [N, S, S, C] in (-1, 1)."""
        size, channels = self.spec.image_size, self.spec.channels
        images = np.empty((len(z), size, size, channels), self.engine.wide)
        for cut, piece, pass_ in self._pieces(z):
            dec = self.decoder.apply(piece, pass_)
            images[cut] = self.engine.to_numpy(dec.output)
            dec.release()
        return images

    def discriminate(self, x: np.ndarray) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] → the probability that each is real, [N]."""
        p = np.empty((len(x), 1), self.engine.wide)
        for cut, piece, pass_ in self._pieces(x):
            dis = self.discriminator.apply(piece, pass_, pass_)
            self.engine.sigmoid_forward(dis.logits, dis.logits)
            p[cut] = self.engine.to_numpy(dis.logits)
            dis.release()
        return p[:, 0]

    def _pieces(self, batch: np.ndarray) -> Iterator[tuple[slice, Any, Pass]]:
        for start in range(0, len(batch), INFERENCE_IMAGES):
            piece = self.engine.asarray(batch[start : start + INFERENCE_IMAGES])
            yield slice(start, start + len(piece)), piece, Pass((len(piece),), train=False)

    # ---- state ----

    def state_arrays(self) -> dict[str, Any]:
        """Everything that a resumed run needs besides the step, live: "parameters/…", "statistics/…", "optimizer/…/…" by the
        names of the module tree, and "gate/counts"."""
        state = {f"parameters/{p.name}": p.data for p in self.parameters}
        state |= {f"statistics/{s.name}": s.data for s in self.statistics}
        state |= {f"optimizer/{p.name}/{key}": array for p in self.parameters for key, array in p.state.items()}
        return {**state, "gate/counts": self.gate_counts}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy ``arrays`` (as from `state_arrays`) in.

        Raises:
            ValueError: naming the first array that is missing, unknown or of another shape; nothing is copied then.
        """
        own = self.state_arrays()
        for name, array in own.items():
            if name not in arrays:
                raise ValueError(f"state: {name} is missing")
            if tuple(arrays[name].shape) != tuple(array.shape):
                raise ValueError(f"state: {name} has shape {tuple(arrays[name].shape)}, expected {tuple(array.shape)}")
        for name in arrays:
            if name not in own:
                raise ValueError(f"state: {name} is unknown to this network")
        for name, array in own.items():
            self.engine.put(array, arrays[name])
        for p in self.parameters:
            p.refresh(self.engine)
