"""Settings that belong together (method.md's sources: the paper, the authors' code of 2016-02 and its last version).

Learning rates are the applied ones: the authors' 0.02, 0.025 and 1e-5 divided by their batch of 64.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Matches Algorithm 1.
    "paper": {
        "gamma": 1e-5, "real_weight": 0.66, "negatives": "both", "generator_loss": "minimax", "gan_eps": 1e-3,
        "bn_groups": "joint", "margin": 0.35, "optimizer": "rmsprop",
        "learning_rate": 0.02 / 64, "learning_rate_stop": 1e-5 / 64, "schedule_epochs": 150,
        "batch_size": 64, "steps": 150 * 250, "weight_decay": 2e-5, "network": "paper64",
    },
    # The code's last version, as trained on CelebA.
    "released": {
        "gamma": 1e-6, "real_weight": 0.5, "negatives": "prior", "generator_loss": "minimax", "gan_eps": 1e-3,
        "bn_groups": "joint", "margin": 0.35, "optimizer": "rmsprop",
        "learning_rate": 0.025 / 64, "learning_rate_stop": 1e-5 / 64, "schedule_epochs": 250,
        "batch_size": 64, "steps": 250 * 250, "weight_decay": 2e-5, "network": "paper64", "encoder_units": 1024,
    },
    # Faces within minutes on two cores, found by search (docs/first-run.md says what else was tried), held against ten seeds on real
    # faces (docs/paper.md). A small batch, because the number of updates counts. Statistics apart for each kind of image: with joint
    # ones a few extreme samples of a small network hide behind the others in Dis's batch norm, and samples end as stripes. The
    # non-saturating loss and a wide gate: with the minimax loss Dis gets ahead, is held back in nine steps of ten, and samples stay alike.
    # gamma is large because small32's Dis_l has a fifth of paper64's values and errors far smaller.
    "quick": {
        "gamma": 0.05, "real_weight": 0.5, "negatives": "both", "generator_loss": "non-saturating", "gan_eps": 1e-3,
        "bn_groups": "split", "margin": 0.55, "optimizer": "rmsprop", "learning_rate": 4e-4, "learning_rate_stop": 1e-5,
        "schedule_epochs": 0, "batch_size": 16, "steps": 1100, "weight_decay": 2e-5, "network": "small32",
    },
}  # fmt: skip
