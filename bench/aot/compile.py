"""Compiling many kernels in parallel processes and reading their machine code. No GPU is needed."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from bench.aot import abi
from bench.aot.collect import Kernel, tile_of
from bench.aot.rules import Measured

#: Stands for the code that reads machine code: what was read is valid for this code alone.
READER = hashlib.sha256(Path(__file__).read_bytes() + Path(__file__).with_name("sass.py").read_bytes()).hexdigest()[:8]
RESERVED = 1024  # bytes of shared memory that the system takes from each block on sm_90 and later, which the limit leaves out already


def quiet_environment() -> None:
    """Set up this process, before Triton is imported, and those that it starts: Triton compiles, as the GPU engine has it."""
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH"))))


def jobs(kernels: Iterable[Kernel]) -> list[list[Kernel]]:
    """Kernels that one compilation serves: the same code for the same chip (in two precisions, say), and all functions of a CUDA C file
    with the same defines."""
    from kernels.cuda.device.compile import key_of

    result: dict[Any, list[Kernel]] = {}
    for k in kernels:
        own = (k.launch.source, k.launch.defines) if k.launch.kind == "cuda" else key_of(k.launch)
        result.setdefault((k.launch.kind, own, k.chip), []).append(k)
    return sorted(result.values(), key=lambda job: -job[0].launch.cost.flops)  # the slow ones first, so that none is left for the end


def measure(
    kernels: Iterable[Kernel], workers: int, progress: Callable[[int, int], None] = lambda done, of: None
) -> tuple[list[Measured], list[str]]:
    """Compile and read every kernel on ``workers`` processes; the results in the kernels' order, and a line for each that failed."""
    kernels = list(kernels)
    work = jobs(kernels)
    measured: dict[str, Measured] = {}
    failed: list[str] = []
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_work, [_portable(k) for k in job]): job for job in work}
        for number, future in enumerate(as_completed(waiting), 1):
            try:
                measured |= {m.key: m for m in future.result()}
            except RuntimeError as error:
                failed += [f"{k.key}: {error}" for k in waiting[future]]
            progress(number, len(work))
    return [measured[k.key] for k in kernels if k.key in measured], sorted(failed)


def select(kernels: Iterable[Kernel], table: dict[str, dict[str, Any]], kinds: set[str]) -> tuple[list[Kernel], list[Measured]]:
    """What is to be compiled again and what a table says already, where all that the numbers depend on is as it was.

    The first kernel of each function on each chip in each precision is always compiled. ``kinds`` of launch have the table's compiler;
    of the others only these first ones are taken.
    """
    from kernels.cuda.device.chips import CHIPS

    todo, known, seen = [], [], set()
    for k in kernels:
        first = (k.launch.kind, k.launch.source if k.launch.kind == "cuda" else k.launch.name, k.chip, k.precision)
        row = table.get(k.key)
        if first not in seen:
            todo.append(k)
        elif k.launch.kind in kinds and row is not None and row["digest"] == f"{k.digest}-{READER}":
            now = {"uses": k.uses, "bytes": k.bytes, "matrix": tuple(row["matrix"]), "limit": CHIPS[k.chip].shared_bytes}
            known.append(Measured(key=k.key, **{**row, **now}))
        elif k.launch.kind in kinds:
            todo.append(k)
        seen.add(first)
    return todo, known


def _portable(kernel: Kernel) -> Kernel:
    """A copy that another process can read: a Triton function becomes the name of its module and its own."""
    source = kernel.launch.source
    if kernel.launch.kind == "triton":
        source = (source.fn.__module__, source.fn.__name__)
    return dataclasses.replace(kernel, launch=dataclasses.replace(kernel.launch, source=source))


