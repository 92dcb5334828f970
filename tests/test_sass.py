"""The reader of machine code, on code compiled here: real mnemonics of each chip, and a control flow written out by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
from bench.aot import sass

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """Name of a kernel in tests/sass_kernels.py → (its function, its resources)."""
    folder = tmp_path_factory.mktemp("cubins")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    clean |= {"TRITON_CACHE_DIR": str(folder / "cache"), "TRITON_DEFAULT_FP_FUSION": "1"}
    command = [sys.executable, "-m", "tests.sass_kernels", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result = {}
    for path in folder.glob("*.cubin"):
        functions, resources = sass.read(path.read_bytes())
        assert len(functions) == 1 and functions.keys() == resources.keys()
        name = next(iter(functions))
        result[path.stem] = functions[name], resources[name]
    return result


def names(function):
    return {i.base for i in function.main_loop()}


@pytest.mark.parametrize(
    ("kernel", "matrix", "copies"),
    [
        ("sm80 bf16", "HMMA", "LDGSTS"), ("sm86 tf32", "HMMA", "LDGSTS"), ("sm120 bf16", "HMMA", "LDGSTS"),
        ("sm90 bf16", "HGMMA", "LDGSTS"), ("sm90 bf16 boxes", "HGMMA", "UTMALDG"), ("sm100 bf16 boxes", "UTCHMMA", "UTMALDG"),
    ],
)  # fmt: skip
def test_main_loop_of_a_product_holds_its_matrix_instructions_and_copies(codes, kernel, matrix, copies):
    function, resources = codes[kernel]
    loop = sass.mix(function.main_loop())
    assert {matrix, copies} <= names(function)
    assert loop["matrix"] == sum(i.base == matrix for i in function.main_loop()) > 0
    copied = "LDGSTS.128" if copies == "LDGSTS" else "UTMALDG"
    # two operands of 64x32 (128x32 with tcgen05) values: a copy moves 16 bytes for each of 128 threads, a box one operand
    expected = {"sm86 tf32": 8}.get(kernel, 4) if copies == "LDGSTS" else 2
    assert loop[copied] == expected
    assert not any(kind.startswith(("LDG.", "LDL", "STL")) for kind in loop)
    assert (resources.stack, resources.local) == (0, 0) and 32 <= resources.registers <= 255


def test_matrix_instructions_are_counted_by_the_step(codes):
    # 64x64x32 by mma.sync m16n8k16 on 4 warps: 4 * 8 * 2 / 4; by wgmma m64n64k16: 2; by mma.sync m16n8k8 (tf32): 4 * 8 * 4 / 4
    for kernel, expected in (("sm80 bf16", 16), ("sm120 bf16", 16), ("sm90 bf16", 2), ("sm86 tf32", 32)):
        assert sass.mix(codes[kernel][0].main_loop())["matrix"] == expected, kernel


def test_a_wait_moved_behind_the_kernel_is_a_loop_of_its_own(codes):
    function, _ = codes["sm90 bf16 boxes"]
    assert len(function.loops) == 2
    wait = min(function.loops, key=lambda loop: len(loop.instructions))
    main = max(function.loops, key=lambda loop: len(loop.instructions))
    assert wait.blocks < main.blocks and {i.base for i in wait.instructions} == {"SYNCS", "BRA"}
    assert function.main_loop() == main.instructions


def test_float32_loop_is_the_one_with_the_multiply_adds(codes):
    function, _ = codes["sm80 float32"]
    loop = sass.mix(function.main_loop())
    assert "matrix" not in loop
    assert sum(i.base == "FFMA" for i in function.main_loop()) == 32 * 32 * 16 // 128  # a tile's multiply-adds over its threads
    assert loop["float"] >= 128 and loop["LDS"] > 0 and loop["LDGSTS.128"] == 2


def test_elementwise_loop_and_access_widths(codes):
    function, _ = codes["sm80 doubled"]
    loop = sass.mix(function.main_loop())
    assert loop["LDG.128"] == loop["STG.128"] > 0
    assert not {"LDG.32", "STG.32"} & loop.keys()


def test_spills_are_seen(codes):
    function, resources = codes["sm90 spills"]
    everything = sass.mix(function.instructions)
    assert resources.stack > 0 and everything["LDL"] > 0 and everything["STL"] > 0
    for kernel, (clean, _) in codes.items():
        if kernel != "sm90 spills":
            assert not {"LDL", "STL"} & sass.mix(clean.instructions).keys(), kernel


def test_kinds_add_up_and_little_is_unknown(codes):
    for kernel, (function, _) in codes.items():
        counts = sass.mix(function.instructions)
        assert sum(n for kind, n in counts.items() if kind != "all") == counts["all"] == len(function.instructions) > 20, kernel
        loop = sass.mix(function.main_loop())
        assert loop.get("other", 0) <= 0.02 * loop["all"], (kernel, loop)


def listing(program):
    """A program, its lines separated by ";", in the disassembler's layout: labels end with a colon, everything else is an instruction."""
    address, text = 0, ["\t.section .text.k", ".text.k:"]
    for line in (part.strip() for part in program.replace("\n", ";").split(";")):
        if line.endswith(":"):
            text.append(line)
        elif line:
            text.append(f"        /*{address:04x}*/                   {line} ;")
            address += 16
    return "\n".join(text)


