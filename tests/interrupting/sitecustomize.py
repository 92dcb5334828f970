"""On PYTHONPATH it interrupts a command at one of its events: imports, files that are opened, processes that are started, and so on.

INTERRUPT_AT=N: at the N-th event after the package's own beginning, Ctrl-C for the whole group of processes, as a terminal does it.
INTERRUPT_COUNT=FILE: writes there how many there are.
"""

import atexit
import os
import signal
import sys

AT, FILE = int(os.environ.pop("INTERRUPT_AT", "0")), os.environ.pop("INTERRUPT_COUNT", "")
count = -1  # before the package's beginning


def hook(event, arguments):
    global count
    if count < 0 and not (event == "import" and arguments[0].startswith("kernels")):
        return
    count += 1
    if count == AT > 0:
        os.killpg(0, signal.SIGINT)


def write():
    global FILE
    with open(FILE, "w", encoding="utf-8") as file:
        file.write(str(count))


if AT:
    sys.addaudithook(hook)
elif FILE:
    sys.addaudithook(hook)
    atexit.register(write)
