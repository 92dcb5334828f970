"""What the tests of data sets share: tiny ones in the official formats, pickles as Python 2 wrote them, and the form of a refusal."""

from __future__ import annotations

import gzip
import struct
import tarfile

import numpy as np
import pytest

from vaegan_kernels.data import check_source, load_dataset
from vaegan_kernels.shell.errors import UserError

CIFAR_NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CIFAR_BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
STL_NAMES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]


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


def write_cifar(parent, form, per_batch=20, only=CIFAR_BATCHES, names=True):
    """CIFAR-10 unpacked below ``parent``; returns the folder, the images of the batches in order, and their labels."""
    folder = parent / ("cifar-10-batches-py" if form == "py" else "cifar-10-batches-bin")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    images, labels = [], []
    for name in CIFAR_BATCHES:
        pixels = rng.integers(0, 256, (per_batch, 32, 32, 3), dtype=np.uint8)
        classes = rng.integers(0, 10, per_batch)
        if name not in only:
            continue
        images.append(pixels)
        labels.append(classes)
        if form == "py":
            batch = {"batch_label": name, "labels": classes.tolist(), "data": planes(pixels)}
            batch["filenames"] = [f"{i}.png" for i in range(per_batch)]
            (folder / name).write_bytes(python2_pickle(batch))
        else:
            (folder / f"{name}.bin").write_bytes(np.column_stack([classes.astype(np.uint8), planes(pixels)]).tobytes())
    (folder / "readme.html").write_text("<html/>")
    if names and form == "py":
        meta = {"num_cases_per_batch": per_batch, "label_names": CIFAR_NAMES, "num_vis": 3072}
        (folder / "batches.meta").write_bytes(python2_pickle(meta))
    elif names:
        (folder / "batches.meta.txt").write_text("\n".join(CIFAR_NAMES) + "\n\n")
    return folder, *(np.concatenate(parts) if parts else None for parts in (images, labels))


def write_stl(parent, train=12, test=6, unlabeled=20, names=True):
    """STL-10 unpacked below ``parent``; returns the folder, the images in the order train, unlabelled, test, and labels from 0 on."""
    folder = parent / "stl10_binary"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(6)
    images, labels = [], []
    for name, count in (("train", train), ("unlabeled", unlabeled), ("test", test)):
        pixels = rng.integers(0, 256, (count, 96, 96, 3), dtype=np.uint8)
        classes = rng.integers(1, 11, count)
        images.append(pixels)
        labels.append(classes - 1 if name != "unlabeled" else np.full(count, -1))
        if count:
            columns = [plane.T for image in pixels for plane in (image[..., 0], image[..., 1], image[..., 2])]
            (folder / f"{name}_X.bin").write_bytes(b"".join(np.ascontiguousarray(plane).tobytes() for plane in columns))
            if name != "unlabeled":
                (folder / f"{name}_y.bin").write_bytes(classes.astype(np.uint8).tobytes())
    if names:
        (folder / "class_names.txt").write_text("\n".join(STL_NAMES) + "\n")
    (folder / "fold_indices.txt").write_text("0 2 4 \n1 3 5 \n")
    return folder, np.concatenate(images), np.concatenate(labels)


def idx(array, kind=8):
    """``array`` (uint8) as the bytes of an idx file."""
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder, *, packed=False, train=48, test=10, side=28, joint="-"):
    """MNIST's four files; returns the images uint8 [n,side,side] and labels."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (train + test, side, side), dtype=np.uint8)
    labels = rng.integers(0, 10, train + test).astype(np.uint8)
    labels[:10] = np.arange(10)
    for key, part in (("train", slice(train)), ("t10k", slice(train, None))):
        for name, array in (("images", images), ("labels", labels)):
            content = idx(array[part])
            path = folder / f"{key}-{name}{joint}idx{array.ndim}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return images, labels
