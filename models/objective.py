"""What is minimised: the losses, their weights, and which images Dis and batch norm see together."""

from __future__ import annotations

from dataclasses import dataclass

#: The sums in `VAEGAN.losses`; "generator" is 0 with the minimax loss.
LOSSES = ("prior", "like", "gan_real", "gan_generated", "generator")
PRIOR, LIKE, GAN, GENERATOR = slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 5)

CHOICES = {
    "negatives": ("both", "prior"),
    "bn_groups": ("joint", "split", "authors"),
    "generator_loss": ("minimax", "non-saturating"),
}


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
        gamma: γ of Algorithm 1: Dec minimises γ·L_like − L_GAN. The authors' w, with (1 − w)·L_GAN, is γ = w / (1 − w): for
            their w of 1e-5 and 1e-6 the same to five digits, and RMSProp does not see the common factor.
        real_weight: r: in Dis's gradient a real image weighs r, a generated one (1 − r)·N / N_generated.
        negatives: the generated images that Dis is trained on: "both" X̃ and X_p, or "prior", X_p alone; then X̃ goes
            through Dis only as far as Dis_l.
        bn_groups: which images share batch statistics: "joint", all of a joined batch; "split", each kind apart;
            "authors", their repeated passes.
        generator_loss: "minimax" (−L_GAN) or "non-saturating" (Σ −log Dis(generated)) for Dec.
        gan_eps: e in log(p + e).
        gate: the equilibrium gate, with its equilibrium and margin.
        metric_weight, metric_first: of a vae-dis alone (`models.vae`): the weights of Dis_l and of Dis's first convolution in L_like; 1
            and 0 are the paper's.

    Raises:
        ValueError: a value outside its range.
    """

    gamma: float = 1e-5
    real_weight: float = 0.66
    negatives: str = "both"
    bn_groups: str = "joint"
    generator_loss: str = "minimax"
    gan_eps: float = 1e-3
    gate: bool = True
    equilibrium: float = 0.68
    margin: float = 0.35
    metric_weight: float = 1.0
    metric_first: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        if not 0.0 < self.real_weight < 1.0:
            raise ValueError(f"real_weight: got {self.real_weight}, expected a number between 0 and 1")
        if not 0.0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma: got {self.gamma}, expected a finite number >= 0")
        if not 0.0 < self.metric_weight < float("inf") or not 0.0 <= self.metric_first < float("inf"):
            raise ValueError(
                f"metric_weight, metric_first: got {self.metric_weight}, {self.metric_first}, expected finite numbers > 0 and >= 0"
            )
        if not 0.0 <= self.gan_eps < 1.0:
            raise ValueError(f"gan_eps: got {self.gan_eps}, expected a number in [0, 1)")

    def generated(self, n: int) -> int:
        """Generated rows in Dis's loss for a batch of n images."""
        return 2 * n if self.negatives == "both" else n

    def weights(self, n: int) -> tuple[float, float]:
        """The weight of a real and of a generated row in Dis's gradient."""
        return self.real_weight, (1.0 - self.real_weight) * n / self.generated(n)
