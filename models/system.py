"""The four systems that the paper compares (section 4), with the same Enc, Dec and Dis for all: which networks and losses each has, and
what all of them keep: parameters, optimiser state, statistics, losses and the gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from kernels import Array, Engine, Gradients
from models.decoder import decoder
from models.discriminator import Discriminator
from models.encoder import Encoder
from models.layer import Context
from models.memory import Pool
from models.networks import NetworkSpec
from models.objective import LOSSES
from models.optimizers import Optimizer
from models.parameter import Parameter, Statistic, load


class Parts(NamedTuple):
    """One of `SYSTEMS`.

    Attributes:
        networks: those that it has.
        trained: those that its step updates.
        losses: names of its losses, of `models.objective.LOSSES`; "generator" only with the non-saturating loss.
        gate: whether the equilibrium gate acts: only where Dec and Dis play against each other.
    """

    networks: tuple[str, ...]
    trained: tuple[str, ...]
    losses: tuple[str, ...]
    gate: bool


_VAE, _GAN = ("prior", "like"), ("gan_real", "gan_generated", "generator")
_ALL = ("encoder", "decoder", "discriminator")

SYSTEMS: dict[str, Parts] = {
    "vaegan": Parts(_ALL, _ALL, _VAE + _GAN, True),  # Algorithm 1: models/algorithm1.py
    "vae": Parts(_ALL[:2], _ALL[:2], _VAE, False),  # Gaussian pixels: models/vae.py
    "vae-dis": Parts(_ALL, _ALL[:2], _VAE, False),  # VAE_Dis_l, a trained GAN's Dis as the metric: models/vae.py
    "gan": Parts(_ALL[1:], _ALL[1:], _GAN, True),  # models/gan.py
}

#: Rows of a network's joined batches for each image of a step, at most.
TIMES = {"encoder": 1, "decoder": 2, "discriminator": 3}


class System:
    """Enc, Dec and Dis, or those of them that a system has, on one engine.

    Args:
        engine: `kernels.engine`.
        spec: `models.network`.
        system: one of `SYSTEMS`.
        seed: of the initial parameters. A network starts with the same values in each system.
        optimizer, weight_decay: see `models.optimizers.Optimizer`.
        fuse_update: whether Enc's FC weights, two thirds of all, are updated where their gradient is made (RMSProp without average and
            rates), so that it is never stored.
        batches: of a step, whose gradients are added up before it updates (`models.vaegan.VAEGAN.train_step`); nothing is fused then.
        average: keep a moving average of every trained parameter and of its network's running statistics (`averaged`).
        rates: {network: factor of its learning rate}; 1 where none is named.

    Raises:
        ValueError: an unknown system.

    Attributes:
        encoder, decoder, discriminator: the networks; None where the system has none.
        loss_names: of the losses that the system has.
        pool: every activation and error comes from it.
        weights: entered for the time in which a step changes none.
        losses: float64 [5], sums of the last step (`models.objective.LOSSES` names them).
        flags: uint8 [2], the last step's equilibrium gate: (Dec updated, Dis updated).
        noise: of the step in hand, see `models.gan.shown`; None: there is none.
        gate_counts: float64 [3], steps, Dec updates and Dis updates since `fetch_losses` was last called.
    """

    def __init__(
        self, engine: Engine, spec: NetworkSpec, *, system: str = "vaegan", seed: int = 0, optimizer: str = "rmsprop",
        weight_decay: float = 2e-5, fuse_update: bool = True, batches: int = 1, average: bool = False,
        rates: Mapping[str, float] | None = None,
    ):  # fmt: skip
        if system not in SYSTEMS:
            raise ValueError(f"system: got {system!r}, expected one of {', '.join(SYSTEMS)}")
        self.engine, self.spec, self.system = engine, spec, system
        self.loss_names = SYSTEMS[system].losses
        self.pool = Pool(engine)
        self.weights = engine.fixed_weights()
        context = Context(engine, self.pool)
        networks: dict[str, Any] = {
            "encoder": Encoder(context, spec), "decoder": decoder(context, spec), "discriminator": Discriminator(context, spec),
        }  # fmt: skip
        index = {p.name: i for i, p in enumerate(p for network in networks.values() for p in network.parameters)}
        networks = {name: network if name in SYSTEMS[system].networks else None for name, network in networks.items()}
        self.encoder, self.decoder, self.discriminator = networks.values()
        self.optimizer = Optimizer(engine, optimizer, weight_decay)
        fuse = fuse_update and optimizer == "rmsprop" and batches == 1 and not average and not rates
        largest = [self.encoder.largest] if fuse and self.encoder else []
        self.fused = [p for p in largest if engine.gathers(p.shape, TIMES["encoder"])]
        trained = self.trained
        for p in self.parameters:
            p.allocate(engine, seed=seed, index=index[p.name], grad=False)
        self.of_networks: dict[str, Gradients] = {}
        for network in SYSTEMS[system].trained:
            own = [p for p in trained if _network_of(p) == network and p not in self.fused]
            self.of_networks[network] = engine.gradients([p.shape for p in own], TIMES[network])
            for p, grad in zip(own, self.of_networks[network].arrays, strict=True):
                p.grad = grad
        for s in self.statistics:
            s.allocate(engine)
        kept: list[Parameter | Statistic] = [*trained, *self.statistics]
        self.followed = [a for a in kept if average and _network_of(a) in SYSTEMS[system].trained]
        for a in self.followed:
            a.average = engine.empty(a.data.shape, engine.wide)
            engine.copy(a.average, a.data)
        self.batches = batches
        flat = [array for gradients in self.of_networks.values() for array in gradients.flat]
        # Those of the step's batches so far, in pairs with where each batch's own are
        self.added = [(engine.empty(array.shape, engine.wide), array) for array in flat] if batches > 1 else []
        self.each = engine.empty((batches, len(LOSSES)), np.float64)  # losses of each batch
        self.losses = engine.empty((len(LOSSES),), np.float64)
        self.flags = engine.empty((2,), np.uint8)
        self.gate_counts = engine.empty((3,), np.float64)
        for array, value in ((self.losses, 0), (self.flags, 1), (self.gate_counts, 0)):
            engine.fill(array, value)
        # Enc is never gated
        flags = {"encoder": None, "decoder": self.flags[0:1], "discriminator": self.flags[1:2]}
        entries = [(p, flags[_network_of(p)], (rates or {}).get(_network_of(p), 1.0)) for p in trained]
        self.optimizer.allocate(entries, self.fused, [a for a in self.followed if isinstance(a, Statistic)])
        self.noise: tuple[Array, Any] | None = None
        self._prepared: set[Any] = set()  # what a GPU has made ready for inference
        self._rows = (1, 1, 1)  # images, real rows and generated rows of the last step, to turn sums into means

    @property
    def parameters(self) -> list[Parameter]:
        """All weights and biases in a fixed order: Enc, Dec, Dis, each from input to output."""
        return [p for network in (self.encoder, self.decoder, self.discriminator) if network for p in network.parameters]

    @property
    def trained(self) -> list[Parameter]:
        """Those that a step updates: all but a frozen Dis's."""
        return [p for p in self.parameters if _network_of(p) in SYSTEMS[self.system].trained]

    @property
    def statistics(self) -> list[Statistic]:
        return [s for network in (self.encoder, self.decoder, self.discriminator) if network for s in network.statistics]

    def _check_attributes(self, attributes: Array, n: int) -> None:
        expected = (n, self.spec.attributes)
        if attributes is None and self.spec.attributes:
            raise ValueError(f"attributes: missing, expected shape {expected}: the model is conditional")
        if attributes is not None and tuple(attributes.shape) != expected:
            what = f"expected {expected}" if self.spec.attributes else "but the model is not conditional: leave them out"
            raise ValueError(f"attributes: got shape {tuple(attributes.shape)}, {what}")

    def add_up(self, batch: int) -> None:
        """Add the gradients and losses of number ``batch`` of the step's batches to those of the earlier ones; with the last one
        ``Parameter.grad`` and ``losses`` are those of all."""
        engine, last = self.engine, batch + 1 == self.batches
        for added, own in self.added:
            if batch == 0:
                engine.copy(added, own)
            else:
                engine.add(own if last else added, added, own)
        engine.copy(self.each[batch], self.losses)
        if last:
            engine.sum_parts(self.losses, self.each)

    def total(self, training: bool) -> None:
        """Gradients and losses become those of the whole batch, where several processes share it; but for a network that the gate is known
        to hold back (in ``training``), which has none."""
        known = training and self.engine.host_memory
        held = {name for i, name in enumerate(("decoder", "discriminator")) if known and not self.flags[i]}
        self.engine.total([g for name, g in self.of_networks.items() if name not in held], self.losses)

    # ---- state ----

    def state_arrays(self) -> dict[str, Any]:
        """Everything that a resumed run needs besides the step, live: "parameters/…", "statistics/…", "optimizer/…/…" by the
        names of the module tree, "gate/counts", and "average/parameters/…", "average/statistics/…" where averages are kept."""
        state = {f"parameters/{p.name}": p.data for p in self.parameters}
        state |= {f"statistics/{s.name}": s.data for s in self.statistics}
        state |= {f"optimizer/{p.name}/{key}": array for p in self.trained for key, array in p.state.items()}
        state |= {f"average/{_kind(a)}/{a.name}": a.average for a in self.followed}
        return {**state, "gate/counts": self.gate_counts}

    def load_state(self, arrays: dict[str, np.ndarray], parts: tuple[str, ...] = ("",)) -> None:
        """Copy ``arrays`` (as from `state_arrays`) in: all, or those whose names begin with one of ``parts``. Raises `ValueError` as
        `models.parameter.load` does."""
        own, given = ({name: a for name, a in state.items() if name.startswith(parts)} for state in (self.state_arrays(), arrays))
        load(self.engine, own, given)
        for p in self.parameters:
            p.refresh(self.engine)

    @contextmanager
    def averaged(self, wanted: bool = True) -> Iterator[None]:
        """Inside, the networks are those of the averaged parameters and statistics (unless not ``wanted``); for use, not for a step."""
        followed = self.followed if wanted else []
        for a in followed:
            a.swap(self.engine)
        try:
            yield
        finally:
            for a in followed:
                a.swap(self.engine)

    def load_discriminator(self, arrays: dict[str, np.ndarray]) -> None:
        """Take another model's Dis: its "parameters/discriminator/…" and "statistics/discriminator/…" (``arrays`` may hold more).

        Raises:
            ValueError: naming the first array that is missing or of another shape; nothing is copied then.
        """
        self.load_state(arrays, ("parameters/discriminator/", "statistics/discriminator/"))


def _network_of(a: Parameter | Statistic) -> str:
    return a.name.split("/")[0]


def _kind(a: Parameter | Statistic) -> str:
    return "parameters" if isinstance(a, Parameter) else "statistics"
