"""What the tests of data sets share: tiny archives, pickles as Python 2 wrote them, and the form of a refusal."""

from __future__ import annotations

import struct
import tarfile

import numpy as np
import pytest

from vaegan_kernels.data import check_source, load_dataset
from vaegan_kernels.errors import UserError


def load(source, **options):
    return load_dataset(source, **{"image_size": 32, "channels": 3, "cache_dir": False} | options)


def refused(source, expected, **options):
    """Both ways in refuse ``source`` in one line that matches ``expected``."""
    for call in (check_source, load_dataset):
        with pytest.raises(UserError, match=expected) as error:
            call(source, **{"image_size": 32, "channels": 3} | options | ({"cache_dir": False} if call is load_dataset else {}))
        assert "\n" not in str(error.value)


def tar_of(folder, path, mode="w:gz"):
    """``folder`` and all in it as the archive ``path``."""
    with tarfile.open(path, mode) as archive:
        archive.add(folder, folder.name)
    return path


def _text(value):
    content = value.encode("latin-1")
    return b"U" + bytes([len(content)]) + content if len(content) < 256 else b"T" + struct.pack("<i", len(content)) + content


def _number(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    return b"M" + struct.pack("<H", value) if 0 <= value < 65536 else b"J" + struct.pack("<i", value)


class Python2Pickle:
    """A pickle of protocol 2 with the operations that Python 2's cPickle used, each value put into the memo as there."""

    def __init__(self):
        self.memo = 0

    def put(self, code):
        self.memo += 1
        return code + (b"q" + bytes([self.memo]) if self.memo < 256 else b"r" + struct.pack("<I", self.memo))

    def value(self, value):
        if isinstance(value, str):
            return self.put(_text(value))
        if isinstance(value, int):
            return _number(value)
        if isinstance(value, list):
            return self.put(b"]") + b"(" + b"".join(map(self.value, value)) + b"e"
        if isinstance(value, dict):
            return self.put(b"}") + b"(" + b"".join(self.value(key) + self.value(one) for key, one in value.items()) + b"u"
        return self.array(value)

    def array(self, a):
        head = self.put(b"cnumpy.core.multiarray\n_reconstruct\n") + self.put(b"cnumpy\nndarray\n")
        head += self.put(_number(0) + b"\x85") + self.value("b")
        made = self.put(self.put(head + b"\x87") + b"R")
        shape = self.put(b"".join(map(_number, a.shape)) + {1: b"\x85", 2: b"\x86"}[a.ndim])
        kind = self.put(b"cnumpy\ndtype\n") + self.value(a.dtype.str[1:]) + _number(0) + _number(1)
        kind = self.put(self.put(kind + b"\x87") + b"R")
        state = _number(3) + self.value(a.dtype.str[0]) + b"NNN" + _number(-1) + _number(-1) + _number(0)
        kind += b"(" + self.put(state + b"t") + b"b"
        return made + b"(" + self.put(_number(1) + shape + kind + b"\x89" + self.value(a.tobytes().decode("latin-1")) + b"t") + b"b"


def python2_pickle(value):
    """``value`` (dicts, lists, text, whole numbers, arrays) as Python 2 would have pickled it."""
    return b"\x80\x02" + Python2Pickle().value(value) + b"."


def planes(images):
    """uint8 [n,H,W,3] as records of a red, a green and a blue plane, row by row."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
