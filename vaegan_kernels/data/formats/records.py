"""Images of one size stored as plain bytes, a file of them after the other: read in pieces, made square and resized as they come.

There are n images of H x W pixels and C channels in the files, S x S in the data set.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from vaegan_kernels.data.cache_folder import key_of
from vaegan_kernels.data.formats.members import Members, explained
from vaegan_kernels.data.images import square_of_array
from vaegan_kernels.data.parallel import quiet_pillow
from vaegan_kernels.data.plan import Decoded, Placed, Plan, together
from vaegan_kernels.shell.errors import UserError

VERSION = 1  # raised with every change of the pixels made from an image
_PIECE = 2 << 20  # bytes read at a time, about


@dataclass(frozen=True)
class Part:
    """The images of one file."""

    name: str
    splits: np.ndarray  # uint8 [count]
    labels: np.ndarray | None  # int16 [count], -1 where unlabelled; None: the part has none
    read: Callable[[IO[bytes], str, np.ndarray], Iterator[np.ndarray]]
    # (file, its name for errors, ascending indices within the part) -> their images uint8 [m,H,W,C], in pieces


@dataclass(frozen=True)
class Listing:
    """What lies in a place: parts, whose images make up the data set in the parts' order."""

    name: str
    members: Members
    parts: tuple[Part, ...]
    label_names: tuple[str, ...]

    @property
    def splits(self) -> np.ndarray:
        """uint8 [n]."""
        return np.concatenate([part.splits for part in self.parts])

    @property
    def labels(self) -> np.ndarray | None:
        """int16 [n], -1 where a part has none; None where no part has any."""
        if all(part.labels is None for part in self.parts):
            return None
        return np.concatenate([np.full(len(part.splits), -1, np.int16) if part.labels is None else part.labels for part in self.parts])


def read_records(stream: IO[bytes], where: str, start: int, size: int, chosen: np.ndarray) -> Iterator[np.ndarray]:
    """The records at ``chosen`` (ascending) of a stream, uint8 [m,size] in pieces; pieces that hold none of them are passed over.

    Args:
        start: bytes before the first record. size: bytes of a record.

    Raises:
        UserError: the stream ends before the last of them.
    """
    step = max(1, _PIECE // size)
    for first in (np.unique(chosen // step) * step).tolist():
        here = chosen[(chosen >= first) & (chosen < first + step)] - first
        stream.seek(start + first * size)
        count = int(here[-1]) + 1
        content = stream.read(count * size)
        if len(content) < count * size:
            raise UserError(f"{where}: ends after {first + len(content) // size} images; it is cut off, download it again")
        yield np.frombuffer(content, np.uint8).reshape(count, size)[here]


def _decoded(listing: Listing, image_size: int, channels: int) -> Decoded:
    """The images of a listing, from the parts in the order in which they are best read."""
    starts = np.cumsum([0, *(len(part.splits) for part in listing.parts)])
    step = together((image_size, image_size, channels))
    order = {name: place for place, name in enumerate(listing.members.sizes)}

    def decoded(chosen: np.ndarray, done: int, workers: int | None) -> Iterator[Sequence[Placed]]:
        passed = 0
        with quiet_pillow(), listing.members.opened() as open_member:
            for i in sorted(range(len(listing.parts)), key=lambda i: order[listing.parts[i].name]):
                part, where = listing.parts[i], listing.members.where(listing.parts[i].name)
                first, last = np.searchsorted(chosen, starts[i : i + 2]).tolist()
                if last - first <= (skip := max(0, done - passed)):
                    passed += last - first
                    continue
                passed += skip
                with explained(where), open_member(part.name) as stream:
                    place = first + skip
                    for piece in part.read(stream, where, chosen[place:last] - starts[i]):
                        for at in range(0, len(piece), step):
                            some = [square_of_array(pixels, image_size, channels) for pixels in piece[at : at + step]]
                            yield list(enumerate(some, place))
                            place += len(some)
                            passed += len(some)

    return decoded


def plan_records(listing: Listing, *, image_size: int, channels: int) -> Plan:
    """What reading the images of a listing will give."""
    facts: dict[str, Any] = {
        "source": listing.name, "version": VERSION, "image_size": image_size, "channels": channels, "crop": "centred square",
        "resize": "lanczos",
    }  # fmt: skip
    stem = f"decoded-{key_of(os.path.realpath(listing.members.place))}-{image_size}x{channels}"
    return Plan(
        listing.name, facts, stem, listing.members.stamps, (image_size, image_size, channels), listing.splits,
        _decoded(listing, image_size, channels), labels=listing.labels, label_names=() if listing.labels is None else listing.label_names,
    )  # fmt: skip


def check_label_names(names: list[str], classes: int, where: str) -> tuple[str, ...]:
    """``names`` if there are ``classes`` different ones. Raises UserError."""
    if len(names) != classes or len(set(names)) != classes or not all(names):
        raise UserError(f"{where}: got {len(names)} names, expected {classes} different ones, a line a class")
    return tuple(names)


def names_of_text(content: bytes, classes: int, where: str) -> tuple[str, ...]:
    """The names in a text file, a line a class. Raises UserError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: is no text file, expected the names of {classes} classes") from error
    return check_label_names([line.strip() for line in text.splitlines() if line.strip()], classes, where)
