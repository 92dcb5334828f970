"""The VAE/GAN and the systems it is compared with: networks, their state, and one training step.

What a step computes is `models.algorithm1`, `models.vae` or `models.gan`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels import Engine
from models import algorithm1, gan, vae
from models.algorithm1 import LOSSES, Objective
from models.decoder import decoder
from models.discriminator import Discriminator
from models.encoder import Encoder
from models.layer import Context, Pass
from models.memory import Pool
from models.networks import NetworkSpec
from models.optimizers import Optimizer
from models.parameter import Parameter, Statistic, load
from models.systems import SYSTEMS

__all__ = ["VAEGAN", "Objective"]

INFERENCE_IMAGES = 64  # images in one piece of an inference pass
STEPS = {"vaegan": algorithm1.backpropagate, "vae": vae.backpropagate, "vae-dis": vae.backpropagate, "gan": gan.backpropagate}


class VAEGAN:
    """Enc, Dec and Dis, or those of them that a system has, on one engine.

    Args:
        engine: `kernels.engine`.
        spec: `models.network`.
        system: one of `models.systems.SYSTEMS`.
        seed: of the initial parameters. A network starts with the same values in each system.
        optimizer, weight_decay: see `models.optimizers.Optimizer`.
        fuse_update: whether Enc's FC weights, two thirds of all, are updated where their gradient is made (RMSProp only), so that
            it is never stored.

    Raises:
        ValueError: an unknown system.

    Attributes:
        encoder, decoder, discriminator: the networks; None where the system has none.
        loss_names: of the losses that the system has.
        pool: every activation and error comes from it.
        losses: float64 [5], sums of the last step (`models.algorithm1.LOSSES` names them).
        flags: uint8 [2], the last step's equilibrium gate: (Dec updated, Dis updated).
        gate_counts: float64 [3], steps, Dec updates and Dis updates since `fetch_losses` was last called.
    """

    def __init__(
        self, engine: Engine, spec: NetworkSpec, *, system: str = "vaegan", seed: int = 0, optimizer: str = "rmsprop",
        weight_decay: float = 2e-5, fuse_update: bool = True,
    ):  # fmt: skip
        if system not in SYSTEMS:
            raise ValueError(f"system: got {system!r}, expected one of {', '.join(SYSTEMS)}")
        self.engine, self.spec, self.system = engine, spec, system
        self.loss_names = SYSTEMS[system].losses
        self.pool = Pool(engine)
        context = Context(engine, self.pool)
        networks: dict[str, Any] = {
            "encoder": Encoder(context, spec), "decoder": decoder(context, spec), "discriminator": Discriminator(context, spec),
        }  # fmt: skip
        index = {p.name: i for i, p in enumerate(p for network in networks.values() for p in network.parameters)}
        networks = {name: network if name in SYSTEMS[system].networks else None for name, network in networks.items()}
        self.encoder, self.decoder, self.discriminator = networks.values()
        self.optimizer = Optimizer(engine, optimizer, weight_decay)
        self.fused = [self.encoder.largest] if fuse_update and optimizer == "rmsprop" and self.encoder else []
        trained = self.trained
        for p in self.parameters:
            p.place(engine, seed=seed, index=index[p.name], grad=p in trained and p not in self.fused)
        for s in self.statistics:
            s.place(engine)
        self.losses = engine.empty((len(LOSSES),), np.float64)
        self.flags = engine.empty((2,), np.uint8)
        self.gate_counts = engine.empty((3,), np.float64)
        for array, value in ((self.losses, 0), (self.flags, 1), (self.gate_counts, 0)):
            engine.fill(array, value)
        # Enc is never gated
        flags = {"encoder": None, "decoder": self.flags[0:1], "discriminator": self.flags[1:2]}
        self.optimizer.place([(p, flags[p.name.split("/")[0]]) for p in trained], self.fused)
        self._rows = (1, 1, 1)  # images, real rows and generated rows of the last step, to turn sums into means

    @property
    def parameters(self) -> list[Parameter]:
        """All weights and biases in a fixed order: Enc, Dec, Dis, each from input to output."""
        return [p for network in (self.encoder, self.decoder, self.discriminator) if network for p in network.parameters]

    @property
    def trained(self) -> list[Parameter]:
        """Those that a step updates: all but a frozen Dis's."""
        return [p for p in self.parameters if p.name.split("/")[0] in SYSTEMS[self.system].trained]

    @property
    def statistics(self) -> list[Statistic]:
        return [s for network in (self.encoder, self.decoder, self.discriminator) if network for s in network.statistics]

    # ---- training ----

    def train_step(self, x: Any, eps: Any, z_p: Any, objective: Objective, lr: Any, attributes: Any = None) -> None:
        """One step of the system (of a VAE/GAN: Algorithm 1): losses, gate, gradients, updates. Nothing is returned; see `fetch_losses`.

        Args:
            x: images [N, S, S, C] in [-1, 1]. eps, z_p: [N, latent], wide, draws from N(0, I).
            lr: the applied learning rate of this step, a float or a wide array [1].
            attributes: of x, wide [N, A], for a conditional model.

        Raises:
            ValueError: attributes of another shape, missing, or given to a model that has none.
        """
        self._check_attributes(attributes, len(x))
        self.pool.watch()
        for p in self.fused:
            p.product = self.optimizer.fused_update(p, lr)
        STEPS[self.system](self, x, eps, z_p, objective, attributes)
        self.optimizer.update(lr)
        for p in self.fused:
            p.product = None
        self.engine.count_gate(self.gate_counts, self.flags)
        self.pool.settle()
        self._rows = (len(x), len(x), len(x) if self.system == "gan" else objective.generated(len(x)))

    def fetch_losses(self) -> dict[str, float]:
        """The last step's losses as means (prior, like: an image; gan_*, generator: a row of Dis's batch), and where the gate acts the
        share of steps since the last call in which Dec and Dis were updated ("dec_updated", "dis_updated")."""
        images, real, generated = self._rows
        counts = np.array([images, images, real, generated, generated])
        result = dict(zip(LOSSES, (self.engine.to_numpy(self.losses) / counts).tolist(), strict=True))
        steps, dec, dis = self.engine.to_numpy(self.gate_counts).tolist()
        self.engine.fill(self.gate_counts, 0)
        result = {name: result[name] for name in self.loss_names}
        if SYSTEMS[self.system].gate:
            result |= {"dec_updated": dec / max(1.0, steps), "dis_updated": dis / max(1.0, steps)}
        return result

    def gradients(
        self, x: Any, eps: Any, z_p: Any, objective: Objective, attributes: Any = None
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:  # fmt: skip
        """Summed gradients of a step before weight decay and gate, and the summed losses. No state changes.

        Args as in `train_step`. Returns {name of a trained parameter: array}, {the system's of "prior", "like", "gan", "gan_real",
        "gan_generated", and "generator" with the non-saturating loss}.
        """
        engine, wide = self.engine, self.engine.wide
        if attributes is not None:
            attributes = engine.asarray(attributes, wide)
        self._check_attributes(attributes, len(x))
        for p in self.fused:
            p.place_grad(engine)
        kept = engine.to_numpy(self.losses).copy()
        noise = engine.asarray(eps, wide), engine.asarray(z_p, wide)
        STEPS[self.system](self, engine.asarray(x), *noise, objective, attributes, training=False)
        gradients = {p.name: engine.to_numpy(p.grad).copy() for p in self.trained}
        losses = dict(zip(LOSSES, engine.to_numpy(self.losses).tolist(), strict=True))
        engine.put(self.losses, kept)
        losses = {name: losses[name] for name in self.loss_names if name != "generator" or objective.generator_loss != "minimax"}
        if "gan_real" in losses:
            losses["gan"] = losses["gan_real"] + losses["gan_generated"]
        return gradients, losses

    def _check_attributes(self, attributes: Any, n: int) -> None:
        expected = (n, self.spec.attributes)
        if attributes is None and self.spec.attributes:
            raise ValueError(f"attributes: missing, expected shape {expected}: the model is conditional")
        if attributes is not None and tuple(attributes.shape) != expected:
            what = f"expected {expected}" if self.spec.attributes else "but the model is not conditional: leave them out"
            raise ValueError(f"attributes: got shape {tuple(attributes.shape)}, {what}")

    # ---- inference: running statistics ----

    def encode(self, x: np.ndarray, attributes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images [N, S, S, C] in [-1, 1] (and [N, A] for a conditional model) → μ, log σ², each [N, latent]."""
        mu = np.empty((len(x), self.spec.latent), self.engine.wide)
        logvar = np.empty_like(mu)
        for cut, piece, pass_ in self._pieces(x, attributes):
            enc = self.encoder.apply(piece, pass_)
            mu[cut], logvar[cut] = self.engine.to_numpy(enc.mu), self.engine.to_numpy(enc.logvar)
            enc.release()
        return mu, logvar

    def decode(self, z: np.ndarray, attributes: np.ndarray | None = None) -> np.ndarray:
        """z [N, latent] (and [N, A]) → images [N, S, S, C] in (−1, 1)."""
        size, channels = self.spec.image_size, self.spec.channels
        images = np.empty((len(z), size, size, channels), self.engine.wide)
        for cut, piece, pass_ in self._pieces(z, attributes):
            dec = self.decoder.apply(piece, pass_)
            images[cut] = self.engine.to_numpy(dec.output)
            dec.release()
        return images

    def discriminate(self, x: np.ndarray, attributes: np.ndarray | None = None) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] (and [N, A]) → the probability that each is real, [N]."""
        p = np.empty((len(x), 1), self.engine.wide)
        for cut, piece, pass_ in self._pieces(x, attributes):
            dis = self.discriminator.apply(piece, pass_, pass_)
            self.engine.sigmoid_forward(dis.logits, dis.logits)
            p[cut] = self.engine.to_numpy(dis.logits)
            dis.release()
        return p[:, 0]

    def features(self, x: np.ndarray) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] → Dis_l, the learned metric's features, [N, metric_size]; they do not depend on attributes."""
        features = np.empty((len(x), self.spec.metric_size), self.engine.wide)
        for start in range(0, len(x), INFERENCE_IMAGES):
            piece = self.engine.asarray(x[start : start + INFERENCE_IMAGES])
            dis = self.discriminator.apply(piece, Pass((len(piece),), train=False), None)
            features[start : start + len(piece)] = self.engine.to_numpy(dis.features).reshape(len(piece), -1)
            dis.release()
        return features

    def _pieces(self, batch: np.ndarray, attributes: np.ndarray | None) -> Iterator[tuple[slice, Any, Pass]]:
        self._check_attributes(attributes, len(batch))
        for start in range(0, len(batch), INFERENCE_IMAGES):
            piece = self.engine.asarray(batch[start : start + INFERENCE_IMAGES])
            cut = slice(start, start + len(piece))
            given = None if attributes is None else self.engine.asarray(attributes[cut], self.engine.wide)
            yield cut, piece, Pass((len(piece),), train=False, attributes=given)

    # ---- state ----

    def state_arrays(self) -> dict[str, Any]:
        """Everything that a resumed run needs besides the step, live: "parameters/…", "statistics/…", "optimizer/…/…" by the
        names of the module tree, and "gate/counts"."""
        state = {f"parameters/{p.name}": p.data for p in self.parameters}
        state |= {f"statistics/{s.name}": s.data for s in self.statistics}
        state |= {f"optimizer/{p.name}/{key}": array for p in self.trained for key, array in p.state.items()}
        return {**state, "gate/counts": self.gate_counts}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy ``arrays`` (as from `state_arrays`) in. Raises `ValueError` as `models.parameter.load` does."""
        load(self.engine, self.state_arrays(), arrays)
        for p in self.parameters:
            p.refresh(self.engine)

    def load_discriminator(self, arrays: dict[str, np.ndarray]) -> None:
        """Take another model's Dis: its "parameters/discriminator/…" and "statistics/discriminator/…" (``arrays`` may hold more).

        Raises:
            ValueError: naming the first array that is missing or of another shape; nothing is copied then.
        """
        kinds = ("parameters/discriminator/", "statistics/discriminator/")
        own = {name: array for name, array in self.state_arrays().items() if name.startswith(kinds)}
        load(self.engine, own, {name: array for name, array in arrays.items() if name.startswith(kinds)})
        for p in self.discriminator.parameters:
            p.refresh(self.engine)
