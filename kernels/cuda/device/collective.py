"""What a device does together with those of other processes; which they are, and how, is the business of `kernels.ranks`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kernels.contract.operation import Array
from kernels.cuda.device.held import Holding


class Collective(NamedTuple):
    """One as recorded: ``kind``, "gather" or "total" (`kernels.ranks.ranks.Ranks`), and the dtype and bytes of each of its arrays."""

    kind: str
    dtypes: tuple[str, ...]
    nbytes: tuple[int, ...]


class Collecting(Holding):
    """Base of a device.

    Attributes:
        collectives: None, or a list that each collective is appended to.
        agreed: whether a thing is so for any of the processes; they decide together when to capture.
    """

    executes: bool
    rehearsing: bool
    collectives: list[Collective] | None = None
    agreed: Callable[[bool], bool] = staticmethod(bool)

    def collective(self, kind: str, arrays: Sequence[Array], perform: Callable[[], None]) -> None:
        """``perform`` it behind everything launched so far, on this device's stream; what is launched later sees its results. In a
        rehearsal, and where nothing is executed, it is noted alone.

        Raises:
            ValueError: one of ``arrays`` is not C-contiguous, or not on the device.
        """
        self.settle()
        if wrong := [array.shape for array in arrays if not array.flags.c_contiguous]:
            raise ValueError(f"{kind}: got a view of shape {wrong[0]} that is not C-contiguous, whose bytes are no piece of memory")
        self._require_on_device(kind, {str(number): array for number, array in enumerate(arrays)})
        if self.executes and not self.rehearsing:
            perform()
        if self.collectives is not None:
            found = Collective(kind, tuple(a.dtype.name for a in arrays), tuple(int(a.nbytes) for a in arrays))
            self.collectives.append(found)

    def _require_on_device(self, what: str, values: dict[str, Any]) -> None:
        """Raise `ValueError` for an array of another device."""
