"""A stand-in for `cupy_backends.cuda.libs.nccl` on the stand-in for a GPU: moves nothing, and refuses what NCCL or a capture forbids."""

from __future__ import annotations

from stand_in_gpu import StandInGPU, Stream


class Refused(AssertionError):
    """A rule was broken."""


class Capturing(Stream):
    """Knows whether it is being captured."""

    capturing = False

    def begin_capture(self):
        super().begin_capture()
        self.capturing = True

    def end_capture(self):
        self.capturing = False
        return super().end_capture()


class GPU(StandInGPU):
    """Remembers its allocations."""

    bus_id = "0000:01:00.0"

    def __init__(self, library):
        super().__init__(library)
        self.stream = Capturing()
        self.pieces = []

    def _allocate(self, size):
        found = super()._allocate(size)
        self.pieces.append((found.ptr, found.ptr + size))
        return found


class FakeNCCL:
    """The module. ``done``: (kind, bytes, captured) of each call, or of each group."""

    NCCL_INT8, NCCL_FLOAT32, NCCL_FLOAT64, NCCL_SUM = 0, 7, 8, 0
    SIZES = {0: 1, 7: 4, 8: 8}
    NUMBER = bytes(range(128))

    def __init__(self, device):
        self.device, self.done, self.group, self.made = device, [], None, 0
        self.used = set()  # kinds whose connections have been made

    def get_unique_id(self):
        return self.NUMBER

    def NcclCommunicator(self, size, number, rank):
        if self.made or self.device.stream.capturing:
            raise Refused("a second communicator, or one within a capture")
        if not 0 <= rank < size or number != self.NUMBER:
            raise Refused("rank or number")
        self.made += 1
        return Communicator(self, size, rank)

    def groupStart(self):
        if self.group is not None:
            raise Refused("a group within a group")
        self.group = []

    def groupEnd(self):
        if self.group is None:
            raise Refused("a group ends that has not begun")
        calls, self.group = self.group, None
        if calls:
            self.note("total", sum(calls))

    def note(self, kind, nbytes):
        captured = self.device.stream.capturing
        if captured and kind not in self.used:
            raise Refused(f"{kind}: its first call is captured: connections are made then")
        self.used.add(kind)
        self.device.seen.behind = True
        self.done.append((kind, nbytes, captured))

    def check(self, at, nbytes, stream):
        if any(type(number) is not int for number in (at, nbytes, stream)):
            raise Refused("numbers that are no Python integers")
        if stream != self.device.stream.ptr:
            raise Refused("another stream than the one of the launches")
        if nbytes <= 0 or not any(start <= at and at + nbytes <= end for start, end in self.device.pieces):
            raise Refused("memory that is not one array of the device")


class Communicator:
    def __init__(self, nccl, size, rank):
        self.nccl, self.size, self.rank = nccl, size, rank

    def allGather(self, send, receive, count, kind, stream):
        nbytes = count * self.nccl.SIZES[kind]
        self.nccl.check(receive, self.size * nbytes, stream)
        if send != receive + self.rank * nbytes:
            raise Refused("not in place: this process's part is elsewhere")
        self.nccl.note("gather", self.size * nbytes)

    def allReduce(self, send, receive, count, kind, operation, stream):
        if kind not in (self.nccl.NCCL_FLOAT32, self.nccl.NCCL_FLOAT64) or operation != self.nccl.NCCL_SUM or send != receive:
            raise Refused("no sum of floats in place")
        self.nccl.check(send, count * self.nccl.SIZES[kind], stream)
        if self.nccl.group is None:
            raise Refused("a sum outside a group")
        self.nccl.group.append(count * self.nccl.SIZES[kind])


class Host:
    """MPI's processes, where there are no others: what ``others`` give, or what this one gives. Refuses to be asked within a capture."""

    def __init__(self, device, rank=1, size=3, others=None):
        self.device, self.rank, self.size, self.others, self.asked = device, rank, size, others, 0
        self.machine = 0

    def exchange(self, value):
        self.ask()
        if isinstance(value, bytes | None) and self.others is None:
            return [FakeNCCL.NUMBER] * self.size
        if isinstance(value, tuple) and self.others is None:  # a GPU on another machine each
            return [(number, value[1]) for number in range(self.size)]
        return [value] * self.size if self.others is None else self.others.pop(0)

    def largest(self, number):
        self.ask()
        return number

    def ask(self):
        if self.device.stream.capturing:
            raise Refused("MPI within a capture")
        self.asked += 1
