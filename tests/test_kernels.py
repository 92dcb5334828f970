"""The cases of kernel_cases*.py on the CUDA engine, interpreted and emulated on the host, against the NumPy engine in float64: both ways
of loading, each precision, arrays at odd addresses, any order of threads; and each launch's declared cost. On a GPU: bench.gpu.kernels."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
pytest.importorskip("ml_dtypes", reason="ml_dtypes, NumPy's bfloat16, is not installed")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from kernel_cases import cases, part_cases
from kernel_check import Run, check
from kernel_counts import counted
from kernel_shapes import FEW, ODD

from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import emulated_engine

#: A chip with tensor descriptors and one without; one multiprocessor, so that the rule takes the largest tiles: few programs to interpret.
CHIP = {"boxes": CHIPS["sm_90"]._replace(multiprocessors=1), "pointers": CHIPS["sm_80"]._replace(multiprocessors=1)}
PRODUCTS = ("conv", "upconv", "linear")
#: All shapes in float32, those that a path does not change once; in the other precisions one of each kind, and the boxes of images
#: that only bf16 has.
BOXES = ODD._replace(products=ODD.products[:-7])
POINTERS = ODD._replace(forwards=ODD.forwards[:7], dgrads=ODD.dgrads[:3] + ODD.dgrads[5:], wgrads=ODD.wgrads[6:10])
PRODUCTS_ALONE = FEW._replace(convs=[], upconvs=[], dense=[])
ENGINES = (
    ("boxes", "float32", BOXES), ("pointers", "float32", POINTERS), ("boxes", "bf16", FEW._replace(wgrads=ODD.wgrads)),
    ("pointers", "bf16", PRODUCTS_ALONE), ("boxes", "tf32", PRODUCTS_ALONE),
)  # fmt: skip
WORK = [
    (path, precision, case)
    for path, precision, shapes in ENGINES
    for case in cases(shapes)
    # a block's backward launches what other cases have, whichever the path
    if case.operation.startswith(PRODUCTS) and not (path == "pointers" and case.operation.endswith("bn_relu_backward"))
]
OTHERS = [case for case in [*cases(ODD), *part_cases()] if not case.operation.startswith(PRODUCTS)]


@pytest.fixture(scope="module")
def engines():
    """One engine for each path and precision."""
    made = {}

    def get(path, precision):
        if (path, precision) not in made:
            made[path, precision] = emulated_engine(precision, chip=CHIP[path])
        return made[path, precision]

    return get


def right(outcomes):
    wrong = [f"{o.output}: error {o.error:.2e}, allowed {o.limit:.1e}" for o in outcomes if not o.ok]
    assert not wrong, wrong


@pytest.mark.parametrize(("path", "precision", "case"), WORK, ids=[f"{path} {precision} {case.name}" for path, precision, case in WORK])
def test_products(engines, engine64, path, precision, case):
    """Right, and each launch executed and touched exactly what it declared."""
    engine = engines(path, precision)
    with counted(engine.device) as launches:
        right(check(engine, engine64, case))
    assert launches
    for launch in launches if "gate 0" not in case.name else ():  # what is switched off costs less
        assert (launch.flops, launch.reads, launch.writes) == tuple(launch.declared), launch


@pytest.mark.parametrize("case", OTHERS, ids=[case.name for case in OTHERS])
def test_others(engines, engine64, case):
    """Right, wherever inputs and outputs lie, aligned or not."""
    for precision, shifts in (("float32", ((0, 0), (1, 1), (0, 1), (1, 0))), ("bf16", ((0, 0), (1, 1)))):
        for shift in shifts:
            right(check(engines("boxes", precision), engine64, case, shift=shift))


@pytest.mark.parametrize("case", OTHERS, ids=[case.name for case in OTHERS])
def test_the_order_of_threads_changes_no_bit(case):
    found = set()
    for seed in (0, 1000, 2000):
        results = Run(emulated_engine("float32", seed=seed), case)().results()
        found.add(b"".join(array.tobytes() for array in results.values()))
    assert len(found) == 1, "the order of the threads decides the result"
