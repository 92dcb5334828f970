"""CelebA as people have it: the aligned pictures with their 40 attributes and the official split.

Looked for in the folder itself, in ``celeba/``, and in ``Img/``, ``Anno/`` and ``Eval/`` as the official download has them; where the
pictures' folder or zip itself is given, the lists are looked for beside it:
    img_align_celeba/ or img_align_celeba.zip   the aligned pictures, 000001.jpg and so on, nested or not (the folder is preferred)
    list_attr_celeba.txt      a count, the names, then a row an image of its name and a 1 or -1 for each name; may be absent
    list_eval_partition.txt   a row an image of its name and 0, 1 or 2; where absent, a split is made from a hash of each name
    list_attr_celeba.csv, list_eval_partition.csv   the same with a line of names first, as re-uploads have them; the .txt are preferred

The data set is the pictures that are there. Rows without a picture are left out, so that a piece of CelebA works with the full
lists; a picture without a row is an error, since its attributes or split would have to be invented.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from vaegan_kernels.data.cache_folder import key_of
from vaegan_kernels.data.dataset import hashed_splits
from vaegan_kernels.data.formats.folder import list_images
from vaegan_kernels.data.images import READ_ERRORS, read_celeba
from vaegan_kernels.data.kinds import endings, is_junk
from vaegan_kernels.data.parallel import quiet_pillow
from vaegan_kernels.data.plan import Plan, in_order
from vaegan_kernels.shell.errors import UserError

VERSION = 1  # raised with every change of the pixels made from a picture
IMAGES = "img_align_celeba"
ATTRIBUTE_FILES = ("list_attr_celeba.txt", "list_attr_celeba.csv")
PARTITION_FILES = ("list_eval_partition.txt", "list_eval_partition.csv")
_PICTURE = re.compile(r"\d{6}\.(?:jpg|jpeg|png)", re.IGNORECASE)

Job = tuple[str, str, int, int]  # folder or zip, name in it, image size, channels
_MEMBER_ERRORS = (*READ_ERRORS, zipfile.BadZipFile, zlib.error)


def _places(path: Path) -> list[Path]:
    """The folders in which its files may lie."""
    inside = [path / place for place in (".", "Img", "Anno", "Eval", "celeba", "celeba/Img", "celeba/Anno", "celeba/Eval")]
    if path.name not in (IMAGES, f"{IMAGES}.zip"):
        return inside
    above = [path.parent, *([path.parent.parent] if path.parent.name in (IMAGES, "Img") else [])]
    return [*inside, *(outer / place for outer in above for place in (".", "Anno", "Eval"))]


def _find(path: Path, *names: str) -> Path | None:
    """The first of ``names`` that is there, in the first place that has it."""
    return next((place / name for name in names for place in _places(path) if (place / name).exists()), None)


def _has_pictures(folder: Path | None) -> bool:
    """Whether pictures called as CelebA's lie in ``folder``, or in a folder of its own name in it."""
    for place in (folder, folder / folder.name) if folder is not None else ():
        with suppress(OSError), os.scandir(place) as items:  # no folder, or a closed one; of 200,000 pictures the first is enough
            if any(_PICTURE.fullmatch(item.name) for item in items):
                return True
    return False


def _pictures(path: Path) -> tuple[Path | None, Path | None]:
    """The folder of pictures, and the zip of them, that ``path`` is or holds."""
    if path.is_file():
        return None, path if path.name == f"{IMAGES}.zip" else None
    folder = path if path.name == IMAGES else next((place / IMAGES for place in _places(path) if (place / IMAGES).is_dir()), None)
    return folder if _has_pictures(folder) else None, _find(path, f"{IMAGES}.zip") if path.name != IMAGES else None


def is_celeba(path: Path) -> bool:
    """True where ``path`` is or holds CelebA's pictures, called as they are, or a folder has its list of attributes."""
    folder, archive = _pictures(path)
    return bool(folder or archive or (path.is_dir() and path.name != IMAGES and _find(path, *ATTRIBUTE_FILES)))


