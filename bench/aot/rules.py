"""What compiled kernels must be like (RULES), how they are judged, and what counts as growth against a committed table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from bench.aot.exceptions import EXCEPTIONS, Exemption
from kernels.cuda.device.chips import CHIPS

LARGE = 1_000_000  # bytes of a launch from which a kernel without products is expected to move 16 at a time
REGISTERS = 65536  # of a multiprocessor: one block must fit


@dataclass
class Measured:
    """A compiled kernel as read off its machine code.

    Attributes:
        key: chip, precision, operation and kernel: the same name for the same thing in every run.
        family: "product" (its launches count operations of `tl.dot`), "triton" or "cuda".
        tile: warps, stages and constexprs as text.
        shared, limit: bytes of shared memory of a block, static and dynamic; what the chip has.
        threads: of a block.
        bytes: the most that a launch of it touches.
        spills: LDL and STL instructions. stack: bytes of stack and local memory a thread.
        loop: instruction kinds of one pass through the main loop (`bench.aot.sass.mix`); empty without a loop, and for products that the
            compiler unrolled from end to end, which are checked as a whole.
        whole: the same of the whole kernel.
        matrix: names of the loop's matrix instructions (without a loop, of all).
        fused: FFMA in the main loop.
        from_registers: its wgmma instructions whose first operand is in registers.
        waits: whether it waits for the launch before it, before it touches global memory.
        steps: K-steps of a product in one pass through it; 0 if unknown.
        uses: operations that launch it.
        digest: of its source, its settings and the reader, all that these numbers depend on besides the compilers.
    """

    key: str
    kernel: str
    chip: str
    precision: str
    family: str
    tile: str
    threads: int
    bytes: int
    registers: int
    stack: int
    spills: int
    shared: int
    limit: int
    loop: dict[str, int]
    whole: dict[str, int]
    matrix: tuple[str, ...]
    fused: int
    waits: bool = False
    from_registers: int = 0
    steps: float = 0.0
    uses: list[str] = field(default_factory=list)
    digest: str = ""

    @property
    def body(self) -> dict[str, int]:
        """The main loop, or everything where there is none."""
        return self.loop or self.whole

    def line(self) -> dict[str, Any]:
        """What is kept in the table file."""
        kept = asdict(self)
        del kept["key"], kept["limit"]
        return kept


class Rule(NamedTuple):
    """``broken`` says what is wrong with a kernel, "" if nothing; it is asked where ``applies``."""

    name: str
    meaning: str
    applies: Callable[[Measured], bool]
    broken: Callable[[Measured], str]


def matrix_unit(chip: str) -> str:
    """The matrix instruction of a chip: wgmma, tcgen05 or mma.sync."""
    return {"sm_90": "HGMMA", "sm_100": "UTC*MMA", "sm_103": "UTC*MMA"}.get(chip, "HMMA")


def _product(m: Measured) -> bool:
    return m.family == "product"


def _matrix(m: Measured) -> str:
    if any(fnmatchcase(name, matrix_unit(m.chip)) for name in m.matrix):
        return ""
    return f"main loop without {matrix_unit(m.chip)}" + (f" (it has {', '.join(m.matrix)})" if m.matrix else "")


def _strict(m: Measured) -> str:
    if m.whole.get("matrix"):
        return f"{m.whole['matrix']} matrix instructions round their operands"
    return "" if m.fused else "main loop without FFMA"


def _copies(m: Measured) -> str:
    if m.chip == "sm_75":
        return "" if m.body.get("LDG.128") else "main loop without 16-byte loads"
    return "" if m.body.get("UTMALDG") or m.body.get("LDGSTS.128") else "main loop without 16-byte asynchronous copies or TMA"


def _narrow(m: Measured) -> str:
    found = [f"{n} {kind}" for kind, n in m.loop.items() if kind.startswith(("LDG.", "LDGSTS.")) and kind not in ("LDGSTS.128", "LDG.128")]
    return f"main loop loads less than 16 bytes: {', '.join(found)}" if found else ""


def _registers(m: Measured) -> int:
    """Registers that a block takes: allocated 8 a thread at a time."""
    return -(-m.registers // 8) * 8 * m.threads


RULES = (
    Rule(
        "spills", "no registers spilled, no local memory", lambda m: True,
        lambda m: f"{m.stack} bytes of stack, {m.spills} local loads and stores" if m.stack or m.spills else "",
    ),
    Rule(
        "shared", "shared memory of a block within the chip's limit", lambda m: True,
        lambda m: f"{m.shared} bytes of shared memory, {m.limit} there are" if m.shared > m.limit else "",
    ),
    Rule(
        "launchable", f"registers of a block within {REGISTERS}", lambda m: True,
        lambda m: f"{_registers(m)} registers a block" if _registers(m) > REGISTERS else "",
    ),
    Rule(
        "tensor cores", "bf16 and tf32 products: wgmma on sm_90, tcgen05 on sm_100 and sm_103, mma.sync elsewhere, in the main loop",
        lambda m: _product(m) and m.precision != "float32", _matrix,
    ),
    Rule(
        "shared operands", "sm_90: where descriptors load the operands, wgmma reads both from shared memory",
        lambda m: m.chip == "sm_90" and _product(m) and "UTMALDG" in m.body,
        lambda m: f"{m.from_registers} wgmma take their first operand from registers" if m.from_registers else "",
    ),
    Rule(
        "strict float32", "float32 products: fused multiply-adds in the main loop, no matrix instruction anywhere",
        lambda m: _product(m) and m.precision == "float32", _strict,
    ),
    Rule(
        "asynchronous", "products: 16-byte asynchronous copies (LDGSTS.128; before sm_80 loads) or TMA (UTMALDG) in the main loop",
        _product, _copies,
    ),
    Rule("whole words", "products: no load of less than 16 bytes from global memory in the main loop", _product, _narrow),
    Rule(
        "vectors", f"other kernels whose launches touch {LARGE // 1_000_000} MB: 16-byte loads or stores",
        lambda m: not _product(m) and m.bytes >= LARGE,
        lambda m: "" if any(kind in m.whole for kind in ("LDG.128", "STG.128", "UTMALDG", "LDGSTS.128")) else "no 16-byte access",
    ),
    Rule(
        "waits", "sm_90 and later: waits for the launch before it, which may not have ended, before it touches global memory",
        lambda m: CHIPS[m.chip].tma, lambda m: "" if m.waits else "touches memory first, or does not wait",
    ),
)  # fmt: skip


class Verdict(NamedTuple):
    """``broken``: (kernel, rule, what is wrong) that nothing excuses; ``excused``: those with their exception; ``stale``: exceptions
    that nothing needs."""

    broken: list[tuple[Measured, Rule, str]]
    excused: list[tuple[Measured, Rule, str, Exemption]]
    stale: list[Exemption]


def judge(
    kernels: Iterable[Measured], *, everything: bool = False, rules: Iterable[Rule] = RULES, exceptions: Iterable[Exemption] = EXCEPTIONS
) -> Verdict:
    """Hold every kernel against every rule. An exception is stale if no kernel needs it although its chip and precision are there;
    one for kernels of --all alone is looked at only if ``everything`` is."""
    kernels, exceptions = list(kernels), list(exceptions)
    broken, excused = [], []
    for m in kernels:
        for rule in rules:
            wrong = rule.broken(m) if rule.applies(m) else ""
            if not wrong:
                continue
            excuse = next((e for e in exceptions if e.rule == rule.name and e.covers(m.key, m.chip, m.precision)), None)
            if excuse:
                excused.append((m, rule, wrong, excuse))
            else:
                broken.append((m, rule, wrong))
    used = {e for *_, e in excused}
    pairs = {(m.chip, m.precision) for m in kernels}
    present = [e for e in exceptions if any(fnmatchcase(c, e.chip) and fnmatchcase(p, e.precision) for c, p in pairs)]
    return Verdict(broken, excused, [e for e in present if e not in used and (e.everywhere or everything)])


def allowed(old: int) -> int:
    """The most that a number may grow to unnoticed: by 10 % or by 8, whichever is more."""
    return old + max(8, old // 10)


def difference(keys: Iterable[str], table: Iterable[str]) -> list[str]:
    """A line for each kernel that only the engine (``keys``) or only the table has."""
    found, known = set(keys), set(table)
    lines = [f"{key}: not in the committed table" for key in found - known]
    return sorted(lines + [f"{key}: in the committed table, but no longer launched" for key in known - found])


def growth(kernels: Iterable[Measured], table: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each number of a kernel that is worse than in a committed table (key → `Measured.line`)."""
    lines = []
    for m in kernels:
        if (old := table.get(m.key)) is None:
            continue
        pairs = {
            "registers": (m.registers, old["registers"]),
        }
        if m.loop and old["loop"]:
            pairs["instructions in the main loop"] = (m.loop["all"], old["loop"]["all"])
        lines += [f"{m.key}: {what} grew from {was} to {now}" for what, (now, was) in pairs.items() if now > allowed(was)]
        if old["loop"] and not m.loop:
            lines.append(f"{m.key}: the main loop is gone")
        if old["matrix"] and not m.matrix:
            lines.append(f"{m.key}: matrix instructions are gone from the main loop")
    return sorted(lines)
