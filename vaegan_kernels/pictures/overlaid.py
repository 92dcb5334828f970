"""The curves of several runs in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.pictures.chart import new_figure, save_figure
from vaegan_kernels.pictures.figures import PANELS, dress, positive, smooth

STYLES = ("-", "--", ":")  # of the curves in one panel; colours are the runs'


def write_overlaid(runs: Sequence[tuple[str, list[dict[str, Any]]]], out: Path) -> bool:
    """Draw the running means of (name, metrics) of each run, the panels of a run's own curves. Imports matplotlib, slow, only here.

    Returns: whether there was anything to draw: a run needs two lines of metrics.
    """
    runs = [(name, metrics) for name, metrics in runs if len(metrics) > 1]
    panels = [panel for panel in PANELS if any(key in line for _, metrics in runs for line in metrics for key, _ in panel[1])]
    if not panels:
        return False
    rows = -(-len(panels) // 2)
    legend = 0.25 * -(-len(runs) // 4) + 0.15  # inches
    height = (6.6 if rows == 2 else 3.6) + legend
    figure = new_figure(11, height)
    from matplotlib.lines import Line2D

    figure.subplots_adjust(left=0.06, right=0.985, top=1 - (0.35 + legend) / height, bottom=0.5 / height, hspace=0.2, wspace=0.14)
    for axes, (title, curves, scale) in zip(figure.subplots(rows, 2, sharex=True).flat, panels, strict=False):
        for number, (_, metrics) in enumerate(runs):
            steps = np.array([line["step"] for line in metrics])
            for style, (key, _) in zip(STYLES, curves, strict=False):
                values = np.array([float(line.get(key, np.nan)) for line in metrics])
                if not np.isnan(values).all():
                    axes.plot(steps, smooth(values), color=f"C{number}", ls=style, lw=1.4)
        dress(axes, title, log=scale == "log" and all(positive(metrics, curves) for _, metrics in runs))
        if len(curves) > 1:
            lines = [Line2D([], [], color="#555", ls=style, lw=1.4, label=label) for style, (_, label) in zip(STYLES, curves, strict=False)]
            axes.legend(handles=lines, frameon=False, fontsize=8.5)
    for axes in figure.axes[len(panels) :]:
        axes.set_visible(False)
    for axes in figure.axes[-2:]:
        axes.set_xlabel("step")
    names = [Line2D([], [], color=f"C{number}", lw=2.5, label=name) for number, (name, _) in enumerate(runs)]
    figure.legend(handles=names, loc="upper left", bbox_to_anchor=(0.05, 1.0), ncols=4, frameon=False, fontsize=10)
    save_figure(figure, out)
    return True
