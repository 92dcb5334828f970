"""Which attributes come together: in the data (correlation of labels) and in latent space (cosine of their vectors). A attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.experiments.tables import markdown
from vaegan_kernels.pictures.chart import new_figure, save_figure


def correlations(labels: np.ndarray) -> np.ndarray:
    """float64 [A, A]: the correlation between every two columns of ``labels`` [n, A], none of them constant."""
    x = np.asarray(labels, np.float64)
    x = x - x.mean(axis=0)
    x /= np.sqrt((x**2).sum(axis=0))
    return np.asarray(np.clip(x.T @ x, -1, 1))


def order_of(similarity: np.ndarray) -> np.ndarray:
    """int64 [A]: an order in which attributes that are similar lie together.

    Average linkage: the two groups with the highest mean similarity are joined, again and again. Of two groups that are joined, each
    is turned so that the ends that meet are the most similar.
    """
    groups = [[k] for k in range(len(similarity))]
    while len(groups) > 1:
        best, pair = -np.inf, (0, 1)
        for i in range(len(groups)):
            for j in range(i):
                mean = similarity[np.ix_(groups[i], groups[j])].mean()
                if mean > best:
                    best, pair = mean, (j, i)
        a, b = groups[pair[0]], groups.pop(pair[1])
        ways = [(x, y) for x in (a, a[::-1]) for y in (b, b[::-1])]
        x, y = max(ways, key=lambda way: similarity[way[0][-1], way[1][0]])
        groups[pair[0]] = x + y
    return np.array(groups[0])


def agreement(labels: np.ndarray, cosine: np.ndarray) -> float:
    """The correlation between the two matrices [A, A] over all pairs of attributes; NaN for fewer than 3 attributes."""
    above = np.triu_indices(len(labels), 1)
    if len(above[0]) < 3:
        return float("nan")
    return float(np.corrcoef(labels[above], cosine[above])[0, 1])


def pairs_table(results: Mapping[str, Any], count: int = 5) -> str:
    """Markdown: the pairs of attributes that come together most in the data, and those that exclude each other most."""
    names, labels, cosine = results["names"], np.asarray(results["label_correlation"]), np.asarray(results["cosine"])
    i, j = np.triu_indices(len(names), 1)
    order = np.argsort(-labels[i, j], kind="stable")
    chosen = dict.fromkeys([*order[:count], *order[-count:]])  # the same pair not twice where there are few
    rows = [
        [f"{names[i[k]].replace('_', ' ')}, {names[j[k]].replace('_', ' ')}", f"{labels[i[k], j[k]]:+.2f}", f"{cosine[i[k], j[k]]:+.2f}"]
        for k in chosen
    ]
    table = markdown(["attributes", "correlation in the data", "cosine of the vectors"], rows)
    both = results["agreement"]
    text = f"Over all {len(i)} pairs the two correlate with {both:+.2f}. " if np.isfinite(both) else ""
    if results.get("seen", {}).get("attributes"):
        seen, number = results["seen"], len(results["seen"]["attributes"])
        text += f"Of test images without an attribute the regressor sees it in {seen['seen_before']:.1%} of the reconstructions, in "
        text += f"{seen['seen']:.1%} of those with its vector added at strength 1 (means over {number} attributes). Its score moves by "
        text += f"{seen['change']:+.2f}, the other attributes' scores by {seen['others']:.2f} on average, either way."
    return f"{table}\n\n{text}".strip()


def write_matrix(out: Path, names: Sequence[str], labels: np.ndarray, cosine: np.ndarray) -> None:
    """One matrix: above the diagonal the correlation of the labels, below it the cosine of the vectors."""
    count = len(names)
    side = max(4.0, 0.21 * count)
    label = 0.25 + 0.065 * max(map(len, names))  # inches that the longest name takes
    left, bottom, top, right = label, label, 0.8 if side > 6 else 1.0, 0.85
    width, height = left + side + right, bottom + side + top
    figure = new_figure(width, height)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    above = np.triu(np.ones((count, count), bool), 1)
    values = np.ma.masked_array(np.where(above, labels, cosine), np.eye(count, dtype=bool))
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.plot([-0.5, count - 0.5], [-0.5, count - 0.5], color="#555", lw=0.8)
    shown = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(count), shown, rotation=90, fontsize=8)
    axes.set_yticks(range(count), shown, fontsize=8)
    axes.tick_params(length=2, width=0.6)
    for spine in axes.spines.values():
        spine.set_linewidth(0.6)
    bar = figure.add_axes(((left + side + 0.18) / width, bottom / height, 0.16 / width, side / height))
    figure.colorbar(image, cax=bar).ax.tick_params(labelsize=8)
    both = agreement(np.asarray(labels), np.asarray(cosine))
    note = f"; over all pairs the two correlate with {both:+.2f}" if np.isfinite(both) else ""
    figure.text(left / width, 1 - 0.32 / height, "Attributes that come together", ha="left", fontsize=12)
    text = f"above the diagonal: correlation in the data; below: cosine of the vectors{note}"
    lines = text if side > 6 else text.replace("; ", "\n")
    figure.text(left / width, 1 - 0.40 / height, lines, ha="left", va="top", fontsize=8.5, color="#666")
    save_figure(figure, out)
