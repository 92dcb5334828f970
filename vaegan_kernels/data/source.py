"""Which kind of data a user named, checked cheaply, described, and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.networks import NETWORKS
from vaegan_kernels.data.cache import load
from vaegan_kernels.data.cache_folder import CacheDir
from vaegan_kernels.data.dataset import FITS, Dataset, Progress, check_shape, limited
from vaegan_kernels.data.drawn.face_traits import ATTRIBUTE_NAMES
from vaegan_kernels.data.drawn.faces import COUNT, plan_faces
from vaegan_kernels.data.formats import celeba, cifar10, idx, lfw, records, stl10
from vaegan_kernels.data.formats.folder import check_folder, list_images, plan_folder
from vaegan_kernels.data.formats.packed import packed_attribute_names, packed_shape, plan_packed, read_packed
from vaegan_kernels.data.plan import Plan
from vaegan_kernels.shell.errors import UserError

Source = str | Path | None
EXPECTED = "expected a folder of images, the folder or archive of CelebA, LFW, CIFAR-10, STL-10 or MNIST (docs/data.md), or a packed .h5"


class Kind(NamedTuple):
    """A data set with a layout of its own, known by its official names."""

    title: str
    matches: Callable[[Path], bool]  # is the path, folder or archive, of this kind?
    check: Callable[..., Any]
    listing: Callable[[Path], Any]  # has splits, uint8 [n]
    plan: Callable[..., Plan]


def _of_records(title: str, matches: Callable[[Path], bool], listing: Callable[[Path], records.Listing]) -> Kind:
    """A kind whose files are records of one size: listing them checks them, and one process keeps up with the disk."""
    return Kind(title, matches, listing, listing, lambda path, **options: records.plan_records(listing(path), **options))


KINDS = {
    "celeba": Kind("CelebA folder", celeba.is_celeba, celeba.check_celeba, celeba.list_celeba, celeba.plan_celeba),
    "lfw": Kind("LFW", lfw.is_lfw, lfw.check_lfw, lfw.list_lfw, lfw.plan_lfw),
    "cifar10": _of_records("CIFAR-10", cifar10.is_cifar10, cifar10.list_cifar10),
    "stl10": _of_records("STL-10", stl10.is_stl10, stl10.list_stl10),
    "idx": _of_records("MNIST or Fashion-MNIST", idx.is_idx, idx.list_idx),
}


def kind_of(source: Source) -> str:
    """ "faces", "folder", "packed" or one of `KINDS`. UserError for a path that is none of them, or holds several."""
    if source is None:
        return "faces"
    if not str(source):
        raise UserError(f"--data: got an empty text; {EXPECTED}, or leave --data out for drawn faces")
    path = Path(source)
    try:
        found = [name for name, kind in KINDS.items() if path.exists() and kind.matches(path)]
        if len(found) > 1:
            titles = " and ".join(KINDS[name].title for name in found)
            raise UserError(f"{path}: holds {titles}; give the folder or archive of one of them")
        if found or path.is_dir():
            return found[0] if found else "folder"
        if path.is_file():
            if path.suffix.lower() in (".h5", ".hdf5"):
                return "packed"
            raise UserError(f"{path}: is a file of no known kind; {_hint(path)}")
        exists = path.exists()
    except OSError as error:
        raise UserError(f"{str(path)[:200]}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the path
        raise UserError(f"{str(path)!r}: is no path: {error}") from error
    raise UserError(f"{path}: {'is neither a file nor a folder' if exists else 'no such file or folder'}; {EXPECTED}")


def _hint(path: Path) -> str:
    """What to do with a file that cannot be used as it is."""
    if path.name.startswith(("img_align_celeba.zip", "data_batch_", "test_batch")) or path.suffix == ".bin" or "-ubyte" in path.name:
        return f"give the folder that holds it: {path.parent}"
    if path.suffix.lower() == ".zip":
        return "unzip it and give its folder"
    if path.suffix.lower() in (".tgz", ".tar", ".gz"):
        names = ", ".join((*cifar10.ARCHIVES[:2], stl10.ARCHIVES[0], "lfw.tgz", "lfw-deepfunneled.tgz"))
        return f"archives are known by their official names ({names}); unpack others and give the folder"
    return EXPECTED


def _landmarks(kind: str, landmarks: str | Path | None) -> dict[str, Path]:
    """The option as an argument for the kind's functions. UserError for a kind that takes none."""
    if landmarks is None:
        return {}
    if kind != "lfw":
        raise UserError(f"--landmarks: only pictures of LFW are aligned, the source is {KINDS[kind].title if kind in KINDS else kind}")
    return {"landmarks": Path(landmarks)}


def _fit(kind: str, fit: str) -> dict[str, str]:
    """The option as an argument for the loader. UserError for a kind of images that are cut in a way of their own."""
    if fit not in FITS:
        raise UserError(f"--fit: got {fit!r}, expected {' or '.join(FITS)}")
    if fit != FITS[0] and kind in KINDS:
        raise UserError(f"--fit {fit}: for a folder of images alone; the source is {KINDS[kind].title}, which has its own crop")
    return {"fit": fit} if kind == "folder" else {}


