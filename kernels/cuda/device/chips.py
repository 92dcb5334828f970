"""The GPUs that kernels are compiled and sized for: facts from NVIDIA's CUDA C++ Programming Guide, appendix "Compute Capabilities"."""

from __future__ import annotations

from typing import NamedTuple

#: Chips of servers: large shared memory, tensor cores at full rate. Every other one is a consumer's.
DATA_CENTRE = ((7, 0), (8, 0), (9, 0), (10, 0), (10, 3))


class Chip(NamedTuple):
    """One GPU.

    Attributes:
        name: as the driver or NVIDIA names it.
        capability: compute capability, (9, 0).
        shared_bytes: shared memory that one block can ask for.
        multiprocessors: how many; of the common board where several exist.
    """

    name: str
    capability: tuple[int, int]
    shared_bytes: int
    multiprocessors: int

    @property
    def sm(self) -> int:
        """The capability in compilers' form: 90."""
        return 10 * self.capability[0] + self.capability[1]

    @property
    def tma(self) -> bool:
        """Whether it copies boxes of tensors by descriptor (Hopper and later)."""
        return self.capability >= (9, 0)

    @property
    def dependent(self) -> bool:
        """Whether a kernel can begin before the launch before has ended, and wait for that itself (Hopper and later)."""
        return self.capability >= (9, 0)

    @property
    def wgmma(self) -> bool:
        """Whether its matrix instruction is wgmma (Hopper alone)."""
        return self.capability[0] == 9

    @property
    def bf16(self) -> bool:
        """Whether its tensor cores multiply bfloat16 (Ampere and later)."""
        return self.capability >= (8, 0)

    @property
    def family(self) -> str:
        """ "data-centre" or "consumer": which list of tiles it has."""
        return "data-centre" if self.capability in DATA_CENTRE and self.bf16 else "consumer"


class _Pointers(Chip):
    __slots__ = ()
    tma = False


def without_tma(chip: Chip) -> Chip:
    """``chip`` without TMA, under another name: nothing that was cached for the chip is used for this one."""
    return _Pointers(f"{chip.name}, no TMA", *chip[1:])


#: By compiler name: what kernels are compiled for ahead of time, and what the emulated devices imitate.
CHIPS = {
    "sm_70": Chip("V100", (7, 0), 98304, 80),
    "sm_75": Chip("Turing (RTX 20, T4)", (7, 5), 65536, 40),
    "sm_80": Chip("A100", (8, 0), 166912, 108),
    "sm_86": Chip("RTX 30", (8, 6), 101376, 84),
    "sm_87": Chip("Jetson Orin", (8, 7), 166912, 16),
    "sm_89": Chip("RTX 40", (8, 9), 101376, 128),
    "sm_90": Chip("H100", (9, 0), 232448, 132),
    "sm_100": Chip("B200", (10, 0), 232448, 148),
    "sm_103": Chip("B300", (10, 3), 232448, 148),
    "sm_120": Chip("RTX 50", (12, 0), 101376, 170),
    "sm_121": Chip("DGX Spark", (12, 1), 101376, 48),
}