@dataclass
class Listing:
    """What lies in a CelebA folder; n pictures."""

    images: Path  # folder or zip
    names: list[str]  # as the lists have them, sorted
    members: dict[str, str]  # name -> where it lies in `images`
    stamps: list[object]  # changes whenever the files do
    attributes: np.ndarray | None  # int8 [n,A]
    attribute_names: tuple[str, ...]
    splits: np.ndarray  # uint8 [n]


def _images(folder: Path) -> tuple[Path, dict[str, str], list[object]]:
    """The folder or zip of pictures, where each lies in it, and a stamp of the files."""
    source, archive = _pictures(folder)
    if source is not None and (entries := list_images(source)):
        return source, {os.path.basename(path): path for path, _, _ in entries}, [list(entry) for entry in entries]
    if archive is None:
        found = f"{folder}: has CelebA's lists, but no {IMAGES}.zip and no folder {IMAGES}/ with pictures called 000001.jpg and so on"
        raise UserError(f"{found}; a CelebA folder holds the aligned pictures as one of these")
    try:
        with zipfile.ZipFile(archive) as file:
            paths = [info.filename for info in file.infolist() if not info.is_dir()]
    except _MEMBER_ERRORS as error:
        raise UserError(f"{archive}: is no whole zip file ({error}); download it again, or unzip what there is to {IMAGES}/") from error
    members = {
        name: path
        for path in paths
        if not any(map(is_junk, path.split("/"))) and os.path.splitext(name := path.rsplit("/", 1)[-1])[1].lower() in endings()
    }
    if not members:
        raise UserError(f"{archive}: has no image in it, expected {IMAGES}/000001.jpg and so on")
    facts = archive.stat()
    return archive, members, [archive.name, facts.st_size, facts.st_mtime_ns]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "is no text file" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{path}: {reason}, expected CelebA's list") from error


def _words(line: str, table: bool) -> list[str]:
    """The entries of a line; none of an empty one. ``table``: commas between."""
    if not line.strip():
        return []
    return [word.strip().strip('"') for word in line.split(",")] if table else line.split()


@lru_cache(maxsize=2)
def _read_attributes(path: Path, stamp: int) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    del stamp  # part of the cache's key only
    lines, table = _lines(path), path.suffix == ".csv"
    count = lines[0].strip() if lines and not table else ""
    if not table and not count.isdecimal():
        raise UserError(f"{path}, line 1: got {count[:40]!r}, expected the number of images")
    head = 1 if table else 2  # the line of names
    names = tuple(_words(lines[head - 1], table)[table:]) if len(lines) >= head else ()
    if not names or len(set(names)) < len(names) or any(name.lstrip("-").isdecimal() for name in names):
        between = "commas between, behind image_id" if table else "separated by spaces"
        raise UserError(
            f"{path}, line {head}: got {lines[head - 1][:40] if names else ''!r}, expected the attribute names, each once, {between}"
        )
    rows: dict[str, np.ndarray] = {}
    value_of = {"1": 1, "-1": -1}
    for number, line in enumerate(lines[head:], head + 1):
        words = _words(line, table)
        if not words:
            continue
        try:
            values = [value_of[word] for word in words[1:]]
        except KeyError as error:
            raise UserError(f"{path}, line {number} ({words[0]}): got the value {error.args[0]!r}, expected 1 or -1") from None
        if len(values) != len(names):
            raise UserError(
                f"{path}, line {number} ({words[0]}): got {len(values)} values, expected {len(names)}, one for each name in line {head}"
            )
        if words[0] in rows:
            raise UserError(f"{path}, line {number}: {words[0]} is listed twice, expected a row an image")
        rows[words[0]] = np.array(values, np.int8)
    if not rows:
        raise UserError(f"{path}: has no row, expected one an image; is the file cut off? download it again")
    if not table and len(rows) != int(count):
        raise UserError(f"{path}, line 1: says {int(count)} images, but {len(rows)} rows follow; is the file cut off? download it again")
    return names, rows


def _read_partition(path: Path) -> dict[str, int]:
    rows: dict[str, int] = {}
    table = path.suffix == ".csv"
    for number, line in enumerate(_lines(path), 1):
        words = _words(line, table)
        if not words or (table and number == 1):
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise UserError(f"{path}, line {number}: got {line[:40]!r}, expected an image name and 0 (train), 1 (validation) or 2 (test)")
        rows[words[0]] = int(words[1])
    return rows


