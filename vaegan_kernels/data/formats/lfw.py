"""Labeled Faces in the Wild: pictures of 250 pixels of people, with their 73 real-valued attributes, aligned where landmarks are given.

A folder with, or the people's folder or archive itself, the lists then beside it:
    lfw/, lfw_funneled/ or lfw-deepfunneled/   Ann_Smith/Ann_Smith_0001.jpg and so on, or the same as .tgz (the folder is preferred)
    lfw_attributes.txt, peopleDevTrain.txt, peopleDevTest.txt, people.txt   see lfw_lists.py; any may be absent, those of people be .csv

No person is in two splits. The official list of attributes lacks some of the pictures (it has 13,143 rows for 13,233): a picture without a
row is left out and counted, as is, where landmarks are given (see landmarks.py), a picture without them or with such as fit no face.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.data.cache_folder import key_of
from vaegan_kernels.data.formats.folder import list_images
from vaegan_kernels.data.formats.landmarks import mean_shape, read_landmarks, similarity
from vaegan_kernels.data.formats.lfw_lists import ATTRIBUTE_FILE, DEV_TEST, DEV_TRAIN, SETS, read_attributes, split_people
from vaegan_kernels.data.formats.members import Members, explained, members_of
from vaegan_kernels.data.images import READ_ERRORS, read_lfw
from vaegan_kernels.data.parallel import quiet_pillow
from vaegan_kernels.data.plan import Placed, Plan, in_order
from vaegan_kernels.shell.errors import UserError

VERSION = 1  # raised with every change of the pixels made from a picture
FOLDERS = ("lfw", "lfw_funneled", "lfw-funneled", "lfw_funnelled", "lfw-funnelled", "lfw-deepfunneled", "lfw-deepfunnelled")
ENDINGS = (".tgz", ".tar.gz", ".tar")
_TELLING = (ATTRIBUTE_FILE, DEV_TRAIN, DEV_TEST)  # lists by which a folder is known; people.txt may be anything
_PICTURE = re.compile(r"(.+)_(\d{4,9})\.(?:jpg|jpeg|png|bmp|webp|tif|tiff)", re.IGNORECASE)
_WORST_FIT, _SCALES = 0.5, (0.2, 5.0)
_LARGEST = 1 << 24  # bytes of a picture in an archive

Similarity = tuple[complex, complex]
Job = tuple[str | bytes, int, int, Similarity | None]  # file or its contents, image size, channels, alignment


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and _PICTURE.fullmatch(name) is not None


def _keep_none(name: str) -> bool:
    return False


def _has_people(folder: Path) -> bool:
    """True where ``folder`` has a folder X with a picture X_0001.jpg or so among the first ones it has."""
    try:
        people = sorted(item.name for item in os.scandir(folder) if item.is_dir())[:20] if folder.is_dir() else []
        names = [(person, name) for person in people for name in os.listdir(folder / person)]
    except OSError:
        return False  # no folder of people, or one that may not be read
    return any((match := _PICTURE.fullmatch(name)) is not None and match[1] == person for person, name in names)


def _find(path: Path) -> list[Path]:
    """The folders of people and the archives that ``path`` is or holds."""
    if path.is_file():
        return [path] if any(path.name == folder + ending for folder in FOLDERS for ending in ENDINGS) else []
    if (path.name in FOLDERS or any((path / name).is_file() for name in _TELLING)) and _has_people(path):
        return [path]
    places = []
    for name in FOLDERS:
        options = [path / name / name, path / name]
        folder = next((option for option in options if _has_people(option)), None)
        archive = next((path / (name + ending) for ending in ENDINGS if (path / (name + ending)).is_file()), None)
        if place := folder or archive:
            places.append(place)
    return places


def is_lfw(path: Path) -> bool:
    """True where ``path`` is or holds LFW by its official names: the pictures, or one of its lists."""
    return bool(_find(path)) or (path.is_dir() and any((path / name).is_file() for name in _TELLING))


@dataclass
class Listing:
    """What lies in a place; n pictures, those that are left out not among them."""

    place: Path  # folder of people, or archive
    members: Members | None  # of an archive
    names: list[str]  # of files below the folder, or of members
    stamps: list[object]  # changes whenever the files do
    splits: np.ndarray  # uint8 [n]
    attributes: np.ndarray | None  # float32 [n,A]
    attribute_names: tuple[str, ...]
    alignment: list[Similarity] | None
    mean: np.ndarray | None  # complex128 [68], in the pictures' pixels
    left_out: dict[str, int]  # why -> how many


def _pictures(path: Path) -> tuple[Path, Members | None, dict[tuple[str, int], str], list[object]]:
    """Place, members of an archive, {(person, number): file}, stamps."""
    places = _find(path)
    if not places:
        raise UserError(f"{path}: has lists of LFW but no pictures, expected the people's folders in lfw/ or lfw-deepfunneled/, or lfw.tgz")
    if len(places) > 1:
        found = ", ".join(place.name for place in places)
        raise UserError(f"{path}: holds LFW more than once ({found}); give one of them, the lists beside it are found")
    (place,) = places
    members = None
    stamps: list[Any]
    if place.is_dir():
        entries = [entry for entry in list_images(place) if _is_picture(os.path.basename(entry[0]))]
        names, stamps = [name for name, _, _ in entries], [list(entry) for entry in entries]
    else:
        members = members_of(place, _is_picture, _keep_none)
        names, stamps = list(members.sizes), list(members.stamps)
    pictures = {}
    for name in names:
        match = _PICTURE.fullmatch(os.path.basename(name))
        assert match is not None
        pictures[match[1], int(match[2])] = name
    if not pictures:
        raise UserError(f"{place}: has no picture of LFW in it, expected Aaron_Eckhart/Aaron_Eckhart_0001.jpg and so on")
    return place, members, pictures, stamps


def list_lfw(path: Path, landmarks: Path | None = None) -> Listing:
    """Read the lists and landmarks, decode nothing. UserError names the file, the line and what was expected."""
    place, members, pictures, stamps = _pictures(path)
    lists: dict[str, Path] = {}
    for folder in (path, place, place.parent):
        for name in (*_TELLING, SETS):
            for file in (folder / name, (folder / name).with_suffix(".csv")):
                if file.is_file() and (name != ATTRIBUTE_FILE or file.name == name):
                    lists.setdefault(name, file)
    stamps += [[name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in sorted(lists.items())]
    kept = sorted(pictures)
    left_out: dict[str, int] = {}
    attribute_names: tuple[str, ...] = ()
    rows: dict[tuple[str, int], np.ndarray] = {}
    if ATTRIBUTE_FILE in lists:
        attribute_names, rows = read_attributes(lists[ATTRIBUTE_FILE], lists[ATTRIBUTE_FILE].stat().st_mtime_ns)
        kept = _those(kept, [key in rows for key in kept], f"no row in {ATTRIBUTE_FILE}", lists[ATTRIBUTE_FILE], left_out)
    fits, mean = None, None
    if landmarks is not None:
        shapes = read_landmarks(landmarks)
        stems = {key: os.path.basename(pictures[key]).rsplit(".", 1)[0] for key in kept}
        kept = _those(kept, [stems[key] in shapes for key in kept], "no landmarks", landmarks, left_out)
        mean = mean_shape(np.stack([shapes[stems[key]] for key in kept]))
        found = {key: similarity(shapes[stems[key]], mean) for key in kept}
        good = [fit >= _WORST_FIT and _SCALES[0] <= abs(a) <= _SCALES[1] for a, _, fit in found.values()]
        kept = _those(kept, good, "landmarks that fit no face", landmarks, left_out)
        fits = [found[key][:2] for key in kept]
        stamps.append([landmarks.name, landmarks.stat().st_size, landmarks.stat().st_mtime_ns])
    split = split_people(sorted({person for person, _ in kept}), lists)
    splits = np.array([split[person] for person, _ in kept], np.uint8)
    attributes = np.stack([rows[key] for key in kept]) if attribute_names else None
    return Listing(place, members, [pictures[key] for key in kept], stamps, splits, attributes, attribute_names, fits, mean, left_out)


def _those(kept: list[Any], good: list[bool], why: str, file: Path, left_out: dict[str, int]) -> list[Any]:
    """Those of ``kept`` that are ``good``; the others are counted under ``why``. UserError where none is."""
    if not any(good):
        raise UserError(f"{file}: none of the {len(kept)} pictures can be used: {why}; is it the file of these pictures?")
    if not all(good):
        left_out[why] = good.count(False)
    return [key for key, one in zip(kept, good, strict=True) if one]


def decode_chunk(jobs: Sequence[Job]) -> list[np.ndarray | None]:
    """uint8 [S,S,C] of each job, None where it cannot be read."""
    return [_decode(*job) for job in jobs]


def _decode(file: str | bytes, image_size: int, channels: int, alignment: Similarity | None) -> np.ndarray | None:
    try:
        with open(file, "rb") if isinstance(file, str) else io.BytesIO(file) as stream:
            return read_lfw(stream, image_size, channels, alignment)
    except READ_ERRORS:
        return None


def _jobs(listing: Listing, chosen: np.ndarray, image_size: int, channels: int) -> list[Job]:
    """A job for each of ``chosen``; of an archive they hold the pictures' bytes, which an archive gives only one after the other."""
    fits = listing.alignment
    files: dict[str, str | bytes] = {listing.names[i]: str(listing.place / listing.names[i]) for i in chosen}
    if (members := listing.members) is not None:
        with explained(listing.place), members.opened() as open_member:
            for name in members.sizes:
                if name in files:
                    with open_member(name) as stream:
                        files[name] = stream.read(_LARGEST)
    return [(files[listing.names[i]], image_size, channels, None if fits is None else fits[i]) for i in chosen]


