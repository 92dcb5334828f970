"""Data sets: built-in faces, CelebA, LFW, CIFAR-10, STL-10, MNIST, folders of images, packed files. `load_dataset` is the one way in."""

from vaegan_kernels.data.dataset import SPLITS, Dataset
from vaegan_kernels.data.formats.packed import read_packed, write_packed
from vaegan_kernels.data.source import attribute_names, check_source, describe_source, load_dataset

__all__ = ["SPLITS", "Dataset", "attribute_names", "check_source", "describe_source", "load_dataset", "read_packed", "write_packed"]