def _require_rows(path: Path, rows: Mapping[str, object], names: list[str]) -> None:
    missing = [name for name in names if name not in rows]
    if missing:
        more = f" and {len(missing) - 1} more images" if len(missing) > 1 else ""
        raise UserError(f"{path}: has no row for {missing[0]}{more}; use the complete list, or remove the file to go without it")


def list_celeba(folder: Path) -> Listing:
    """Read the lists of a CelebA folder, decode nothing. UserError names the file, the line and what was expected."""
    images, members, stamps = _images(folder)
    names = sorted(members)
    attributes: np.ndarray | None = None
    attribute_names: tuple[str, ...] = ()
    if (path := _find(folder, *ATTRIBUTE_FILES)) is not None:
        attribute_names, rows = _read_attributes(path, path.stat().st_mtime_ns)
        _require_rows(path, rows, names)
        attributes = np.stack([rows[name] for name in names])
        stamps = [*stamps, path.stat().st_size, path.stat().st_mtime_ns]
    if (path := _find(folder, *PARTITION_FILES)) is not None:
        partition = _read_partition(path)
        _require_rows(path, partition, names)
        splits = np.array([partition[name] for name in names], np.uint8)
        stamps = [*stamps, path.stat().st_size, path.stat().st_mtime_ns]
    else:
        splits = hashed_splits(names)
    return Listing(images, names, members, stamps, attributes, attribute_names, splits)


def decode_chunk(jobs: Sequence[Job]) -> list[np.ndarray | None]:
    """uint8 [S,S,C] of each job (all from one folder or zip), None where it cannot be read."""
    return list(_decoded(jobs))


def _decoded(jobs: Sequence[Job]) -> Iterator[np.ndarray | None]:
    source = jobs[0][0]
    if os.path.isdir(source):
        yield from (_decode(os.path.join(source, name), size, channels) for _, name, size, channels in jobs)
    else:
        with zipfile.ZipFile(source) as file:
            yield from (_decode((file, name), size, channels) for _, name, size, channels in jobs)


def _decode(place: str | tuple[zipfile.ZipFile, str], size: int, channels: int) -> np.ndarray | None:
    try:
        with open(place, "rb") if isinstance(place, str) else io.BytesIO(place[0].read(place[1])) as stream:
            return read_celeba(stream, size, channels)
    except _MEMBER_ERRORS:
        return None


def check_celeba(folder: Path) -> None:
    """Raise UserError unless the lists are whole and a picture can be read; reads pictures until one can."""
    listing = list_celeba(folder)
    with quiet_pillow():
        jobs = [(str(listing.images), listing.members[name], 8, 3) for name in listing.names]
        if all(pixels is None for pixels in _decoded(jobs)):
            raise UserError(_unreadable(listing, len(listing.names)))


def _unreadable(listing: Listing, count: int) -> str:
    return f"{listing.images}: none of the {count} images can be read as aligned CelebA pictures of 178 x 218 pixels (or scaled copies)"


def plan_celeba(folder: Path, *, image_size: int, channels: int) -> Plan:
    """What decoding a CelebA folder will give."""
    listing = list_celeba(folder)
    facts = {
        "source": "CelebA", "version": VERSION, "image_size": image_size, "channels": channels,
        "crop": "rows 40:188, columns 15:163 of 218 x 178, scaled by width / 178",
        "smooth": "Gaussian, sigma = sqrt(crop / image_size) / 2", "resize": "bicubic",
    }  # fmt: skip

    def jobs(chosen: np.ndarray) -> list[Job]:
        return [(str(listing.images), listing.members[listing.names[i]], image_size, channels) for i in chosen]

    shape = (image_size, image_size, channels)
    return Plan(
        "CelebA", facts, f"decoded-{key_of(os.path.realpath(folder))}-{image_size}x{channels}", listing.stamps,
        shape, listing.splits, in_order(decode_chunk, jobs, shape),
        None if listing.attributes is None else listing.attributes.__getitem__, listing.attribute_names,
        unreadable=lambda n: _unreadable(listing, n),
    )  # fmt: skip
