"""``python -m bench.report``: the result files as tables and plots in bench/README.md, with a headline for the project's README.

Every number comes from a file in bench/results; a part whose file is not there is left out. The plots are written beside the files.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report import plots
from bench.report.tables import breakdown_table, feed_table, kernel_table, scaling_table, source, step_table

HERE = Path(__file__).resolve().parents[1]
HEAD = """# Benchmarks

Written by `python -m bench.report` from the files in [results/](results); no figure below is typed by hand. Times are medians of rounds in
which the contestants alternate in one process; "x" is a contestant's time over ours in the same round (above 1: ours is faster). Machines
are shared and noisy: read the ratios.

- *ours*: this repository's step; on the CPU the native engine, or the one that a heading names;
- *numpy*: the same step on the NumPy engine, the native one's reference;
- *plain*: eager PyTorch as public VAE/GAN code is written, three backward passes with `retain_graph`;
- *lean*: PyTorch that shares forward passes and wastes no gradient;
- *compiled*: that with `torch.compile`, bf16, channels last and one CUDA graph.

All give the same gradients ([tests/test_peers.py](../tests/test_peers.py)), and PyTorch gets the fastest of its memory layouts.
`--vectors avx2` holds all of them to AVX2, and checks that PyTorch obeys.

The native engine is C++ compiled for the machine at first use; it calls no BLAS. Its convolutions and linear layers are direct, by small
blocks of a product that stay in registers ([product.h](../kernels/cpu/native/product.h)). From 16 channels on, the 5x5 convolutions of
stride 2 and their gradients use Winograd's F(4, 3) on the four phases of the stride instead, with a third of the multiplications
([winograd_tiles.h](../kernels/cpu/native/winograd_tiles.h)). The NumPy engine does so from 32 channels on where both sides are wide, and
calls BLAS for the rest ([winograd.py](../kernels/cpu/winograd.py)). What was tried is in [tuning.md](tuning.md).

Operations below 1x are of three kinds. Those with 3 channels on one side have no form but the direct one, where both sides are near
the core's peak or the memory's. Small linear layers take 0.1 to 0.2 ms, of which waking a thread is a good part; in a step it is awake.
Dis's FC layer, forward, has 48 rows: the weights are read as fast, and its product, in blocks of 64 inputs, is 10 % behind MKL's.
"""


def parts(results: Path) -> list[tuple[str, Path, Callable[[dict[str, Any]], str]]]:
    """(heading, file, text of it) of everything there is."""
    kinds: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
        ("A training step", "step-*.json", step_table),
        ("How cost grows", "scaling-*.json", scaling_table),
        ("Operation by operation", "kernels-*.json", kernel_table),
        ("Where a step's time goes", "breakdown-*.json", breakdown_table),
        ("Images read ahead of a GPU's steps", "feed*.json", feed_table),
    ]
    return [(heading, path, text) for heading, pattern, text in kinds for path in sorted(results.glob(pattern))]


def page(results: Path, pictures: bool = True) -> str:
    """The whole of bench/README.md; with ``pictures`` their plots are written beside the result files."""
    sections, last = [HEAD], ""
    for heading, path, text in parts(results):
        result = json.loads(path.read_text(encoding="utf-8"))
        if heading != last:
            sections.append(f"## {heading}\n")
            last = heading
        sections.append(f"### {source(result)}\n\n{text(result)}")
        picture = plots.draw(path, result) if pictures else path.with_suffix(".png")
        if picture is not None and picture.exists():
            sections.append(f"![{heading}]({picture.relative_to(results.parent)})\n")
        sections.append(f"[{path.name}]({path.relative_to(results.parent)}): `{result['command']}`\n")
    return "\n".join(sections)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Tables and plots of bench/results in bench/README.md.")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the result files (default: bench/results)")
    parser.add_argument("--page", type=Path, default=HERE / "README.md", help="the page (default: bench/README.md)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not what the files give")
    arguments = parser.parse_args(argv)
    text = page(arguments.results, pictures=not arguments.check)
    if arguments.check:
        if not arguments.page.is_file() or arguments.page.read_text(encoding="utf-8") != text:
            sys.exit(f"{arguments.page}: not what the result files give; run python -m bench.report")
        print(f"{arguments.page}: as the result files say")
        return
    arguments.page.write_text(text, encoding="utf-8")
    print(f"{arguments.page} written from {len(parts(arguments.results))} files")


if __name__ == "__main__":
    main()