NESTED = """
    S2R R0, SR_TID.X; @!P0 BRA `(.end)
    .outer:; LDG.E R2, desc[UR4][R4.64]
    .inner:; FFMA R1, R2, R3, R1; @P1 BRA `(.inner)
    @!P2 BRA `(.wait)
    .back:; IADD3 R4, R4, 0x4, RZ; @P3 BRA `(.outer)
    .end:; EXIT
    .wait:; SYNCS.PHASECHK.TRANS64.TRYWAIT P2, [UR4], R3; @!P2 BRA `(.wait); BRA `(.back)
    .trap:; BRA `(.trap)
"""

JOINED = """
    .top:; BSSY B0, `(.join); @P0 BRA `(.skip); STG.E.128 desc[UR4][R2.64], R4
    .skip:; BSYNC B0
    .join:; BRA.U UP0, `(.top); EXIT
"""


def test_loops_of_a_control_flow_written_out():
    function = sass.parse(listing(NESTED))["k"]
    texts = [[i.name for i in loop.instructions] for loop in function.loops]
    assert sorted(texts, key=len) == [
        ["FFMA", "BRA"], ["SYNCS.PHASECHK.TRANS64.TRYWAIT", "BRA"],
        ["LDG.E", "BRA", "IADD3", "BRA", "BRA"],  # the last one leads back from the wait; the trap behind it is never reached
    ]  # fmt: skip
    assert [i.name for i in function.main_loop()] == ["FFMA", "BRA"]


def test_branches_with_a_uniform_predicate_and_joins():
    function = sass.parse(listing(JOINED))["k"]
    (loop,) = function.loops
    assert [i.base for i in loop.instructions] == ["BSSY", "BRA", "STG", "BSYNC", "BRA"]
    assert sass.mix(loop.instructions) == {"STG.128": 1, "all": 5, "jump": 2, "wait": 2}


def test_matrix_code_without_a_loop_has_no_main_loop():
    function = sass.parse(listing("HMMA.16816.F32.BF16 R4, R8, R2, R4; .spin:; LDG.E R1, [R2]; @P0 BRA `(.spin); EXIT"))["k"]
    assert len(function.loops) == 1 and function.main_loop() is None


@pytest.mark.parametrize(
    ("name", "bits"),
    [("LDGSTS.E.BYPASS.LTC128B.128", 128), ("LDGSTS.E", 32), ("LDG.E.64.CONSTANT", 64), ("LDG.E.U16", 16), ("STG.E.U8", 8)],
)
def test_width_of_an_access(name, bits):
    assert sass.Instruction("", name, "").bits == bits


@pytest.mark.parametrize(
    ("program", "waits"),
    [
        ("LDC R1, c[0x0][0x28]; S2R R0, SR_TID.X; PREEXIT; ACQBULK; LDG.E R1, [R2]; EXIT", True),
        ("STS [R1], R2; BAR.SYNC 0x0; ACQBULK; @P0 EXIT; STG.E [R2], R3; EXIT", True),
        ("@P0 BRA `(.b); ACQBULK; ST.E [R2], R3; EXIT; .b:; ACQBULK; EXIT", True),
        (".spin:; SYNCS.PHASECHK.TRANS64.TRYWAIT P2, [UR4], R3; @!P2 BRA `(.spin); ACQBULK; EXIT", True),
        ("LDG.E R1, [R2]; EXIT", False),
        ("EXIT", False),
        ("@P0 ACQBULK; LDG.E R1, [R2]; EXIT", False),
        ("@P0 EXIT; ACQBULK; LDG.E R1, [R2]; EXIT", False),  # blocks that end early let the launch behind begin
        ("@P0 BRA `(.b); ACQBULK; EXIT; .b:; LDG.E R1, [R2]; ACQBULK; EXIT", False),  # behind the wait by address alone
        ("BRA `(.b); .a:; LDG.E R1, [R2]; EXIT; .b:; ACQBULK; BRA `(.a)", True),  # before it by address alone
        ("CALL.REL.NOINC `(.a); .a:; ACQBULK; EXIT", False),
        *((f"{name} R1, [R2]; ACQBULK; EXIT", False) for name in (
            "LD.E", "ST.E.128", "LDG.E", "STG.E", "LDGSTS.E", "ATOM.E.ADD", "ATOMG.E.ADD", "RED.E.ADD", "REDG.E.ADD", "UTMALDG.2D",
            "UTMASTG.2D", "UTMAREDG.2D.ADD", "UTMAPF.L2.2D", "UBLKCP.S.G", "UBLKRED", "CCTL.E.PF2", "TEX", "SULD.D.BA", "WHATEVER",
        )),
    ],
)  # fmt: skip
def test_every_way_waits_before_it_touches_memory(program, waits):
    assert sass.waits_first(sass.parse(listing(program))["k"]) is waits


def test_a_file_that_is_no_cubin_is_refused():
    with pytest.raises(RuntimeError, match="nvdisasm"):
        sass.read(b"no machine code")
