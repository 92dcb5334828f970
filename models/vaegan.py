"""The VAE/GAN and the systems it is compared with: a training step, its gradients, and inference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from kernels import Array
from models import algorithm1, authors_passes, gan, vae
from models.layer import Pass
from models.objective import GAN, LOSSES, Objective
from models.system import SYSTEMS, System

__all__ = ["VAEGAN", "Objective", "step_of"]

INFERENCE_IMAGES = 64  # images in one piece of an inference pass
STEPS = {"vaegan": algorithm1.backpropagate, "vae": vae.backpropagate, "vae-dis": vae.backpropagate, "gan": gan.backpropagate}


def step_of(system: str, objective: Objective) -> Callable[..., None]:
    """The function that computes the losses and gradients of a step of ``system``: which file to read for what a run does."""
    if system == "vaegan" and objective.bn_groups == "authors":
        return authors_passes.backpropagate
    return STEPS[system]


class VAEGAN(System):
    """A system that is trained and used; arguments as in `models.system.System`."""

    # ---- training ----

    def train_step(
        self, x: Array, eps: Array, z_p: Array, objective: Objective, lr: Any, attributes: Array = None, *,
        noise: tuple[Array, Any] | None = None, blend: Any = 1.0, batch: int = 0,
    ) -> None:  # fmt: skip
        """One step of the system (of a VAE/GAN: Algorithm 1): losses, gate, gradients, updates. Nothing is returned; see `fetch_losses`.

        A model of several ``batches`` a step is called once for each of them, and updates with the last one: its gradients and losses are
        then the sums over all, by which the gate decides too. Only batch statistics are each batch's own.

        Args:
            x: images [N, S, S, C] in [-1, 1]. eps, z_p: [N, latent], wide, draws from N(0, I).
            lr: the applied learning rate of this step, a float or a wide array [1].
            attributes: of x, wide [N, A], for a conditional model.
            noise: added to the images that Dis is shown for L_GAN (with joined batches those of L_like too): draws from N(0, 1)
                [3 N, S, S, C], and their standard deviation, a float or a wide array [1].
            blend: the share by which averages move (`models.optimizers.Optimizer.update`); 1 minus `average_decay`.
            batch: the number of this batch in the step.

        Raises:
            ValueError: attributes of another shape, missing, or given to a model that has none.
        """
        self._check_attributes(attributes, len(x))
        self.pool.watch()
        for p in self.fused:
            p.fused_update = self.optimizer.fused_update(p, lr)
        self.noise = noise
        last, gated = batch + 1 == self.batches, SYSTEMS[self.system].gate
        generated = len(x) if self.system == "gan" else objective.generated(len(x))
        with self.weights:
            step_of(self.system, objective)(self, x, eps, z_p, objective, attributes)
            if self.batches > 1:
                self.add_up(batch)
                if last and gated:
                    gan.decide(self, objective, self.losses[GAN], self.batches * len(x), self.batches * generated)
            if last:
                self.total(training=True)
        self.noise = None
        if last:
            self.optimizer.update(lr, blend)
        for p in self.fused:
            p.fused_update = None
        if last and not gated:
            self.engine.count_gate(self.gate_counts, self.flags)
        self.pool.settle()
        n, generated = (self.batches * self.engine.of_all(rows) for rows in (len(x), generated))
        self._rows = (n, n, generated)

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
        self, x: Array, eps: Array, z_p: Array, objective: Objective, attributes: Array = None
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
            p.allocate_grad(engine)
        kept = engine.to_numpy(self.losses).copy()
        noise = engine.asarray(eps, wide), engine.asarray(z_p, wide)
        step_of(self.system, objective)(self, engine.asarray(x), *noise, objective, attributes, training=False)
        self.total(training=False)
        gradients = {p.name: engine.to_numpy(p.grad).copy() for p in self.trained}
        losses = dict(zip(LOSSES, engine.to_numpy(self.losses).tolist(), strict=True))
        engine.put(self.losses, kept)
        losses = {name: losses[name] for name in self.loss_names if name != "generator" or objective.generator_loss != "minimax"}
        if "gan_real" in losses:
            losses["gan"] = losses["gan_real"] + losses["gan_generated"]
        return gradients, losses

    # ---- inference: running statistics ----

    def encode(self, x: np.ndarray, attributes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images [N, S, S, C] in [-1, 1] (and [N, A] for a conditional model) → μ, log σ², each [N, latent]."""
        mu = np.empty((len(x), self.spec.latent), self.engine.wide)
        logvar = np.empty_like(mu)
        for cut, piece, pass_ in self._pieces(x, attributes):
            enc = self._applied(self.encoder, piece, pass_)
            mu[cut], logvar[cut] = self.engine.to_numpy(enc.mu), self.engine.to_numpy(enc.logvar)
            enc.release()
        return mu, logvar

    def decode(self, z: np.ndarray, attributes: np.ndarray | None = None) -> np.ndarray:
        """z [N, latent] (and [N, A]) → images [N, S, S, C] in (−1, 1)."""
        size, channels = self.spec.image_size, self.spec.channels
        images = np.empty((len(z), size, size, channels), self.engine.wide)
        for cut, piece, pass_ in self._pieces(z, attributes):
            dec = self._applied(self.decoder, piece, pass_)
            images[cut] = self.engine.to_numpy(dec.output)
            dec.release()
        return images

    def discriminate(self, x: np.ndarray, attributes: np.ndarray | None = None) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] (and [N, A]) → the probability that each is real, [N]."""
        p = np.empty((len(x), 1), self.engine.wide)
        for cut, piece, pass_ in self._pieces(x, attributes):
            dis = self._applied(self.discriminator, piece, pass_, pass_)
            self.engine.sigmoid_forward(dis.logits, dis.logits)
            p[cut] = self.engine.to_numpy(dis.logits)
            dis.release()
        return p[:, 0]

    def features(self, x: np.ndarray) -> np.ndarray:
        """Images [N, S, S, C] in [-1, 1] → Dis_l, the learned metric's features, [N, metric_size]; they do not depend on attributes."""
        features = np.empty((len(x), self.spec.metric_size), self.engine.wide)
        for start in range(0, len(x), INFERENCE_IMAGES):
            piece = self.engine.asarray(x[start : start + INFERENCE_IMAGES])
            dis = self._applied(self.discriminator, piece, Pass((len(piece),), train=False), None)
            features[start : start + len(piece)] = self.engine.to_numpy(dis.features).reshape(len(piece), -1)
            dis.release()
        return features

    def _applied(self, network: Any, piece: Array, *passes: Pass | None) -> Any:
        """The application of a network; before its first to so many images a GPU makes its kernels ready together."""
        kind = network, len(piece), None in passes
        if kind not in self._prepared:
            self.engine.prepare(lambda: network.apply(piece, *passes).release())
            self._prepared.add(kind)
        return network.apply(piece, *passes)

    def _pieces(self, batch: np.ndarray, attributes: np.ndarray | None) -> Iterator[tuple[slice, Any, Pass]]:
        self._check_attributes(attributes, len(batch))
        for start in range(0, len(batch), INFERENCE_IMAGES):
            piece = self.engine.asarray(batch[start : start + INFERENCE_IMAGES])
            cut = slice(start, start + len(piece))
            given = None if attributes is None else self.engine.asarray(attributes[cut], self.engine.wide)
            yield cut, piece, Pass((len(piece),), train=False, attributes=given)
