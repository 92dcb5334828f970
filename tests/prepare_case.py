"""A script without a main guard, for tests/test_cuda_prepare.py: makes three kernels ready on the stand-in for a GPU.

Its arguments: the stand-in for libcuda; "interrupt" for a Ctrl-C when the first kernel is compiled, "nothing" where no process can be
started, "short-lived" where those end at once, "one-core", or "all".
"""

import os
import signal
import sys
import time

import numpy as np

import kernels.cuda.device.launcher as launching
import kernels.processes as processes
from kernels.cuda.device.base import BFLOAT16, Descriptor
from kernels.ledger import Cost

sys.path.insert(0, os.path.join(os.getcwd(), "tests"))
import device_demo
from stand_in_gpu import StandInGPU

print("begun", flush=True)
library, how = sys.argv[1:3]
launching.WORTHWHILE, launching.available_cores = 1, lambda: 1 if how == "one-core" else 2
if how in ("nothing", "short-lived"):
    sys.executable = "/no/such/python" if how == "nothing" else "/bin/true"
workers, start = [], processes._start
processes._start = lambda without: workers.append(start(without)) or workers[-1]
device = StandInGPU(library)
a, b, out = (device.empty((64, 64), BFLOAT16) for _ in range(3))
rest = {"warps": 4, "stages": 2, "cost": Cost(0, 0, 0)}


def body():
    left, right = (Descriptor(x, x.shape, [64, 1], [64, 64]) for x in (a, b))
    device.triton(device_demo.product, (1,), out, left, right, 64, **rest, M=64, N=64, K=64, INTERPRETED=False)
    device.triton(device_demo.scale_rows, (4,), out, a, None, 64, 1.5, **rest, COLUMNS=64)
    file = os.path.join(os.getcwd(), "tests", "device_demo.cu")
    device.cuda(file, "scale", 1, 64, out, a, np.float32(2), np.int64(64), cost=rest["cost"], defines=("ACT_BF16",))


def show(done, of):
    print(f"{done}/{of}", flush=True)
    if how == "interrupt" and done == 1:
        assert all(os.getsid(worker.pid) != os.getsid(0) for worker in workers), "a terminal's Ctrl-C would be theirs, too"
        os.kill(os.getpid(), signal.SIGINT)


signal.signal(signal.SIGINT, signal.default_int_handler)  # in a background job of a script it is ignored
started = time.perf_counter()
try:
    device.prepare(body, show)
    print("ready", len(workers), "processes;", f"{time.perf_counter() - started:.2f} s", file=sys.stderr)
except KeyboardInterrupt:
    print("interrupted; left:", [worker.pid for worker in workers if worker.poll() is None])
    sys.exit(130)
launching.compile_launch = launching.compile_many = None  # nothing is to be compiled any more
body()
print("launched", len(workers))
