"""The lists that come with LFW: attributes of pictures, and which people are for training and for testing.

lfw_attributes.txt   comments (#), the last of which has the columns' names: person, imagenum, then the attributes' (73 in the official
                     file); then a row a picture, tabs between: the person's name with spaces, the picture's number, real values
peopleDevTrain.txt, peopleDevTest.txt   a count, then a row a person: the name with underscores, a tab, how many pictures
people.txt           the number of sets (10), then each set as one such list

Re-uploads have the lists of people as .csv: a line "name,images", then a row a person. In people.csv another such line, or a number alone,
begins the next set; where there is one set, it says nothing of a split, and is left out of account.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from vaegan_kernels.data.dataset import hashed_splits
from vaegan_kernels.shell.errors import UserError

ATTRIBUTE_FILE = "lfw_attributes.txt"
DEV_TRAIN, DEV_TEST, SETS = "peopleDevTrain.txt", "peopleDevTest.txt", "people.txt"
_MOST = 1 << 26  # bytes; the official list of attributes has 18 million


def _lines(path: Path) -> list[str]:
    try:
        if path.stat().st_size > _MOST:
            raise UserError(f"{path}: is {path.stat().st_size} bytes, expected a list of LFW's")
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "is no text file" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{path}: {reason}, expected LFW's list") from error


@lru_cache(maxsize=2)
def read_attributes(path: Path, stamp: int) -> tuple[tuple[str, ...], dict[tuple[str, int], np.ndarray]]:
    """The attributes' names, and float32 [A] of each (person with underscores, number). ``stamp``: changes whenever the file does."""
    del stamp  # part of the cache's key only
    names: tuple[str, ...] = ()
    rows: dict[tuple[str, int], np.ndarray] = {}
    for number, line in enumerate(_lines(path), 1):
        where = f"{path}, line {number}"
        words = [word.strip() for word in line.lstrip("#").strip().split("\t")]
        if line.startswith("#") or not line.strip():
            names = tuple(words[2:]) if words[:2] == ["person", "imagenum"] else names
            continue
        if not names or len(set(names)) < len(names) or not all(names):
            raise UserError(f"{where}: no line before it has the names, each once: #, person, imagenum, the attributes, tabs between")
        if len(words) != 2 + len(names):
            raise UserError(
                f"{where} ({words[0][:60]}): got {len(words)} columns, expected {2 + len(names)}: person, number, {len(names)} values"
            )
        if not words[1].isdecimal():
            raise UserError(f"{where} ({words[0][:60]}): got the picture's number {words[1][:40]!r}, expected a whole number")
        try:
            values = np.array([float(word) for word in words[2:]], np.float32)
        except ValueError:
            values = np.full(1, np.nan)
        if not np.isfinite(values).all():
            raise UserError(f"{where} ({words[0][:60]}): has a value that is no number")
        key = (words[0].replace(" ", "_"), int(words[1]))
        if key in rows:
            raise UserError(f"{where}: {words[0]}, {key[1]} is listed twice, expected a row a picture")
        rows[key] = values
    if not rows:
        raise UserError(f"{path}: has no row, expected one a picture; is the file cut off? download it again")
    return names, rows


def _people(lines: list[str], path: Path, first: int) -> tuple[list[str], int]:
    """The people of the list whose count is in line ``first`` (from 1), and the line after its last."""
    text = lines[first - 1].strip() if first <= len(lines) else ""
    if not text.isdecimal():
        raise UserError(f"{path}, line {first}: got {text[:40]!r}, expected the number of people that follow")
    names = []
    for number, line in enumerate(lines[first : first + int(text)], first + 1):
        words = line.split()
        if len(words) != 2 or not words[1].isdecimal():
            raise UserError(f"{path}, line {number}: got {line[:40]!r}, expected a person's name and how many pictures there are")
        names.append(words[0])
    if len(names) < int(text):
        raise UserError(f"{path}, line {first}: says {int(text)} people, but {len(names)} follow; is the file cut off? download it again")
    return names, first + 1 + len(names)


def _read_table(path: Path) -> list[list[str]]:
    """The sets of people in a .csv, one where nothing divides it."""
    sets: list[list[str]] = []
    for number, line in enumerate(_lines(path), 1):
        words = [word.strip().strip('"') for word in line.split(",")]
        filled = [word for word in words if word]
        if not filled:
            continue
        if filled[0].lower() == "name" or (len(filled) == 1 and filled[0].isdecimal()):
            sets += [[]] if not sets or sets[-1] else []
        elif len(words) < 2 or not words[1].replace(".0", "").isdecimal():
            raise UserError(f"{path}, line {number}: got {line[:40]!r}, expected a person's name and how many pictures there are")
        else:
            sets = sets or [[]]
            sets[-1].append(words[0].replace(" ", "_"))
    if not any(sets):
        raise UserError(f"{path}: has no row, expected one a person; is the file cut off? download it again")
    return [one for one in sets if one]


def _read_list(path: Path) -> list[list[str]]:
    """One list of people, or, of people.txt, all sets."""
    if path.suffix == ".csv":
        return _read_table(path)
    lines = _lines(path)
    if path.name != SETS:
        names, after = _people(lines, path, 1)
        sets = [names]
    else:
        count = lines[0].strip() if lines else ""
        if not count.isdecimal() or not 2 <= int(count) <= 1000:
            raise UserError(f"{path}, line 1: got {count[:40]!r}, expected the number of sets, 10 in the official file")
        sets, after = [], 2
        for _ in range(int(count)):
            names, after = _people(lines, path, after)
            sets.append(names)
    if any(line.strip() for line in lines[after - 1 :]):
        raise UserError(f"{path}, line {after}: got {lines[after - 1][:40]!r}, expected the end: the list has all the people it says")
    return sets


def split_people(people: Sequence[str], lists: dict[str, Path]) -> dict[str, int]:
    """0 train, 1 validation or 2 test for each of ``people``, each once.

    By peopleDevTrain.txt and peopleDevTest.txt, a tenth of the former's people for validation by a hash of their names; where one of the
    two is absent, its people are those that the other does not have. Else by people.txt: its last set test, the one before it validation.
    Else by a hash of each name: about 90 / 5 / 5 %.

    Args:
        lists: file's name -> where it is, of those that are there.

    Raises:
        UserError: a list is wrong, has a person twice, or lacks one.
    """
    used = [name for name in (DEV_TRAIN, DEV_TEST) if name in lists] or [name for name in (SETS,) if name in lists]
    if not used:
        return dict(zip(people, hashed_splits(list(people)).tolist(), strict=True))
    split: dict[str, int] = {}
    for name in used:
        sets = _read_list(lists[name])
        if name == SETS and len(sets) < 2:
            return split_people(people, {})
        for i, one in enumerate(sets):
            for person in one:
                if person in split:
                    raise UserError(f"{lists[name]}: {person} is listed twice; a person must not be in two splits")
                if name == SETS:
                    split[person] = 2 if i == len(sets) - 1 else 1 if i == len(sets) - 2 and i else 0
                else:
                    split[person] = 2 if name == DEV_TEST else _train_or_validation(person)
    if used in ([DEV_TRAIN], [DEV_TEST]):
        for person in people:
            split.setdefault(person, 2 if used == [DEV_TRAIN] else _train_or_validation(person))
    missing = [person for person in people if person not in split]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        where = " and ".join(str(lists[name]) for name in used)
        raise UserError(f"{where}: no row for {missing[0]}{more}; use the complete lists, or remove them to go without")
    return split


def _train_or_validation(person: str) -> int:
    return int(hashlib.sha256(person.encode()).digest()[0] < 26)
