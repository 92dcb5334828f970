"""The tables of `bench.report`: Markdown from result files."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def source(result: dict[str, Any]) -> str:
    """Where a result was measured, and with what, in a line."""
    m = result["machine"]
    if "torch" not in m:  # nothing of it computes
        return f"{m['cpu']}, {m['cores']} cores, {m['date']}"
    where = f"{m['cpu']}, {m['threads']} threads" if m.get("device", "cpu") == "cpu" else f"{m['engine']['device']}, cuDNN {m.get('cudnn')}"
    peer = f"PyTorch {m['torch']}" + (f" ({m['torch_vectors']})" if "torch_vectors" in m else "")
    return ", ".join(part for part in (where, engine_title(m), m.get("precision", "float32"), peer, m["date"]) if part)


def engine_title(machine: dict[str, Any]) -> str:
    """Which of the CPU's engines ours was: ``"native engine (AVX-512, g++ 12.2.0)"``; of results that do not say it was NumPy's. Empty
    elsewhere."""
    if machine.get("device", "cpu") != "cpu":
        return ""
    about = machine.get("engine", {})
    if about.get("engine") != "native":
        return "NumPy engine"
    return f"native engine ({about['vectors']}, {about['compiler']})"


def peak_text(peaks: dict[str, Any]) -> str:
    """What a fraction of the peak is a fraction of."""
    text = f"The peak: {peaks['gflop_per_s']:,.0f} GFLOP/s ({peaks.get('gflop_of', 'a large product')}) "
    text += f"and {peaks['gb_per_s']:.1f} GB/s (a copy), measured in the same run.\n"
    return text + "Operations are those of the definition; Winograd executes a third of its layers', so it can pass 100 %."


def milliseconds(seconds: float) -> str:
    """Three figures."""
    ms = 1e3 * seconds
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def ratio_text(spread: dict[str, float]) -> str:
    """``1.88 (1.74–1.89)``."""
    return f"{spread['median']:.2f} ({spread['min']:.2f}–{spread['max']:.2f})"


def step_table(result: dict[str, Any]) -> str:
    """Time, ratio to each peer and memory of each network and batch size."""
    rows, peaks = [], result.get("peaks")
    for case in result["cases"]:
        head = f"{case['network']}, batch {case['batch_size']}" + (f": {case['gflop']:.4g} GFLOP" if "gflop" in case else "")
        if "failed" in case:
            rows.append([head, "", case["failed"], *[""] * (5 if peaks else 4)])
            continue
        for name, seconds in case["seconds"].items():
            memory, against = case["memory"].get(name), case["times_faster_than"].get(name)
            held = [f"{memory[key]:,.0f} MB" for key in ("peak_mb", "state_mb", "activations_mb")] if memory else ["", "", ""]
            share = [f"{100 * case['of_peak'][name]:.0f} %"] if peaks else []
            rows.append([head, name, milliseconds(seconds["median"]), ratio_text(against) if against else "", *share, *held])
            head = ""
    text = table(["", "contestant", "a step", "x ours", *["of the peak"] * bool(peaks), "peak memory", "state", "activations"], rows)
    return text + "".join(f"\n{note}\n" for note in notes(result))


def notes(result: dict[str, Any]) -> list[str]:
    """What a table of steps is read with: the peak, and what PyTorch was held to."""
    found = [peak_text(result["peaks"])] if result.get("peaks") else []
    return [*found, held_text(result["held"])] if "held" in result else found


def held_text(held: dict[str, Any]) -> str:
    """What `bench.vectors` found of a PyTorch that was held to fewer vectors than there are."""
    text = f"Held to {held['level']}: PyTorch's own kernels say {held['pytorch']}, oneDNN {held['onednn']} ({', '.join(held['kernels'])}), "
    text += f"MKL {held['mkl'] or 'nothing'}, NumPy's BLAS {held['blas'] or 'nothing'}"
    return text + {"used": ".", "unused": "; a step touched no AVX-512 register.", "unknown": "."}[held["avx512"]]


def scaling_table(result: dict[str, Any]) -> str:
    """A line for each case of the three sweeps."""
    rows, peer = [], "lean"
    unit = {"batch": "", "size": " px", "width": "x"}
    for case in result["cases"]:
        head = f"{case['sweep']} {case['value']:g}{unit[case['sweep']]}"
        if "failed" in case:
            rows.append([head, case["failed"], "", "", ""])
            continue
        (peer, against), *_ = case["times_faster_than"].items()
        seconds, memory = case["seconds"], case["memory"]
        rows.append(
            [
                head,
                milliseconds(seconds["ours"]["median"]),
                ratio_text(against),
                *(f"{memory[n]['peak_mb']:,.0f} MB" for n in ("ours", peer)),
            ]
        )
    return table([result["network"], "a step", f"x {peer}", "peak memory", f"{peer}'s"], rows)


def feed_table(result: dict[str, Any]) -> str:
    """Images a second from each place, the least and the most of the rounds, and how much was read for a byte that was wanted."""
    rows = []
    for case in result["cases"]:
        speeds, read = ([r[name] for r in case["rounds"]] for name in ("images_per_s", "bytes_read"))
        rows.append([case["where"], f"{median(speeds):,.0f} ({min(speeds):,}–{max(speeds):,})", f"{median(read):.1f}"])
    file = f"{result['images']:,} images of {result['image_size']} pixels, {result['file_bytes'] / 2**30:.1f} GB"
    text = f"Needed: {result['needed_images_per_s']:,} images/s. `disk`: none of the file is in the system's memory before.\n\n"
    return text + table([file, "images/s", "bytes read / wanted"], rows)


def of_roofline(row: dict[str, Any], peaks: dict[str, float]) -> float | None:
    """The least time that the machine's peaks allow for the row's operations and bytes, over its time."""
    if not peaks:
        return None
    floor = max(row.get("flop", 0.0) / (1e9 * peaks["gflop_per_s"]), row.get("bytes", 0.0) / (1e9 * peaks["gb_per_s"]))
    return 1e3 * floor / row["ours_ms"] if floor else None


def kernel_table(result: dict[str, Any]) -> str:
    """A line for each operation: time, ratio, fraction of the roofline; the latencies of one image in a table of their own."""
    rows, latencies = [], []
    for row in result["rows"]:
        if row["name"].startswith("test_latency["):
            name = row["name"].removeprefix("test_latency[").removesuffix("]").replace("-", ": ")
            latencies.append([name, f"{row['ours_ms']:.3g} ms", f"{row['torch_ms']:.3g} ms", f"{row['times_torch']:.2f}"])
            continue
        share = of_roofline(row, result["peaks"])
        rate = f"{row['gflop_per_s']:,.0f} GFLOP/s" if "gflop_per_s" in row else f"{row['gb_per_s']:,.1f} GB/s" if "gb_per_s" in row else ""
        name = row["name"].removeprefix("test_").replace("[", ": ").removesuffix("]")
        rows.append([name, f"{row['ours_ms']:.3g} ms", f"{row['times_torch']:.2f}", rate, f"{100 * share:.0f} %" if share else ""])
    text = table([f"{result['network']}, batch {result['batch_size']}", "ours", "x", "rate", "of the roofline"], rows)
    if result["peaks"]:
        text += f"\n{peak_text(result['peaks'])}\n"
    if latencies:
        text += "\nOne image, with running statistics:\n\n" + table(["one image", "ours", "PyTorch", "x"], latencies)
    return text


def breakdown_table(result: dict[str, Any], most: int = 16) -> str:
    """The largest operations of a step, then the rest."""
    total = result["step_seconds"]
    rows = [
        [row["operation"], row["shapes"], str(row["calls"]), milliseconds(row["seconds"]), f"{100 * row['seconds'] / total:.1f} %"]
        for row in result["rows"][:most]
    ]
    rest = sum(row["seconds"] for row in result["rows"][most:])
    known = sum(row["seconds"] for row in result["rows"])
    rows.append([f"{len(result['rows']) - most} more", "", "", milliseconds(rest), f"{100 * rest / total:.1f} %"])
    rows.append(["outside of operations", "", "", milliseconds(total - known), f"{100 * (total - known) / total:.1f} %"])
    return table([f"{result['network']}, batch {result['batch_size']}", "arrays", "calls", "time", "of the step"], rows)