def _work(job: list[Kernel]) -> list[Measured]:
    """In a worker: compile what ``job`` has in common and read each kernel of it."""
    from kernels.cuda.device.chips import CHIPS
    from kernels.cuda.device.compile import compile_launch

    launch, chip = job[0].launch, CHIPS[job[0].chip]
    if launch.kind == "triton":
        module, name = launch.source
        launch = dataclasses.replace(launch, source=getattr(importlib.import_module(module), name))
    code = compile_launch(launch, chip)
    facts = _read(code.image)
    result = []
    for kernel in job:
        own = kernel.launch
        name = code.name if own.kind == "triton" else own.name
        if name not in facts:
            raise RuntimeError(f"{name} is not in the code of {own.source}")
        if lines := abi.wrong(own, name, code):
            raise RuntimeError(f"{name} {'; '.join(lines)}")
        warps = code.warps if own.kind == "triton" else own.warps
        static = code.shared if own.kind == "triton" else facts[name]["static"] - (RESERVED if chip.capability >= (9, 0) else 0)
        result.append(_measured(kernel, facts[name], 32 * warps, static + own.shared, chip.shared_bytes))
    return result


def _read(image: bytes) -> dict[str, dict[str, Any]]:
    """What the machine code says of each kernel in it; cached on disk, since the disassembler is slow."""
    from bench.aot import sass
    from kernels.cache import cache_folder, write_atomically

    path = cache_folder("sass") / f"{hashlib.sha256(READER.encode() + image).hexdigest()}.json"
    try:
        kept: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    except (OSError, ValueError):
        pass
    functions, resources = sass.read(image)
    facts = {name: _facts(functions[name], resource) for name, resource in resources.items() if name in functions}
    write_atomically(path, json.dumps(facts).encode())
    return facts


def _facts(function: Any, resource: Any) -> dict[str, Any]:
    from bench.aot import sass

    loop = function.main_loop() or []
    body = loop or function.instructions
    return {
        "registers": resource.registers, "stack": resource.stack + resource.local, "static": resource.shared,
        "loop": sass.mix(loop), "whole": sass.mix(function.instructions),
        "matrix": dict(Counter(i.name for i in body if sass.MATRIX.match(i.base))),
        "fused": sum(i.base in ("FFMA", "FFMA2") for i in body),
        "from_registers": sum(i.base == "HGMMA" and re.match(r"R\d+, R\d+", i.operands) is not None for i in body),
        "waits": sass.waits_first(function),
    }  # fmt: skip


def k_steps(matrix: dict[str, int], fused: int, threads: int, constants: dict[str, Any], precision: str) -> float:
    """K-steps of a product's tile (BM x BN x BK, UNITS of them) in one pass through its main loop, from the multiply-adds done there;
    0 if unknown. HMMA is a warp's, HGMMA four warps', UTCHMMA a block's."""
    bm, bn, bk = (constants.get(name, 0) for name in ("BM", "BN", "BK"))
    if not bm * bn * bk:
        return 0.0
    done = 0 if matrix else fused * threads
    for name, count in matrix.items():
        if shape := re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)", name):
            done += count * threads // 128 * int(shape[1]) * int(shape[2]) * int(shape[3])
        elif shape := re.match(r"HMMA\.16(8)(16|8|4)\b", name):
            done += count * threads // 32 * 16 * 8 * int(shape[2])
        elif name.startswith("UTC"):
            done += count * min(bm, 128) * min(bn, 256) * (16 if precision == "bf16" else 8)
    return round(done / (bm * bn * bk * constants.get("UNITS", 1)), 2)


def _measured(kernel: Kernel, facts: dict[str, Any], threads: int, shared: int, limit: int) -> Measured:
    launch, whole = kernel.launch, facts["whole"]
    steps = k_steps(facts["matrix"], facts["fused"], threads, launch.constexprs, kernel.precision) if facts["loop"] else 0.0
    return Measured(
        key=kernel.key, kernel=launch.name, chip=kernel.chip, precision=kernel.precision,
        family="product" if kernel.product else launch.kind, tile=tile_of(launch, threads // 32),
        threads=threads, bytes=kernel.bytes, registers=facts["registers"], stack=facts["stack"],
        spills=whole.get("LDL", 0) + whole.get("STL", 0), shared=shared, limit=limit,
        loop=facts["loop"], whole=whole, matrix=tuple(sorted({name.split(".")[0] for name in facts["matrix"]})), fused=facts["fused"],
        waits=facts["waits"], from_registers=facts["from_registers"],
        steps=steps if kernel.product else 0.0, uses=kernel.uses, digest=f"{kernel.digest}-{READER}",
    )  # fmt: skip
