"""Settings that belong together (method.md's sources: the paper, the authors' code of 2016-02 and its last version).

Learning rates are the applied ones: the authors' 0.02, 0.025 and 1e-5 divided by their batch of 64. The step that each runs is the file
that `models.vaegan.step_of` chooses by ``bn_groups``: Algorithm 1 with joined batches, or the authors' repeated passes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from models.networks import NETWORKS
from models.objective import Objective

# The objective's fields that every preset sets.
_OBJECTIVE = [field.name for field in fields(Objective) if field.name not in ("gate", "equilibrium")]

PRESETS: dict[str, dict[str, Any]] = {
    # Step: models/algorithm1.py. Matches Algorithm 1: the defaults of `Objective`.
    "paper": {
        **{name: getattr(Objective, name) for name in _OBJECTIVE}, "optimizer": "rmsprop",
        "learning_rate": 0.02 / 64, "learning_rate_stop": 1e-5 / 64, "schedule_epochs": 150,
        "batch_size": 64, "steps": 150 * 250, "weight_decay": 2e-5, "network": "paper64",
    },
    # Step: models/algorithm1.py. The code's last version, as trained on CelebA.
    "released": {
        "gamma": 1e-6, "real_weight": 0.5, "negatives": "prior", "generator_loss": "minimax", "gan_eps": 1e-3,
        "bn_groups": "joint", "fixed_statistics": False, "margin": 0.35, "metric_weight": 1.0, "metric_first": 0.0, "optimizer": "rmsprop",
        "learning_rate": 0.025 / 64, "learning_rate_stop": 1e-5 / 64, "schedule_epochs": 250,
        "batch_size": 64, "steps": 250 * 250, "weight_decay": 2e-5, "network": "paper64", "encoder_units": 1024, "augment": True,
    },
    # Step: models/authors_passes.py. Faces within minutes on two cores, found by search (docs/recipe.md says what else was tried). A
    # small batch, because the number of updates counts. The authors' repeated passes: with one joint pass L_like's error reaches the
    # samples X_p through batch norm, and a small network learns to make them extreme, so that all features shrink; with statistics
    # apart for each kind of image Dis cannot see that all of a kind are too pale. The non-saturating loss: with minimax Dis gets
    # ahead, is held back in nine steps of ten, and samples stay alike. Adam and averaged weights: without them pictures are speckled.
    # Fixed statistics: without them one sample in ten or twenty is a saturated pattern that stays.
    # metric_weight, metric_first: without the second a vae-dis ends in a fixed pattern (docs/vae-dis.md).
    # gamma is large because small32's Dis_l has a fifth of paper64's values and errors far smaller.
    "quick": {
        "gamma": 0.02, "real_weight": 0.5, "negatives": "both", "generator_loss": "non-saturating", "gan_eps": 0.0,
        "bn_groups": "authors", "fixed_statistics": True, "margin": 0.35, "metric_weight": 0.3, "metric_first": 6.0,
        "optimizer": "adam", "learning_rate": 1e-3, "learning_rate_stop": 1e-4, "average": 0.99,
        "schedule_epochs": 0, "batch_size": 16, "steps": 6000, "weight_decay": 2e-5, "network": "small32",
    },
}  # fmt: skip


def gamma_for(preset: str, network: str) -> float:
    """γ of ``preset`` for another network than its own: γ · |Dis_l| / |Dis_l of ``network``|, in values of Dis_l for one image.

    L_like is a sum over these values and L_GAN is not. Over the images of a batch both are sums, so γ does not depend on its size.
    """
    values = PRESETS[preset]
    return float(values["gamma"] * NETWORKS[values["network"]].metric_size / NETWORKS[network].metric_size)
