"""On PYTHONPATH it gives every Python of `bench.gpu` a GPU that is not there (tests/test_gpu_rehearsal.py): see tests/stand_in_gpu.py.

Nothing is compiled, nothing is computed, and a clock of its own measures. CRASH names sections that abort at their first row (or, before
they could have one, at once).
"""

import os
import sys

WHO = ("bench.gpu.child", "bench.gpu.parts", "bench.gpu.sanitizer", "vaegan_kernels.train")


def stand_in() -> None:
    """Replaces the device, the compilers, and what CuPy would ask a GPU."""
    import cupy
    from libcuda_case import libcuda, uncompiled
    from stand_in_gpu import Event, StandInGPU

    from kernels.cuda.device import compile as compiling
    from kernels.cuda.device import gpu, launcher, parallel

    def compile_launch(launch, chip, *, cached=False):
        return uncompiled(launch)

    def compile_many(launches, chip, jobs, progress=None):
        return {compiling.key_of(launch): uncompiled(launch) for launch in launches}

    launcher.compile_launch = compile_launch
    launcher.compile_many = parallel.compile_many = compile_many
    gpu.open_device = lambda precision=None: StandInGPU(libcuda())
    cupy.cuda.Event, cupy.cuda.get_elapsed_time = Event, lambda begin, end: end.time - begin.time
    cupy.cuda.runtime = StandInGPU.runtime
    cupy.cuda.set_allocator = lambda allocator: None


def smaller() -> None:
    """The few shapes of the emulated device for the comparisons with NumPy, which computes; one peer, since PyTorch finds no GPU."""
    import dataclasses

    from bench.gpu import kernels, peers, step

    peers.PEERS = peers.PEERS[:1]
    few, combinations = kernels.case_list, step.combinations
    kernels.case_list = lambda options, part="all": few(dataclasses.replace(options, device="host"), part)
    step.combinations = lambda options, precision: combinations(dataclasses.replace(options, device="host"), precision)


def crash(section: str) -> None:
    """Aborts this section's process, as a driver might."""
    from bench.gpu.common import Report

    row, init = Report.row, Report.__init__

    def first_row(self, text, **values):
        row(self, text, **values)
        os.abort()

    def at_once(self, *arguments):
        init(self, *arguments)
        os.abort()

    if section in ("compile", "sanitizer"):
        Report.__init__ = at_once
    else:
        Report.row = first_row


words = sys.orig_argv
if "bench/bench_losses.py" in words:  # section cudnn: three small operations beside PyTorch's on the CPU
    small = {"BENCH_DEVICE": "cpu", "BENCH_PRECISION": "float32", "BENCH_BATCH": "2", "BENCH_ROUNDS": "1", "PYTEST_ADDOPTS": "-k losses"}
    os.environ.update(small)
if any(who in words for who in WHO) or "kernels.engine('cuda'" in "".join(words):
    stand_in()
    if "vaegan_kernels.train" not in words:
        smaller()
    if "bench.gpu.child" in words and words[3] in os.environ.get("CRASH", "").split(","):
        crash(words[3])
