"""Which kind of data a user named, checked cheaply, described, and loaded."""

from __future__ import annotations

from pathlib import Path

from vaegan_kernels.data.cache import CacheDir
from vaegan_kernels.data.celeba import check_celeba, is_celeba, list_celeba, load_celeba
from vaegan_kernels.data.dataset import Dataset, Progress, check_shape, limited
from vaegan_kernels.data.face_traits import ATTRIBUTE_NAMES
from vaegan_kernels.data.faces import COUNT, load_faces
from vaegan_kernels.data.folder import check_folder, list_images, load_folder
from vaegan_kernels.data.packed import packed_attribute_names, packed_shape, read_packed
from vaegan_kernels.errors import UserError

Source = str | Path | None


def kind_of(source: Source) -> str:
    """ "faces", "celeba", "folder" or "packed". UserError for a path that is none of them."""
    if source is None:
        return "faces"
    path = Path(source)
    try:
        if path.is_dir():
            return "celeba" if is_celeba(path) else "folder"
        if path.is_file():
            if path.suffix.lower() in (".h5", ".hdf5"):
                return "packed"
            hint = (
                "unzip it and give its folder"
                if path.suffix.lower() == ".zip"
                else "expected a folder of images, a CelebA folder or a packed .h5"
            )
            if path.name == "img_align_celeba.zip":
                hint = f"give the folder that holds it: {path.parent}"
            raise UserError(f"{path}: is a file of no known kind; {hint}")
        exists = path.exists()
    except OSError as error:
        raise UserError(f"{str(path)[:200]}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the path
        raise UserError(f"{str(path)!r}: is no path: {error}") from error
    if exists:
        raise UserError(f"{path}: is neither a file nor a folder; expected a folder of images, a CelebA folder or a packed .h5")
    raise UserError(f"{path}: no such file or folder; expected a folder of images, a CelebA folder or a packed .h5")


def _check_packed(path: Path, image_size: int, channels: int) -> None:
    _, size, found = packed_shape(path)
    if size != image_size:
        from models.networks import NETWORKS

        fitting = [name for name, spec in NETWORKS.items() if spec.image_size == size]
        other = f", or use a network of {size} pixels (--network {' or '.join(fitting)})" if fitting else ""
        raise UserError(
            f"{path}: holds images of {size} pixels, {image_size} are needed; pack them again with --image-size {image_size}{other}"
        )
    if found != channels:
        raise UserError(
            f"{path}: holds images of {found} channel{'s' * (found > 1)}, {channels} needed; pack them again with --channels {channels}"
        )


def check_source(source: Source, *, image_size: int, channels: int) -> None:
    """Cheap checks, before anything is drawn, decoded or written.

    Raises:
        UserError: missing path, empty folder, no readable image, malformed list, foreign or truncated packed file, wrong image size.
    """
    check_shape(image_size, channels)
    kind = kind_of(source)
    if kind == "packed":
        _check_packed(Path(str(source)), image_size, channels)
    elif kind == "celeba":
        check_celeba(Path(str(source)))
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
    if kind == "celeba":
        return "CelebA folder", len(list_celeba(path).names)
    return "image folder", len(list_images(path))


def attribute_names(source: Source) -> tuple[str, ...]:
    """The names of the attributes that ``source`` has; none for a folder of images. Decodes nothing. UserError as `check_source`."""
    kind = kind_of(source)
    if kind == "faces":
        return tuple(ATTRIBUTE_NAMES)
    if kind == "packed":
        return packed_attribute_names(Path(str(source)))
    return list_celeba(Path(str(source))).attribute_names if kind == "celeba" else ()


def load_dataset(
    source: Source, *, image_size: int, channels: int, seed: int = 0, limit: int | None = None, cache_dir: CacheDir = None,
    progress: Progress | None = None, workers: int | None = None,
) -> Dataset:  # fmt: skip
    """Load images with their splits and attributes into memory.

    Args:
        source: None for the built-in faces; a CelebA folder; any folder of images; a packed .h5.
        image_size: pixels a side of the images wanted. channels: 1 (grey) or 3 (RGB).
        seed: which built-in faces are drawn; it has no bearing on other sources.
        limit: at most so many images, evenly spaced within each split.
        cache_dir: folder of the cache (None: the user's, see cache.py; False: no cache).
        progress: called as progress(done, total) while drawing or decoding.
        workers: processes that draw or decode (None: a core each); the result is the same for any number.

    Raises:
        UserError: the source cannot be used; one line says why and what to do.
    """
    check_shape(image_size, channels, limit)
    kind = kind_of(source)
    if kind == "faces":
        return load_faces(
            image_size=image_size, channels=channels, seed=seed, limit=limit, cache_dir=cache_dir, progress=progress, workers=workers
        )
    path = Path(str(source))
    if kind == "packed":
        _check_packed(path, image_size, channels)
        dataset = read_packed(path)
        return dataset if limit is None or limit >= len(dataset) else dataset.take(limited(dataset.splits, limit))
    load = load_celeba if kind == "celeba" else load_folder
    return load(path, image_size=image_size, channels=channels, limit=limit, cache_dir=cache_dir, progress=progress, workers=workers)
