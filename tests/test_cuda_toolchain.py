"""Compilers against the driver: whose ptxas makes the cubins, which NVRTC is refused, and what is said of chips that neither knows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kernels.cuda.device.chips import CHIPS, Chip
from kernels.cuda.device.toolchain import check_nvrtc, choose_ptxas, dotted

HERE = Path(__file__).parent
THOR = Chip("Thor", (11, 0), 232448, 20)

# ---- which ptxas, by Triton's version ----

OLD, MIDDLE = ("sm_70", "sm_75", "sm_89", "sm_90", "sm_90a", "sm_100a", "sm_120a"), ("sm_103a", "sm_121a")
KNOWN = {"12.8": OLD, "12.9": OLD + MIDDLE, **dict.fromkeys(("13.1", "13.3", "13.4"), (*OLD[1:], *MIDDLE, "sm_110a"))}
#: Triton's version: its two ptxas, and the first chip for which it takes the second one.
TRITONS = {"3.6.0": ("12.8", "12.9", 100), "3.7.1": ("12.8", "13.1", 100), "3.8.0": ("12.9", "13.3", 100), "3.9.0": ("12.9", "13.4", 90)}


class OneTool(SimpleNamespace):
    """Triton for Windows: there is one ptxas."""

    def __getattr__(self, name):
        raise RuntimeError(f"Cannot find {name}")


@pytest.fixture
def triton(monkeypatch, tmp_path):
    """A function that puts a stand-in for Triton of a version in place, and returns its settings."""

    def put(version, windows=False):
        tools = []
        for number in TRITONS[version][:2]:
            path = tmp_path / f"ptxas-{number}"
            known = ",".join(f"'{name}'" for name in KNOWN[number])
            path.write_text(f'#!/bin/sh\necho "Allowed values: {known}"\n')
            path.chmod(0o755)
            tools.append(SimpleNamespace(path=str(path), version=number))
        nvidia = OneTool(ptxas=tools[0]) if windows else SimpleNamespace(ptxas=tools[0], ptxas_blackwell=tools[1])
        module = SimpleNamespace(
            get_ptxas=lambda sm: tools[sm >= TRITONS[version][2] and not windows],
            get_ptxas_version=SimpleNamespace(cache_clear=lambda: None),
        )
        monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__=version, knobs=SimpleNamespace(nvidia=nvidia)))
        for name in ("triton.backends", "triton.backends.nvidia"):
            monkeypatch.setitem(sys.modules, name, SimpleNamespace(compiler=module))
        return nvidia

    return put


@pytest.mark.parametrize(
    ("version", "chip", "driver", "chosen"),
    [
        ("3.6.0", "sm_90", 12040, None), ("3.6.0", "sm_100", 12080, None), ("3.6.0", "sm_103", 12090, None),
        ("3.7.1", "sm_90", 12040, None), ("3.7.1", "sm_100", 12080, "12.8"), ("3.7.1", "sm_120", 12090, "12.8"),
        ("3.7.1", "sm_121", 13000, None),
        ("3.8.0", "sm_90", 12040, None), ("3.8.0", "sm_100", 12080, "12.9"), ("3.8.0", "sm_121", 12090, "12.9"),
        ("3.9.0", "sm_70", 13000, None), ("3.9.0", "sm_89", 12000, None), ("3.9.0", "sm_90", 12040, "12.9"),
        ("3.9.0", "sm_90", 13000, None),
        ("3.9.0", "sm_103", 12090, "12.9"), ("3.9.0", "sm_121", 13020, None),
    ],
)  # fmt: skip
def test_the_ptxas_of_the_driver(version, chip, driver, chosen, triton):
    nvidia = triton(version)
    before = vars(nvidia).copy()
    choose_ptxas(CHIPS[chip], driver)
    if chosen is None:
        assert vars(nvidia) == before
    else:
        assert nvidia.ptxas == nvidia.ptxas_blackwell and nvidia.ptxas.endswith(f"ptxas-{chosen}")


@pytest.mark.parametrize(
    ("version", "windows", "chip", "driver", "words"),
    [
        ("3.7.1", False, CHIPS["sm_121"], 12090, "of Triton 3.7.1 cannot make code for DGX Spark (sm_121) that a driver of CUDA 12.9"),
        ("3.9.0", False, THOR, 12090, "ptxas 12.9 and 13.4 of Triton 3.9.0 cannot make code for Thor (sm_110)"),
        ("3.8.0", True, THOR, 13000, "ptxas 12.9 of Triton 3.8.0 cannot make code for Thor (sm_110)"),
        ("3.9.0", False, CHIPS["sm_90"], 11080, "H100 (sm_90) that a driver of CUDA 11.8 loads; update the driver"),
    ],
)  # fmt: skip
def test_no_ptxas(version, windows, chip, driver, words, triton):
    nvidia = triton(version, windows)
    before = vars(nvidia).copy()
    with pytest.raises(RuntimeError) as caught:
        choose_ptxas(chip, driver)
    assert str(caught.value).startswith("device cuda: ") and words in str(caught.value) and "\n" not in str(caught.value)
    assert vars(nvidia) == before


def test_windows_has_one_ptxas(triton):
    nvidia = triton("3.8.0", windows=True)
    before = vars(nvidia).copy()
    for chip, driver in (("sm_89", 12040), ("sm_120", 13000), ("sm_100", 12080)):
        choose_ptxas(CHIPS[chip], driver)
    assert vars(nvidia) == before


def test_another_triton(triton):
    triton("3.9.0")
    del sys.modules["triton.backends.nvidia"].compiler.get_ptxas
    with pytest.raises(RuntimeError, match=r"^device cuda: Triton 3\.9\.0 finds no ptxas \(.*\); install Triton 3\.6 to 3\.9 anew$"):
        choose_ptxas(CHIPS["sm_90"], 13000)


# ---- what comes of it ----

#: A cubin's OS ABI and the version of it: bytes 7 and 8.
OF_CUDA_12, NEW = (0x33, 7), (0x41, 8)

COMPILE = """
import os, re, sys
sys.path[:0] = sys.argv[1:3]
import device_demo, numpy as np
from triton.backends.nvidia import compiler
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.parallel import compile_many
from kernels.cuda.device.dry import DryDevice
from kernels.cuda.device.toolchain import choose_ptxas
from kernels.ledger import Cost

