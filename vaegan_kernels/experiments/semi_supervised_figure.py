"""Table and figure of the semi-supervised experiment: accuracy against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.experiments.tables import markdown, spread
from vaegan_kernels.pictures.chart import new_figure, save_figure

NETWORKS = {"enc": "Enc", "dis": "Dis"}
STARTS = {"fine-tuned": "pre-trained, fine-tuned", "frozen": "pre-trained, frozen", "scratch": "from scratch"}
COLOURS = {"fine-tuned": "C0", "frozen": "C2", "scratch": "C1"}

Parts = Mapping[str, Mapping[str, Any]]


def curves(parts: Parts) -> dict[tuple[str, str], dict[int, list[float]]]:
    """{(features, start): {labels: accuracies of the seeds}}, in the order of the tables."""
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for features in NETWORKS:
        for start in STARTS:
            own = [part for part in parts.values() if (part["features"], part["start"]) == (features, start)]
            for part in sorted(own, key=lambda part: (part["labels"], part["seed"])):
                found.setdefault((features, start), {}).setdefault(part["labels"], []).append(part["accuracy"])
    return found


def table(parts: Parts, majority: Mapping[str, Any]) -> str:
    """A line for each network and start, a column for each number of labels: accuracy in per cent, mean and deviation over the seeds."""
    found = curves(parts)
    counts = sorted({count for values in found.values() for count in values})
    rows = [
        [f"{NETWORKS[features]}, {STARTS[start]}", *(spread([100 * value for value in values.get(count, [])]) for count in counts)]
        for (features, start), values in found.items()
    ]
    rows.append([f"always {majority['class']!r}", *(spread([100 * majority["accuracy"]]) for _ in counts)])
    return markdown(["test accuracy, %", *(f"{count:,} labels" for count in counts)], rows)


def draw_curves(out: Path, parts: Parts, majority: Mapping[str, Any], title: str) -> None:
    """Write the figure: a panel for each network, means over the seeds with their deviations. Imports matplotlib, slow, only here."""
    from matplotlib.ticker import NullLocator

    found = curves(parts)
    shown = [features for features in NETWORKS if any(key[0] == features for key in found)]
    counts = sorted({count for values in found.values() for count in values})
    figure = new_figure(5.0 * len(shown) + 0.6, 3.9)
    figure.subplots_adjust(left=0.72 / figure.get_figwidth(), right=1 - 0.2 / figure.get_figwidth(), top=0.8, bottom=0.14, wspace=0.08)
    for panel, axes in zip(shown, figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], strict=True):
        axes.axhline(100 * majority["accuracy"], color="#8a8f98", lw=1.0, ls="--", label=f"always {majority['class']!r}")
        for (features, start), values in found.items():
            if features == panel:
                means = [100 * np.mean(values[count]) for count in values]
                deviations = [100 * np.std(values[count], ddof=1) if len(values[count]) > 1 else 0.0 for count in values]
                axes.errorbar(
                    list(values), means, deviations, color=COLOURS[start], marker="o", ms=4, lw=1.6, capsize=3, label=STARTS[start]
                )  # fmt: skip
        axes.set_title(f"{NETWORKS[panel]}'s features", loc="left", fontsize=10)
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("labelled images")
        axes.grid(alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8.5)
    figure.axes[0].set_ylabel("right, %")
    figure.suptitle(title, x=0.72 / figure.get_figwidth(), y=0.965, ha="left", fontsize=11)
    save_figure(figure, out)
