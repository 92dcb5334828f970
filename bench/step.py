"""The whole training step against PyTorch: time in alternating rounds, peak memory of each alone.

    python -m bench.step --network paper64 --batch-size 16 --rounds 7 --out bench/results/step-cpu.json

Contestants: `ours`; `plain`, eager PyTorch as public VAE/GAN code is written; `lean`, PyTorch without waste (bench/peers).
All three do the same step (tests/test_peers.py); PyTorch runs in the faster of its two memory layouts.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CONTESTANTS = ("ours", "plain", "lean")
LR = 3e-4


def data(engine: Any, spec: Any, n: int) -> tuple[np.ndarray, ...]:
    """x in [-1, 1], eps, z_p."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, spec.image_size, spec.image_size, spec.channels))
    return tuple(engine.asarray(a) for a in (x, *(rng.standard_normal((n, spec.latent)) for _ in range(2))))


def make(name: str, network_name: str, n: int, layout: str | None = None) -> Callable[[], None]:
    """A step of one contestant, ready to be called over and over. ``layout``: "NCHW" or "NHWC" for PyTorch."""
    from bench.harness import setup
    from models.networks import network
    from models.vaegan import VAEGAN, Objective

    engine, spec = setup(), network(network_name)
    arrays = data(engine, spec, n)
    model = VAEGAN(engine, spec, seed=0)
    if name == "ours":
        objective = Objective(gate=False)  # the gate would skip work of ours alone
        return lambda: model.train_step(*arrays, objective, LR)
    return _peer(name, model.state_arrays(), arrays, layout)


def _peer(name: str, state: dict[str, Any], arrays: tuple[np.ndarray, ...], layout: str | None) -> Callable[[], None]:
    """A step of PyTorch from the same weights and batch."""
    import torch

    from bench.peers.networks import Networks
    from bench.peers.pytorch import Lean, Plain

    parts = [{k.removeprefix(p): a for k, a in state.items() if k.startswith(p)} for p in ("parameters/", "statistics/")]
    networks = Networks(parts[0])
    networks.load(*parts)
    memory_format = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    networks = networks.to(memory_format=memory_format)
    peer = {"plain": Plain, "lean": Lean}[name](networks, lr=LR)
    x, eps, z_p = (torch.from_numpy(a.copy()) for a in arrays)
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    return lambda: peer.step(x, eps, z_p)


def faster_layout(name: str, network_name: str, n: int) -> str:
    """PyTorch's better memory layout for a contestant."""
    from bench.harness import elapsed

    times = {}
    for layout in ("NCHW", "NHWC"):
        step = make(name, network_name, n, layout)
        step()
        times[layout] = min(elapsed(step) for _ in range(2))
        del step
        gc.collect()
    return min(times, key=times.__getitem__)


def peak_mb() -> float:
    """Peak resident memory of this process. Not ru_maxrss on Linux: there a child starts with its parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(float(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024.0**2 if sys.platform == "darwin" else 1024.0)


def reset_peak() -> None:
    """Give freed memory back to the system and let `peak_mb` start anew from what is held now (Linux; elsewhere nothing)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def memory_mb(name: str, network_name: str, n: int, layout: str | None) -> dict[str, float]:
    """Peak resident memory of a process that makes two steps, and what its imports alone take."""
    command = [sys.executable, "-m", "bench.step", "--alone", name, "--network", network_name, "--batch-size", str(n)]
    done = subprocess.run([*command, *(["--layout", layout] if layout else [])], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def alone(name: str, network_name: str, n: int, layout: str | None) -> None:
    """The child of `memory_mb`: prints its peak memory after two steps, and after its imports, as JSON."""

    if name == "ours":
        import kernels
        import models.vaegan

        _ = kernels, models.vaegan
    else:
        import bench.peers.pytorch

        _ = bench.peers.pytorch
    imports = peak_mb()
    step = make(name, network_name, n, layout)
    reset_peak()  # PyTorch's weights came from a model of ours, gone by now: it is not to be charged for that
    step()
    step()
    print(json.dumps({"peak_mb": round(peak_mb(), 1), "imports_mb": round(imports, 1)}))


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(network_name: str, n: int, rounds: int) -> dict[str, Any]:
    """Alternate the contestants in one process, then weigh each in a process of its own."""
    from bench.harness import busy_cores, elapsed, machine

    busy = [busy_cores()]
    layouts: dict[str, str | None] = {"ours": None, **{c: faster_layout(c, network_name, n) for c in ("plain", "lean")}}
    steps = {c: make(c, network_name, n, layouts[c]) for c in CONTESTANTS}
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {c: [] for c in CONTESTANTS}
    for i in range(rounds):
        for c in CONTESTANTS[i % 3 :] + CONTESTANTS[: i % 3]:  # nobody always runs behind the same one
            times[c].append(elapsed(steps[c]))
    steps.clear()
    gc.collect()
    busy.append(busy_cores())
    return {
        "command": "python -m bench.step " + " ".join(sys.argv[1:]), "network": network_name, "batch_size": n, "rounds": rounds,
        "machine": machine(), "layout": layouts, "busy_cores_of_others": busy, "seconds": {c: spread(t) for c, t in times.items()},
        "times_faster_than": {
            c: spread([a / b for a, b in zip(times[c], times["ours"], strict=True)]) for c in ("plain", "lean")
        },
        "memory": {c: memory_mb(c, network_name, n, layouts[c]) for c in CONTESTANTS},
    }  # fmt: skip


def report(result: dict[str, Any]) -> str:
    """The result as a person reads it."""
    from bench.harness import quiet_note

    m = result["machine"]
    lines = [
        f"{result['network']}, batch {result['batch_size']}, {result['rounds']} alternating rounds, {m['threads']} threads, {m['cpu']}",
        f"Python {m['python']}, NumPy {m['numpy']}, PyTorch {m['torch']}, {m['date']}",
    ]
    for c in CONTESTANTS:
        s, mem, ratio = result["seconds"][c], result["memory"][c], result["times_faster_than"].get(c)
        line = f"  {c:<6} {s['median']:8.3f} s a step ({s['min']:.3f} to {s['max']:.3f})   peak {mem['peak_mb']:7.0f} MB, "
        line += f"imports {mem['imports_mb']:.0f} MB"
        if ratio:
            line += f"   ours is {ratio['median']:.2f}x as fast ({ratio['min']:.2f} to {ratio['max']:.2f}), {result['layout'][c]}"
        lines.append(line)
    note = quiet_note(*result["busy_cores_of_others"])
    return "\n".join([*lines, *([note] if note else [])])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time a training step against PyTorch on the CPU.")
    parser.add_argument("--network", default="paper64")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--alone", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--layout", choices=("NCHW", "NHWC"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        alone(args.alone, args.network, args.batch_size, args.layout)
        return
    result = measure(args.network, args.batch_size, args.rounds)
    print(report(result))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
