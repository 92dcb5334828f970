"""A source that is about to be decoded: what all kinds of sources say of themselves, so that memory and packed files are filled alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np

from vaegan_kernels.data.dataset import Dataset, Progress
from vaegan_kernels.data.images import Mended
from vaegan_kernels.data.parallel import CHUNK, map_chunks
from vaegan_kernels.shell.errors import UserError

Job = TypeVar("Job")
Placed = tuple[int, np.ndarray | None]  # its place among those that are wanted; uint8 [S,S,C], None where it cannot be read
#: (which pictures are wanted, int64 ascending; how many of them are done; processes) -> the others, in the same order each time. Their
#: places rise, unless all can be read.
Decoded = Callable[[np.ndarray, int, int | None], Iterator[Sequence[Placed]]]
Rows = Callable[[np.ndarray], np.ndarray]  # (int64 indices) -> what belongs to them


@dataclass(frozen=True)
class Plan:
    """A source of n pictures, none decoded yet."""

    name: str
    facts: dict[str, Any]  # JSON-able: how the pixels are made; `Dataset.preprocessing`
    stem: str  # of its name in the cache
    stamps: Any  # JSON-able: changes whenever the source's files do; None: it has none
    shape: tuple[int, int, int]  # S, S, C
    splits: np.ndarray  # uint8 [n]
    decoded: Decoded
    attributes: Rows | None = None
    attribute_names: tuple[str, ...] = ()
    labels: np.ndarray | None = None  # int16 [n]
    label_names: tuple[str, ...] = ()
    unreadable: Callable[[int], str] = "none of {} pictures can be read".format
    kept_splits: Rows | None = None  # the splits of what could be read, where they depend on that
    skipped: int = 0  # what could not be read before
    not_kept: tuple[str, ...] = ()  # what sources have that their joint plan has not, for a person

    def described(self, chosen: np.ndarray, images: np.ndarray, lost: Sequence[int], cut: int, fingerprint: str = "") -> Dataset:
        """The data set of ``images``, those of ``chosen`` without the places in ``lost``; of ``cut`` the last bytes are missing."""
        if not len(images):
            raise UserError(self.unreadable(len(chosen)))
        rows = np.delete(chosen, np.asarray(lost, np.int64))
        return Dataset(
            self.name, images, (self.kept_splits or self.splits.__getitem__)(rows),
            None if self.attributes is None else self.attributes(rows), self.attribute_names, self.facts | ({"cut": cut} if cut else {}),
            self.skipped + len(lost), fingerprint, None if self.labels is None else self.labels[rows], self.label_names,
        )  # fmt: skip


def gather(plan: Plan, chosen: np.ndarray, progress: Progress | None, workers: int | None) -> Dataset:
    """The pictures at ``chosen`` (int64, ascending) of ``plan``, in memory."""
    shape = (len(chosen), *plan.shape)
    try:
        images = np.empty(shape, np.uint8)
    except (MemoryError, ValueError) as error:
        size = np.prod(shape, dtype=float) / 1e9
        raise UserError(f"{shape[0]} images take {size:.1f} GB of memory; take fewer with --limit, or pack them first") from error
    lost: list[int] = []
    done = cut = 0
    for chunk in plan.decoded(chosen, 0, workers):
        for place, pixels in chunk:
            if pixels is None:
                lost.append(place)
            else:
                images[place - len(lost)] = pixels
                cut += isinstance(pixels, Mended)
        done += len(chunk)
        if progress is not None:
            progress(done, len(chosen))
    return plan.described(chosen, images[: len(chosen) - len(lost)], lost, cut)


def together(shape: tuple[int, int, int]) -> int:
    """How many images of this shape are decoded at a time: about two million bytes of them, so that memory is bounded."""
    return max(1, min(CHUNK, (1 << 21) // int(np.prod(shape))))


def in_order(
    function: Callable[[Sequence[Job]], Sequence[np.ndarray | None]], jobs: Callable[[np.ndarray], Sequence[Job]],
    shape: tuple[int, int, int],
) -> Decoded:  # fmt: skip
    """The `Decoded` of pictures that are read one by one: ``function`` decodes a few jobs to images of ``shape``, ``jobs`` makes those
    of indices."""

    def decoded(chosen: np.ndarray, done: int, workers: int | None) -> Iterator[Sequence[Placed]]:
        for chunk in map_chunks(function, _Jobs(jobs, chosen[done:]), workers=workers, chunk=together(shape)):
            yield [(done + k, pixels) for k, pixels in enumerate(chunk)]
            done += len(chunk)

    return decoded


class _Jobs(Sequence[Job]):
    """Jobs that are made when a piece of them is wanted: of millions of pictures they would take much room."""

    def __init__(self, make: Callable[[np.ndarray], Sequence[Job]], chosen: np.ndarray) -> None:
        self.make, self.chosen = make, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | Sequence[Job]:
        return self.make(self.chosen[index]) if isinstance(index, slice) else self.make(self.chosen[index : index + 1])[0]