def _check_packed(path: Path, image_size: int, channels: int) -> None:
    _, size, found = packed_shape(path)
    if size != image_size:
        fitting = [name for name, spec in NETWORKS.items() if spec.image_size == size]
        other = f", or use a network of {size} pixels (--network {' or '.join(fitting)})" if fitting else ""
        raise UserError(
            f"{path}: holds images of {size} pixels, {image_size} are needed; pack them again with --image-size {image_size}{other}"
        )
    if found != channels:
        raise UserError(
            f"{path}: holds images of {found} channel{'s' * (found > 1)}, {channels} needed; pack them again with --channels {channels}"
        )


def check_source(source: Source, *, image_size: int, channels: int, landmarks: str | Path | None = None, fit: str = "crop") -> None:
    """Cheap checks, before anything is drawn, decoded or written.

    Raises:
        UserError: missing path, empty folder, no readable image, malformed list, foreign or truncated packed file, wrong image size.
    """
    kind, options = plan_options(source, image_size, channels, landmarks, fit)
    if kind in KINDS:
        KINDS[kind].check(Path(str(source)), **options)
    elif kind == "folder":
        check_folder(Path(str(source)))


def describe_source(source: Source, image_size: int) -> tuple[str, int]:
    """What ``source`` is, in words, and how many images it has, about: unreadable ones are counted too. Decodes nothing."""
    del image_size  # the same for every size; part of the signature so that a caller need not know
    kind = kind_of(source)
    if kind == "faces":
        return "built-in faces", COUNT
    path = Path(str(source))
    if kind == "packed":
        return "packed file", packed_shape(path)[0]
    if kind in KINDS:
        listing = KINDS[kind].listing(path)
        return listing.name if kind == "idx" else KINDS[kind].title, len(listing.splits)
    return "image folder", len(list_images(path))


def attribute_names(source: Source) -> tuple[str, ...]:
    """The names of the attributes that ``source`` has; none for a folder of images. Decodes nothing. UserError as `check_source`."""
    kind = kind_of(source)
    if kind == "faces":
        return tuple(ATTRIBUTE_NAMES)
    if kind == "packed":
        return packed_attribute_names(Path(str(source)))
    return KINDS[kind].listing(Path(str(source))).attribute_names if kind in ("celeba", "lfw") else ()


def listed_splits(source: Source) -> np.ndarray | None:
    """uint8 [n]: the splits of the images of ``source``, for a kind whose lists tell them; else None. UserError as `check_source`."""
    kind = kind_of(source)
    return np.asarray(KINDS[kind].listing(Path(str(source))).splits) if kind in KINDS else None


def load_dataset(
    source: Source, *, image_size: int, channels: int, seed: int = 0, limit: int | None = None, cache_dir: CacheDir = None,
    progress: Progress | None = None, workers: int | None = None, landmarks: str | Path | None = None, fit: str = "crop",
) -> Dataset:  # fmt: skip
    """Load images with their splits, attributes and labels: into memory, but those of a packed file, all of which are wanted, stay in it.

    Args:
        source: None for the built-in faces; the folder or archive of one of `KINDS`; any folder of images; a packed .h5.
        image_size: pixels a side of the images wanted. channels: 1 (grey) or 3 (RGB).
        seed: which built-in faces are drawn; it has no bearing on other sources.
        limit: at most so many images, evenly spaced within each split.
        cache_dir: folder of the cache (None: the user's, see cache.py; False: no cache).
        progress: called as progress(done, total) while drawing or decoding.
        workers: processes that draw or decode (None: a core each); the result is the same for any number.
        fit: of a folder of images: "crop", the centred square, or "pad", the whole picture and white. A packed file's are as they are.
        landmarks: of LFW only: a file of 68 landmarks a picture, by which the faces are aligned (landmarks.py).

    Raises:
        UserError: the source cannot be used; one line says why and what to do.
    """
    check_shape(image_size, channels, limit)
    if kind_of(source) == "packed":
        path = Path(str(source))
        plan_options(source, image_size, channels, landmarks, fit)
        dataset = read_packed(path, progress=progress)
        return dataset if limit is None or limit >= len(dataset) else dataset.take(limited(dataset.splits, limit))
    plan = plan_of(source, image_size=image_size, channels=channels, seed=seed, landmarks=landmarks, fit=fit)
    if source is None and limit is not None and limit < COUNT:
        cache_dir = False  # of the built-in faces only all are kept
    return load(plan, limit=limit, cache_dir=cache_dir, progress=progress, workers=workers)


def plan_of(
    source: Source, *, image_size: int, channels: int, seed: int = 0, landmarks: str | Path | None = None, fit: str = "crop",
    progress: Progress | None = None,
) -> Plan:  # fmt: skip
    """What `load_dataset` would give with these arguments. ``progress``: called while a packed file is checked. Raises UserError."""
    kind, options = plan_options(source, image_size, channels, landmarks, fit)
    size: dict[str, Any] = {"image_size": image_size, "channels": channels}
    if kind == "faces":
        return plan_faces(**size, seed=seed)
    path = Path(str(source))
    if kind == "packed":
        return plan_packed(path, progress)
    return KINDS[kind].plan(path, **size, **options) if kind in KINDS else plan_folder(path, **size, **options)


def plan_options(source: Source, image_size: int, channels: int, landmarks: str | Path | None, fit: str) -> tuple[str, dict[str, Any]]:
    """The kind of ``source``, and those options that are for it. UserError for one that is not, and for a packed file of another size."""
    check_shape(image_size, channels)
    kind = kind_of(source)
    options: dict[str, Any] = {**_landmarks(kind, landmarks), **_fit(kind, fit)}
    if kind == "packed":
        _check_packed(Path(str(source)), image_size, channels)
    return kind, options
