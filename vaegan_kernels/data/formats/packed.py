"""The packed file: one HDF5 file, readable with h5py alone.

attributes  format "vaegan-kernels packed images", format_version (2 with labels, else 1), name, preprocessing (JSON), skipped, fingerprint
images      uint8 [n,S,S,C]
splits      uint8 [n]: 0 train, 1 validation, 2 test
attributes  int8 [n,A], +1 or -1, or float32 [n,A]   (absent where the source has none)
attribute_names  UTF-8 strings [A] (the same)
labels      int16 [n]: an index into label_names, -1 where unlabelled   (the same)
label_names  UTF-8 strings [classes] (the same)
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kernels.cache import replace
from vaegan_kernels.data import checked
from vaegan_kernels.data.dataset import ATTRIBUTE_TYPES, BLOCK, Dataset, Progress, blocks
from vaegan_kernels.data.plan import Placed, Plan
from vaegan_kernels.files import FileOver, probe_folder, refused_name, sync_folder
from vaegan_kernels.hdf5 import array_of, first_line, mapped, place_of, reading
from vaegan_kernels.hdf5_probe import trust
from vaegan_kernels.shell.errors import UserError

FORMAT = "vaegan-kernels packed images"
FORMAT_VERSIONS = (1, 2)  # 2: with labels, which a reader of version 1 would silently leave out


def write_packed(path: str | Path, dataset: Dataset) -> None:
    """Write ``dataset`` to ``path``: to a temporary file beside it, flushed to the disk, then renamed.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing is left behind, an older file at ``path`` stays.
    """
    path = Path(path)
    check_writable(path)
    needed = dataset.images.nbytes + (1 << 20)
    free = shutil.disk_usage(path.parent).free
    if free < needed:  # asked first: HDF5 does not always survive a write that fails half-way
        raise UserError(no_room(path, free, needed))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w+b") as file:
            file.seek(frame(file, dataset))
            for block in blocks(dataset.images):
                file.write(np.ascontiguousarray(dataset.images[block]).data)
            file.flush()
            os.fsync(file.fileno())
        finish(temporary, path, dataset.fingerprint, dataset.images.nbytes)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: cannot be written: {reason_of(error)}; nothing was kept, free some space or write elsewhere") from error
    finally:
        temporary.unlink(missing_ok=True)


def frame(stream: BinaryIO, dataset: Dataset) -> int:
    """Write all of a packed file but the bytes of its images, which may be there already; returns where they lie."""
    import h5py  # imported late: start-up must stay quick

    over = FileOver(stream)
    with h5py.File(over, "w") as file:
        one_piece = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        one_piece.set_layout(h5py.h5d.CONTIGUOUS)
        one_piece.set_obj_track_times(False)  # the same images, the same bytes
        one_piece.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # first of all, so that the place does not depend on their number
        one_piece.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space = h5py.h5s.create_simple(dataset.images.shape)
        start = h5py.h5d.create(file.id, b"images", h5py.h5t.py_create(np.dtype(np.uint8)), space, one_piece).get_offset()
        file.attrs["format"] = FORMAT
        file.attrs["format_version"] = FORMAT_VERSIONS[dataset.labels is not None]
        file.attrs["name"] = dataset.name
        file.attrs["preprocessing"] = json.dumps(dataset.preprocessing, sort_keys=True)
        file.attrs["skipped"] = dataset.skipped
        file.attrs["fingerprint"] = dataset.fingerprint
        file["splits"] = dataset.splits
        if dataset.attributes is not None:
            file["attributes"] = dataset.attributes
            file.create_dataset("attribute_names", data=list(dataset.attribute_names), dtype=h5py.string_dtype())
        if dataset.labels is not None:
            file["labels"] = dataset.labels
            file.create_dataset("label_names", data=list(dataset.label_names), dtype=h5py.string_dtype())
    over.close_over()
    return int(start)


def finish(temporary: Path, path: Path, fingerprint: str, size: int) -> None:
    """Put a file that is whole and on the disk at its place; ``size``: bytes of its images, about."""
    replace(temporary, path)
    sync_folder(path.parent)
    trust(path)
    if size > checked.SMALL:
        checked.remember(path, checked.facts(path, fingerprint))


def no_room(path: Path, free: int, needed: int) -> str:
    """What is said where the disk of ``path`` has too few bytes left."""
    return f"{path}: the disk is full: {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB needed; free some space or write elsewhere"


def check_writable(path: Path) -> None:
    """Raise UserError unless a file can be made at ``path`` (its folder is made where missing)."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected the name of a file to write, such as {path / 'images.h5'}")
    if name := refused_name(path):
        raise UserError(f"{path}: {name}; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        probe_folder(path.parent)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {reason_of(error)}; choose a folder that you may write to") from error


def reason_of(error: Exception) -> str:
    """In words, why something cannot be written."""
    if isinstance(error, OSError) and error.errno:
        return "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else os.strerror(error.errno).lower()
    return "the disk is full" if "errno = 28" in str(error) else str(error).splitlines()[0]


def packed_shape(path: str | Path) -> tuple[int, int, int]:
    """(n, S, C) of a packed file, without reading its images. UserError where it is none."""
    with _opened(Path(path)) as file:
        n, size, _, channels = _images(file, Path(path)).shape
    return n, size, channels


def packed_attribute_names(path: str | Path) -> tuple[str, ...]:
    """The names of a packed file's attributes, none where it has none, without reading its images. UserError where it is none."""
    path = Path(path)
    with _opened(path) as file:
        return _names(file, path) if "attributes" in file else ()


