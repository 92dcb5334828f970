"""The reader of pickles as data: other names and operations are refused, nothing is run, and small files stay small in memory."""

from __future__ import annotations

import struct
import time
import tracemalloc

import pytest

from vaegan_kernels.data.formats.plain_pickle import Refused, read_plain_pickle


def name(module, attribute, arguments=b")"):
    """A pickle of protocol 2 that calls ``module.attribute``."""
    return b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + arguments + b"R."


@pytest.mark.parametrize(
    "content",
    [
        name("numpy", "load"), name("numpy", "fromfile"), name("numpy", "vectorize"), name("numpy", "ndarray.dump"),
        name("numpy.core.multiarray", "fromfile"), name("numpy._core.multiarray", "array"), name("numpy.lib.npyio", "DataSource"),
        name("numpy.core._multiarray_umath", "_reconstruct"), name("numpy.testing._private.utils", "runstring"),
        name("numpy.core.multiarray", "set_typeDict"), name("numpy.core.multiarray", "_reconstruct.__globals__"),
        name("builtins", "eval"), name("__builtin__", "eval"), name("copy_reg", "_reconstructor"), name("_codecs", "encode"),
        name("numpy\nx", "y"), name("", ""),
    ],
)  # fmt: skip
def test_other_globals_are_named_and_refused(content):
    with pytest.raises(Refused, match="names '.*', expected plain data|is a damaged pickle"):
        read_plain_pickle(content)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
U1 = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"


@pytest.mark.parametrize(
    "body",
    [
        b"cnumpy\nndarray\nJ\x00\x00\x00\x40\x85R",  # ndarray((1 << 30,))
        b"cnumpy\nndarray\n)\x81",  # NEWOBJ
        b"(icollections\nOrderedDict\n",  # INST
        b"(cnumpy\nndarray\no",  # OBJ
        b"U\x01aQ",  # BINPERSID
        b"\x82\x01",  # EXT1
        ARRAY.replace(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"),
        ARRAY.replace(b"K\x00\x85", b"J\x00\x00\x00\x40\x85"),
        U1.replace(b"u1", b"O8"), U1.replace(b"u1", b"f8"), U1.replace(b"u1", b"V9"), U1.replace(b"U\x02u1", b"]"),
        b"]}b", b"K\x01}b",  # BUILD of something else
        b"cnumpy\ndtype\n}U\x04nameU\x01xsb", b"cnumpy\ndtype\nN}U\x04nameU\x01xs\x86b",  # BUILD of a name's attributes
        ARRAY + b"(K\x01J\x00\x00\x00\x40\x85" + U1 + b"\x89U\x01atb",  # a shape without its bytes
        ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + U1 + b"\x89U\x00tb",  # -1
        ARRAY + b"(K\x01K\x01\x85" + U1 + b"\x89]tb",  # a list of objects for bytes
        ARRAY + b"(K\x01K\x01\x85U\x01x\x89U\x01atb",
        b"cnumpy.core.multiarray\nscalar\n" + U1 + b"U\x02ab\x86R",  # a scalar of two bytes
        b"}]K\x01s", b"K\x01K\x02", b"0", b"t", b"a", b"e", b"K\x01a", b"h\x07", b"(.", b"cnumpy\nndarray\n}R", b"]]a",
    ],
)  # fmt: skip
def test_numpys_names_abused(body):
    """What is not refused is plain data."""
    try:
        value = read_plain_pickle(b"\x80\x02" + body + b".")
    except Refused as error:
        assert "\n" not in str(error)
    else:
        assert value == [[]]


def test_scalars_are_read():
    assert read_plain_pickle(b"\x80\x02cnumpy.core.multiarray\nscalar\n" + U1 + b"U\x01*\x86R.") == 42


@pytest.mark.parametrize(
    "body",
    [
        b"]r\xf0\xff\xff\xff",  # LONG_BINPUT: Python's own reader makes room for 2^32 entries
        b"T\xff\xff\xff\x7fabc", b"\x8e" + struct.pack("<Q", 1 << 40) + b"abc", b"\x8b\xff\xff\xff\x7fabc",
        ARRAY + b"(K\x01(" + b"J\xff\xff\xff\x7f" * 4 + b"t" + U1 + b"\x89U\x01atb",
        b"(" * 100_000, b"]" * 50_000, b"I" + b"9" * 3_000_000 + b"\n",
    ],
)  # fmt: skip
def test_small_pickles_stay_small(body):
    content = b"\x80\x02" + body + b"."
    start = time.perf_counter()
    tracemalloc.start()
    try:
        read_plain_pickle(content)
    except Refused:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 50_000_000 and time.perf_counter() - start < 60


def test_deep_nesting_is_no_traceback():
    for end in (b"U\x01x\x93", b"\x85R", b"b", b"cnumpy\ndtype\nh\x00\x85R"):
        with pytest.raises(Refused):
            read_plain_pickle(b"\x80\x02]q\x00" + b"]" * 20_000 + b"a" * 20_000 + end + b".")


@pytest.mark.parametrize("element", [b"\x85", b"h\x00\x86"])
def test_a_key_that_is_slow_or_too_deep_to_hash(element):
    """A tuple in a tuple, 200,000 deep (Python's own reader in C crashes), or each twice the one before, 2^200 in all (it hangs)."""
    times = 200_000 if element == b"\x85" else 200
    body = b")q\x00" + (element + b"q\x00" if element == b"\x85" else b"h\x00" + element + b"q\x00") * times
    with pytest.raises(Refused, match="a tuple in the wrong place"):
        read_plain_pickle(b"\x80\x02" + body + b"}h\x00K\x01s.")


def test_too_large_a_pickle():
    with pytest.raises(Refused, match="is 67108865 bytes, expected at most"):
        read_plain_pickle(bytes((1 << 26) + 1))