def check_lfw(path: Path, landmarks: Path | None = None) -> None:
    """Raise UserError unless the lists are whole and a picture can be read; reads pictures until one can."""
    listing = list_lfw(path, landmarks)
    with quiet_pillow():
        for start in range(0, len(listing.names), 100):
            some = np.arange(start, min(start + 100, len(listing.names)))
            if any(_decode(*job) is not None for job in _jobs(listing, some, 8, 3)):
                return
    raise UserError(_unreadable(listing))


def _unreadable(listing: Listing) -> str:
    sides = "250 x 250 pixels" if listing.alignment is not None else "250 x 250 pixels (or another square)"
    return f"{listing.place}: none of the {len(listing.names)} pictures can be read as LFW's of {sides}"


def plan_lfw(path: Path, *, image_size: int, channels: int, landmarks: Path | None = None) -> Plan:
    """What decoding LFW will give. ``landmarks``: a file to align the faces by, see landmarks.py."""
    listing = list_lfw(path, landmarks)
    facts: dict[str, Any] = {
        "source": "LFW", "version": VERSION, "image_size": image_size, "channels": channels, "crop": "middle 150 of 250 pixels",
        "smooth": "Gaussian, sigma = sqrt(crop / image_size) / 2", "resize": "bicubic", "left_out": listing.left_out,
    }  # fmt: skip
    if listing.mean is not None:
        facts["align"] = "similarity transform of 68 landmarks to their mean shape, before the crop"
        facts["mean_shape"] = [[round(z.real, 3), round(z.imag, 3)] for z in listing.mean.tolist()]

    shape = (image_size, image_size, channels)

    def decoded(chosen: np.ndarray, done: int, workers: int | None) -> Iterator[Sequence[Placed]]:
        made = _jobs(listing, chosen[done:], image_size, channels)  # all at once: an archive is read from its beginning
        where = np.arange(len(chosen)) - done
        few = in_order(decode_chunk, lambda places: [made[k] for k in where[places]], shape)
        return few(np.arange(len(chosen)), done, workers)

    return Plan(
        "LFW", facts, f"decoded-{key_of(os.path.realpath(listing.place))}-{image_size}x{channels}", listing.stamps,
        shape, listing.splits, decoded,
        None if listing.attributes is None else listing.attributes.__getitem__, listing.attribute_names,
        unreadable=lambda n: _unreadable(listing),
    )  # fmt: skip