def packed_splits(path: str | Path) -> np.ndarray:
    """uint8 [n]: the splits of a packed file's images. UserError where it is none."""
    with _opened(Path(path)) as file:
        return np.asarray(_plain(file, Path(path), "splits", np.uint8, 1)[...])


def read_packed(path: str | Path, *, progress: Progress | None = None, verify: bool = False) -> Dataset:
    """Open a packed file. Its images stay where they are, and are read when they are looked at (`hdf5.mapped`), unless they were not
    written by this program, which leaves them in one piece.

    Args:
        progress: called with the images checked, and all.
        verify: all bytes are held against the fingerprint, also where `checked.known` says that they were.

    Raises:
        UserError: missing, truncated, damaged or foreign file; the message is one line.
    """
    path = Path(path)
    try:
        with _opened(path) as file:
            found = _images(file, path)
            _check_places(file, path)
            images = pages if (pages := mapped(found, path)) is not None else found[...]
            splits = _plain(file, path, "splits", np.uint8, 1)[...]
            attributes: np.ndarray | None = None
            names: tuple[str, ...] = ()
            if "attributes" in file:
                attributes = _plain(file, path, "attributes", ATTRIBUTE_TYPES, 2)[...]
                names = _names(file, path)
            labels = _plain(file, path, "labels", np.int16, 1)[...] if "labels" in file else None
            label_names = _names(file, path, "label_names") if labels is not None else ()
            header: dict[str, Any] = {key: file.attrs[key] for key in ("name", "preprocessing", "skipped", "fingerprint")}
        preprocessing = json.loads(str(header["preprocessing"]))
        if not isinstance(preprocessing, dict):
            raise ValueError("preprocessing is no JSON object")
        if attributes is not None and attributes.dtype == np.int8 and not np.isin(attributes, (-1, 1)).all():
            raise ValueError("attributes other than +1 and -1")
        dataset = Dataset(
            str(header["name"]), images, splits, attributes, names, preprocessing, int(header["skipped"]), str(header["fingerprint"]),
            labels=labels, label_names=label_names,
        )  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path}: is damaged ({first_line(error)}); pack the images again") from error
    large = images.nbytes > checked.SMALL
    if verify or not (large and checked.known(path, dataset.fingerprint)):
        facts = checked.facts(path, dataset.fingerprint)
        if dataset.compute_fingerprint(progress if progress is not None and large else lambda done, total: None) != dataset.fingerprint:
            raise UserError(f"{path}: is damaged: its contents do not match its fingerprint; pack the images again")
        if large:
            checked.remember(path, facts)
    return dataset


def plan_packed(path: Path, progress: Progress | None = None) -> Plan:
    """What a packed file will give when it is packed again."""
    dataset = read_packed(path, progress=progress)
    images, attributes = dataset.images, dataset.attributes

    def decoded(chosen: np.ndarray, done: int, workers: int | None) -> Iterator[Sequence[Placed]]:
        step = max(1, BLOCK // images[0].nbytes)
        for start in range(done, len(chosen), step):
            yield list(enumerate(images[chosen[start : start + step]], start))

    return Plan(
        dataset.name, dataset.preprocessing, "packed", dataset.fingerprint, images.shape[1:], dataset.splits, decoded,
        None if attributes is None else attributes.__getitem__, dataset.attribute_names, dataset.labels, dataset.label_names,
        skipped=dataset.skipped,
    )  # fmt: skip


def _check_places(file: Any, path: Path) -> None:
    """Raise UserError where two arrays lie at the same place: what one of them is, the other cannot be."""
    arrays = [array_of(file, name, path) for name in ("images", "splits", "attributes", "labels")]
    places = sorted(place for array in arrays if array is not None and (place := place_of(array)) is not None)
    if any(one[1] > other[0] for one, other in itertools.pairwise(places)):
        raise UserError(f"{path}: is damaged: two of its arrays lie at the same place; pack the images again")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, opened for reading, once its format and version are known to be ours. Raises `UserError`, also for h5py's errors within."""
    hint = "make it with: python -m vaegan_kernels.pack SOURCE OUT.h5"
    with reading(path, what=f"a packed .h5 file; {hint}", advice="pack the images again") as file:
        if file.attrs.get("format") != FORMAT:
            raise UserError(f"{path}: is an HDF5 file, but not one of packed images; {hint}")
        if (version := file.attrs.get("format_version")) not in FORMAT_VERSIONS:
            raise UserError(f"{path}: has format version {version}, expected 1 or 2; pack the images again with this version")
        yield file


def _plain(file: Any, path: Path, name: str, dtype: Any, ndim: int) -> Any:
    """The array ``name`` of ``dtype`` (or one of several; None: strings), as `hdf5.array_of` gives it."""
    import h5py

    dtypes = [np.dtype(one) for one in ([] if dtype is None else dtype if isinstance(dtype, tuple) else [dtype])]
    array = array_of(file, name, path)
    good = array is not None and array.ndim == ndim
    if not good or not (array.dtype in dtypes if dtypes else h5py.check_string_dtype(array.dtype) is not None):
        expected = " or ".join(one.name for one in dtypes) or "strings"
        raise UserError(
            f"{path}: array {name!r} is missing or of the wrong kind, expected {expected} of {ndim} axes; pack the images again"
        )
    return array


def _names(file: Any, path: Path, name: str = "attribute_names") -> tuple[str, ...]:
    return tuple(_plain(file, path, name, None, 1).asstr()[...].tolist())


def _images(file: Any, path: Path) -> Any:
    images = _plain(file, path, "images", np.uint8, 4)
    n, height, width, channels = images.shape
    if n < 1 or height != width or channels not in (1, 3):
        raise UserError(f"{path}: images of shape {list(images.shape)}, expected [n,S,S,1 or 3] with n >= 1; pack the images again")
    return images