if __name__ == "__main__":
    usual = {name: compiler.get_ptxas(CHIPS[name].sm).version for name in sys.argv[4:]}
    for driver in map(int, sys.argv[3].split(",")):
        for jobs, name in enumerate(sys.argv[4:], 1):
            dry = DryDevice(CHIPS[name])
            choose_ptxas(dry.chip, driver)
            x = dry.empty((4, 16), np.float32)
            dry.triton(device_demo.scale_rows, (4,), x, x, None, 4, 1.5, warps=4, stages=1, cost=Cost(0, 0, 0), COLUMNS=16)
            (code,) = compile_many(dry.launches, dry.chip, jobs).values()
            release = re.search(rb"compilation tools, release ([0-9.]+)", code.image)  # 12's have it from sm_100 on
            print("cubin", driver, name, usual[name], code.image[7], code.image[8], release[1].decode() if release else "12")
"""


@pytest.mark.parametrize("drivers", ["12040,13000", "13000,12040"])
def test_cubins_are_the_drivers(drivers, tmp_path):
    """One cache of Triton's, and one process, for both drivers: no code of the one is taken for the other's. From the second chip on it is
    compiled by processes of its own."""
    pytest.importorskip("triton", reason="Triton is not installed (Linux only)")
    chips = ["sm_90", "sm_100", "sm_75", "sm_121"]
    script = tmp_path / "script.py"
    script.write_text(COMPILE)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    clean |= {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
    clean["TRITON_DEFAULT_FP_FUSION"] = "1"
    command = [sys.executable, str(script), str(HERE.parent), str(HERE), drivers, *chips]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("cubin")]
    found = {(int(driver), chip): (int(abi), int(number), int(release.split(".")[0])) for driver, chip, _, abi, number, release in rows}
    usual = {chip: int(version.split(".")[0]) for _, chip, version, *_ in rows}
    assert len(found) == 2 * len(chips)
    for (driver, chip), (*abi, cuda) in found.items():
        # from sm_100 on both write the new one
        assert tuple(abi) == (NEW if cuda == 13 or chip in ("sm_100", "sm_121") else OF_CUDA_12), (driver, chip)
        if driver == 12040:
            assert cuda == 12, chip
        elif drivers.startswith("13"):  # a driver of CUDA 13 takes what Triton takes
            assert cuda == usual[chip], chip


# ---- NVRTC ----

CHIPS_OF = {12: [50, 60, 70, 75, 80, 86, 90, 100, 120], 13: [75, 80, 86, 90, 100, 110, 120]}


@pytest.mark.parametrize(
    ("chip", "driver", "version"), [("sm_70", 12040, 12), ("sm_70", 13000, 12), ("sm_75", 13000, 13), ("sm_121", 13000, 13)]
)
def test_nvrtc_that_serves(chip, driver, version):
    check_nvrtc(CHIPS[chip], driver, (version, 0), CHIPS_OF[version])


@pytest.mark.parametrize(
    ("chip", "driver", "words"),
    [
        ("sm_90", 12080, "NVRTC 13.0 makes code that a driver of CUDA 12.8 does not load, NVRTC 12 would; pip install"),
        ("sm_70", 13000, "NVRTC 13.0 cannot compile for V100 (sm_70), NVRTC 12 can; pip install '.[cuda12]' in the clone"),
    ],
)
def test_nvrtc_that_does_not_serve(chip, driver, words):
    with pytest.raises(RuntimeError) as caught:
        check_nvrtc(CHIPS[chip], driver, (13, 0), CHIPS_OF[13])
    assert str(caught.value).startswith("device cuda: " + words) and "\n" not in str(caught.value)


def test_versions_as_people_have_them():
    assert [dotted(number) for number in (12040, 13000, 11080)] == ["12.4", "13.0", "11.8"]
