"""The classifier of section 4.3: the features of a pre-trained Enc or Dis, fine-tuned with few labels.

The trunk's arrays have the names that they have in the VAE/GAN ("encoder/…", "discriminator/…"), so that they can be taken from one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import Array, Engine
from models.blocks import Linear
from models.discriminator import Discriminator, DiscriminatorApplication
from models.encoder import trunk
from models.layer import Context, Pass
from models.networks import NetworkSpec
from models.parameter import Parameter, Statistic, load
from models.supervised import Supervised

FEATURES = ("enc", "dis")
NETWORK_OF = {"enc": "encoder", "dis": "discriminator"}  # whose features they are


class Classifier(Supervised):
    """A trunk and a linear layer to K classes, trained on the cross-entropy of softmax: images → K logits.

    Args:
        features: "enc": Enc up to its FC layer, [N, encoder_units]; "dis": Dis up to its FC layer, [N, discriminator_units].
        engine, spec, seed, optimizer, weight_decay, freeze: see `models.supervised.Supervised`; ``seed`` draws trunk and linear layer.
        classes: K, at least 2.

    Targets are labels, int32 [N]: a class from 0, or −1 for an image whose class is not known. ``loss`` is summed over those known.

    Raises:
        ValueError: unknown features, fewer than two classes, or a spec of conditional networks.
    """

    def __init__(self, engine: Engine, spec: NetworkSpec, classes: int, *, features: str = "enc", **options: Any):
        if features not in FEATURES:
            raise ValueError(f"features: got {features!r}, expected one of {', '.join(FEATURES)}")
        if classes < 2:
            raise ValueError(f"classes: got {classes}, expected at least 2")
        if spec.attributes:
            raise ValueError(f"spec: got networks of {spec.attributes} attributes, expected ones that are not conditional")
        self.kind = features
        super().__init__(engine, spec, classes, **options)

    def networks(self, context: Context) -> tuple[Any, Linear]:
        units = {"enc": self.spec.encoder_units, "dis": self.spec.discriminator_units}[self.kind]
        body = trunk(context, "encoder", self.spec) if self.kind == "enc" else DisTrunk(context, self.spec)
        return body, Linear(context, "classifier/output", units, self.outputs)

    def check_targets(self, targets: Array, n: int) -> None:
        if tuple(targets.shape) != (n,):
            raise ValueError(f"labels: got shape {tuple(targets.shape)}, expected ({n},)")

    def compare(self, error: Array, predicted: Array, targets: Array) -> None:
        p = self.pool.take(predicted.shape, self.engine.wide)
        self.engine.softmax_cross_entropy_forward(self.loss, p, predicted, targets)
        self.engine.softmax_cross_entropy_backward(error, p, targets)
        self.pool.give(p)

    def gradients(self, x: Array, targets: Array) -> tuple[dict[str, np.ndarray], float]:
        return super().gradients(x, self.engine.asarray(targets, np.int32))

    def trunk_arrays(self) -> dict[str, Any]:
        """The trunk's "parameters/…" and "statistics/…", live."""
        prefixes = tuple(f"{kind}/{NETWORK_OF[self.kind]}/" for kind in ("parameters", "statistics"))
        return {name: array for name, array in self.state_arrays().items() if name.startswith(prefixes)}

    def load_trunk(self, arrays: dict[str, np.ndarray]) -> None:
        """Take the trunk of a trained model from its state (``arrays`` may hold more).

        Raises:
            ValueError: naming the first array that is missing or of another shape; nothing is copied then.
        """
        own = self.trunk_arrays()
        load(self.engine, own, {name: array for name, array in arrays.items() if name in own})
        for p in self.trunk.parameters:
            p.refresh(self.engine)


class DisTrunk:
    """Dis up to its FC layer: images → units [N, discriminator_units]."""

    def __init__(self, context: Context, spec: NetworkSpec):
        self.network = Discriminator(context, spec, output=False)

    @property
    def parameters(self) -> list[Parameter]:
        return self.network.parameters

    @property
    def statistics(self) -> list[Statistic]:
        return self.network.statistics

    def apply(self, x: Array, pass_: Pass) -> DisTrunkApplication:
        """x [N, S, S, C] → an application with ``output``, the units."""
        return DisTrunkApplication(self.network.apply(x, pass_, pass_))


class DisTrunkApplication:
    """One forward pass of `DisTrunk`."""

    def __init__(self, dis: DiscriminatorApplication):
        assert dis.logits is not None
        self._dis, self.output = dis, dis.logits

    def backward(self, dy: Array, *, dx: bool, dw: bool) -> Any:
        """As `models.graph.Application.backward`: the error at the images, if it is wanted. ``dy`` is consumed."""
        return self._dis.backward_logits(dy, dw=dw, rows=slice(0, len(self.output)) if dx else None)

    def release(self) -> None:
        self._dis.release()
