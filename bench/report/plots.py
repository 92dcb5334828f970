"""The plots of `bench.report`, each beside its result file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {"ours": "#0b7a75", "numpy": "#8d99ae", "plain": "#c44536", "lean": "#e09f3e", "compiled": "#335c81"}


def draw(path: Path, result: dict[str, Any]) -> Path | None:
    """The plot of a result file, or None for a kind that has none or has nothing to show."""
    kind = path.name.split("-")[0]
    work = {"step": draw_steps, "scaling": draw_scaling, "kernels": draw_kernels}.get(kind)
    if work is None:
        return None
    import matplotlib

    matplotlib.use("Agg")
    figure = work(result)
    if figure is None:
        return None
    target = path.with_suffix(".png")
    figure.savefig(target, dpi=110, metadata={"Software": None})
    import matplotlib.pyplot as plt

    plt.close(figure)
    return target


def tidy(axes: Any) -> None:
    """No frame where nothing is read off."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="x", alpha=0.25)


def draw_steps(result: dict[str, Any]) -> Any:
    """Bars: each contestant's time over ours."""
    import matplotlib.pyplot as plt

    bars = []
    for case in result["cases"]:
        for peer, spread in case.get("times_faster_than", {}).items():
            bars.append((f"{case['network']}, batch {case['batch_size']}: {peer}", peer, spread))
    if not bars:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.36 * len(bars)), layout="constrained")
    for k, (_, peer, spread) in enumerate(bars):
        axes.barh(-k, spread["median"], color=COLOURS[peer], height=0.7)
        axes.plot([spread["min"], spread["max"]], [-k, -k], color="black", linewidth=1)
        axes.text(spread["max"] + 0.05, -k, f"{spread['median']:.2f}", va="center", fontsize=9)
    axes.axvline(1.0, color=COLOURS["ours"], linewidth=1.5)
    axes.set_yticks([-k for k in range(len(bars))], [label for label, _, _ in bars], fontsize=9)
    axes.set_xlabel("time over ours (line: as fast as ours; whiskers: least and largest of the rounds)")
    tidy(axes)
    return figure


def draw_scaling(result: dict[str, Any]) -> Any:
    """Time and memory against batch, size and width, on logarithmic axes."""
    import matplotlib.pyplot as plt

    sweeps = list(dict.fromkeys(case["sweep"] for case in result["cases"]))
    if not sweeps:
        return None
    figure, grid = plt.subplots(2, len(sweeps), figsize=(4 * len(sweeps), 6), layout="constrained", squeeze=False)
    for column, sweep in enumerate(sweeps):
        cases = [case for case in result["cases"] if case["sweep"] == sweep and "failed" not in case]
        names = cases[0]["seconds"] if cases else []
        for name in names:
            values = [case["value"] for case in cases]
            grid[0, column].plot(values, [1e3 * case["seconds"][name]["median"] for case in cases], "o-", color=COLOURS[name], label=name)
            grid[1, column].plot(values, [case["memory"][name]["peak_mb"] for case in cases], "o-", color=COLOURS[name])
        for axes, what in ((grid[0, column], "a step, ms"), (grid[1, column], "peak memory, MB")):
            axes.set(xscale="log", yscale="log", title=f"{what} against {sweep}")
            axes.set_xticks([case["value"] for case in cases], [f"{case['value']:g}" for case in cases])
            axes.minorticks_off()
            tidy(axes)
            axes.grid(axis="y", alpha=0.25)
    grid[0, 0].legend(frameon=False)
    return figure


def draw_kernels(result: dict[str, Any]) -> Any:
    """Bars: PyTorch's time over ours for every operation."""
    import matplotlib.pyplot as plt

    rows = result["rows"]
    if not rows:
        return None
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.22 * len(rows)), layout="constrained")
    for k, row in enumerate(rows):
        axes.barh(-k, row["times_torch"], color=COLOURS["ours"] if row["times_torch"] >= 1 else COLOURS["plain"], height=0.7)
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_yticks([-k for k in range(len(rows))], [row["name"].removeprefix("test_") for row in rows], fontsize=7)
    axes.set_ylim(-len(rows) + 0.3, 0.7)
    axes.set_xlabel("PyTorch's time over ours")
    tidy(axes)
    return figure
