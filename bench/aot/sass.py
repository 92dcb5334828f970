"""Reading machine code: registers, spills, shared memory and the instruction mix of a kernel's main loop.

`cuobjdump` and `nvdisasm` come inside Triton's wheel, so no GPU and no CUDA toolkit is needed. A loop is a natural loop of the
control-flow graph: a jump back to a block that every way into the jump's own block passes (Aho, Lam, Sethi, Ullman, Compilers, 9.6).
An address range would not do: waits for a barrier are moved past the kernel's end and jump back into the loop they belong to.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P[T0-9]+)\s+)?([A-Z][A-Za-z0-9_.]*)\s*([^;]*);")
LABEL = re.compile(r"^\s*([.$\w]+):\s*$")
TARGET = re.compile(r"`\(([^)]+)\)")
USAGE = re.compile(r"Function (\S+):\s*\n\s*REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")

#: Names by what they do, the part before the first dot; read off code that Triton and NVRTC compiled for sm_80 to sm_120.
MATRIX = re.compile(r"(HMMA|HGMMA|UTC\w*MMA)$")  # mma.sync; wgmma; tcgen05
MULTIPLY = {"FFMA", "FFMA2", "FMUL", "FMUL2", "FADD", "FADD2", "DFMA", "DMUL", "DADD", "HFMA2", "HMUL2", "HADD2"}
SHARED = {"LDS", "STS", "LDSM", "STSM"}
LOCAL = {"LDL", "STL"}
GLOBAL = {"LDG", "STG", "LDGSTS", "UTMALDG", "RED", "REDG", "ATOMG"}
WAITING = {
    "BAR", "SYNCS", "WARPGROUP", "DEPBAR", "LDGDEPBAR", "FENCE", "MEMBAR", "WARPSYNC", "NANOSLEEP", "UTCBAR", "ARRIVES", "ERRBAR",
    "NOP", "BSSY", "BSYNC", "ELECT", "UTMACCTL", "CCTL",
}  # fmt: skip
CONTROL = {"BRA", "BRX", "JMP", "EXIT", "CALL", "RET", "BREAK", "BPT", "YIELD"}
#: Address arithmetic, masks and moves: what is left to the integer units when a product's loop should only multiply.
INTEGER = re.compile(
    r"U?(IMAD|IADD\w*|VIADD\w*|IABS|IMNMX|VIMNMX\w*|LEA|LOP3|PLOP3|SHF|SHL|SHR|SGXT|BMSK|ISETP|SEL|PRMT|MOV|FLO|POPC|BREV|IDP)$|"
    r"(R2UR|S2R|S2UR|CS2R|CS2UR|P2R|R2P|UP2UR|UR2UP|VOTEU?|REDUX|SHFL|LDC|LDCU|ULDC|R2B|B2R|I2I\w*|LOP|IMUL)$"
)


@dataclass(frozen=True)
class Instruction:
    """One instruction: its guard ("@!P0" or ""), full name ("LDGSTS.E.BYPASS.128") and operands as text."""

    guard: str
    name: str
    operands: str

    @property
    def base(self) -> str:
        return self.name.split(".", 1)[0]

    @property
    def bits(self) -> int:
        """Bits that a memory instruction moves for a thread: its width suffix, which is 32 where there is none."""
        widths = {"128": 128, "64": 64, "256": 256, "U16": 16, "S16": 16, "U8": 8, "S8": 8}
        return next((widths[part] for part in reversed(self.name.split(".")) if part in widths), 32)


@dataclass
class Block:
    """Instructions that are entered at the first and left at the last; numbers of the blocks that may follow."""

    instructions: list[Instruction]
    after: list[int] = field(default_factory=list)


@dataclass
class Loop:
    """A natural loop: its head, its blocks, and the instructions that are in no inner loop."""

    head: int
    blocks: frozenset[int]
    instructions: list[Instruction]


@dataclass
class Function:
    """One kernel's machine code: blocks in the order of their addresses, the entry first."""

    name: str
    blocks: list[Block]

    @property
    def instructions(self) -> list[Instruction]:
        return [i for block in self.blocks for i in block.instructions]

    @cached_property
    def loops(self) -> list[Loop]:
        """All natural loops; two jumps back to one block are one loop."""
        dominators = _dominators(self.blocks)
        before: dict[int, set[int]] = {b: set() for b in dominators}
        for b in dominators:
            for c in self.blocks[b].after:
                before[c].add(b)
        bodies: dict[int, set[int]] = {}
        for b, over in dominators.items():
            for head in set(self.blocks[b].after) & over:
                body, todo = bodies.setdefault(head, {head}), [b]
                while todo:
                    c = todo.pop()
                    if c not in body:
                        body.add(c)
                        todo.extend(before[c])
        result = []
        for head, body in sorted(bodies.items()):
            inner = {b for other, blocks in bodies.items() if other != head and other in body and blocks <= body for b in blocks}
            own = [i for b in sorted(body - inner) for i in self.blocks[b].instructions]
            result.append(Loop(head, frozenset(body), own))
        return result

    def main_loop(self) -> list[Instruction] | None:
        """The instructions of one pass through the hot loop, or None where there is none (straight-line code).

        With matrix instructions, the loop with most of them. Without, the loop with most float32 multiply-adds if more than half of the
        kernel's lie in it, else the one with most global memory accesses.
        """
        everything = self.instructions
        if any(MATRIX.match(i.base) for i in everything):
            return _most(self.loops, lambda i: bool(MATRIX.match(i.base)))
        fused = [i for i in everything if i.base.startswith("FFMA")]
        hot = _most(self.loops, lambda i: i.base.startswith("FFMA"))
        if hot and 2 * sum(i.base.startswith("FFMA") for i in hot) > len(fused):
            return hot
        return _most(self.loops, lambda i: i.base in GLOBAL)


def _most(loops: list[Loop], wanted: Callable[[Instruction], bool]) -> list[Instruction] | None:
    """The loop with most instructions that are ``wanted``; the longer one if equal."""
    counted = [(sum(map(wanted, loop.instructions)), len(loop.instructions), loop) for loop in loops]
    best = max(counted, key=lambda c: c[:2], default=None)
    return best[2].instructions if best and best[0] else None


def _dominators(blocks: list[Block]) -> dict[int, set[int]]:
    """For every block that can be reached, the blocks that every way to it passes, itself included."""
    order: list[int] = []
    seen, todo = {0}, [(0, iter(blocks[0].after))] if blocks else []
    while todo:
        b, rest = todo[-1]
        for c in rest:
            if c not in seen:
                seen.add(c)
                todo.append((c, iter(blocks[c].after)))
                break
        else:
            order.append(b)
            todo.pop()
    order.reverse()
    before: dict[int, list[int]] = {b: [] for b in order}
    for b in order:
        for c in blocks[b].after:
            before[c].append(b)
    result = {b: set(order) for b in order}
    result[0] = {0}
    changed = True
    while changed:
        changed = False
        for b in order[1:]:
            new = set.intersection(*(result[c] for c in before[b])) | {b}
            if new != result[b]:
                result[b], changed = new, True
    return result


def parse(text: str) -> dict[str, Function]:
    """The functions in the output of ``nvdisasm -c -ndf``, by name."""
    result: dict[str, Function] = {}
    for section in re.split(r"^\.text\.", text, flags=re.MULTILINE)[1:]:
        name, _, body = section.partition(":")
        result[name] = _function(name, body)
    return result


def _function(name: str, body: str) -> Function:
    """One section of code, divided into blocks."""
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in body.splitlines():
        if found := LINE.search(line):
            code.append(Instruction(found[2] or "", found[3], found[4].strip()))
        elif found := LABEL.match(line):
            labels[found[1]] = len(code)
    jumps = {k: _targets(code, k, labels) for k in range(len(code)) if code[k].base in CONTROL | {"BSYNC"}}
    starts = sorted({0, *(k + 1 for k in jumps), *(t for targets in jumps.values() for t in targets)} - {len(code)})
    number = {start: b for b, start in enumerate(starts)}
    blocks = []
    for start, end in zip(starts, [*starts[1:], len(code)], strict=True):
        after = jumps.get(end - 1, [end])
        blocks.append(Block(code[start:end], sorted({number[t] for t in after if t in number})))
    return Function(name, blocks)


def _targets(code: list[Instruction], k: int, labels: dict[str, int]) -> list[int]:
    """Where execution may continue after instruction ``k``, which may jump."""
    i = code[k]
    label = TARGET.search(i.operands)
    to = [labels[label[1]]] if label and label[1] in labels else []
    if i.base == "BSYNC":  # joins at the address that its BSSY named
        register = i.operands.split()[-1]
        for earlier in reversed(code[:k]):
            if earlier.base == "BSSY" and re.search(rf"\b{re.escape(register)}\b", earlier.operands):
                found = TARGET.search(earlier.operands)
                return sorted({k + 1, *([labels[found[1]]] if found and found[1] in labels else [])})
        return [k + 1]
    if i.base in ("CALL", "BPT", "YIELD"):
        return [k + 1]
    guarded = i.guard not in ("", "@PT", "@UPT") or "," in i.operands  # "@P0 BRA x", "BRA.U UP0, x", "BRA.DIV UR4, x"
    ends = i.base in ("EXIT", "RET", "BRX", "JMP", "BRA") and not guarded
    return to if ends else sorted({k + 1, *to})


def mix(instructions: Iterable[Instruction]) -> dict[str, int]:
    """How many instructions of each kind; memory accesses with their width in bits ("LDGSTS.128"). Kinds that do not occur are left out.

    "matrix", "LDGSTS.n", "UTMALDG", "LDG.n", "STG.n", "LDS", "STS", "LDSM", "STSM", "LDL", "STL", "float", "integer", "wait", "jump",
    "other", and their sum "all".
    """
    counts: Counter[str] = Counter()
    for i in instructions:
        counts["all"] += 1
        counts[_kind(i)] += 1
    return dict(sorted(counts.items()))


def _kind(i: Instruction) -> str:
    base = i.base
    if MATRIX.match(base):
        return "matrix"
    if base in ("LDGSTS", "LDG", "STG"):
        return f"{base}.{i.bits}"
    if base in SHARED | LOCAL | {"UTMALDG"}:
        return base
    for kind, names in (("float", MULTIPLY), ("wait", WAITING), ("jump", CONTROL)):
        if base in names:
            return kind
    return "integer" if INTEGER.match(base) else "other"


def waits_first(function: Function) -> bool:
    """Whether every way passes ``griddepcontrol.wait`` (ACQBULK), unconditionally, before anything that may touch memory which others see,
    a call, and its end: the launch behind waits for this one alone."""
    seen = todo = {0}
    while todo:
        after: set[int] = set()
        for block in (function.blocks[number] for number in todo):
            first = next((i for i in block.instructions if not _harmless(i)), None)
            if first is None and block.after:
                after |= set(block.after)
            elif first is None or first.base != "ACQBULK" or first.guard not in ("", "@PT"):
                return False
        todo, seen = after - seen, seen | after
    return True


def _harmless(i: Instruction) -> bool:
    """Whether its name is known, it touches no memory but a block's own (sm_100 takes tensor memory first), and stays in the kernel."""
    own = {"BRA", "PREEXIT", "ATOMS", "UTCATOMSWS", "UVIRTCOUNT"}  # PREEXIT lets the next launch begin
    return i.base in own | MULTIPLY | SHARED | LOCAL | (WAITING - {"CCTL"}) or bool(INTEGER.match(i.base))


@dataclass(frozen=True)
class Resources:
    """What a kernel needs: registers a thread, bytes of stack and local memory a thread, bytes of static shared memory a block."""

    registers: int
    stack: int
    shared: int
    local: int


def resources(text: str) -> dict[str, Resources]:
    """The kernels in the output of ``cuobjdump --dump-resource-usage``, by name."""
    return {m[1]: Resources(*(int(v) for v in m.groups()[1:])) for m in USAGE.finditer(text)}


def tool(name: str) -> Path:
    """`nvdisasm` or `cuobjdump` of the installed Triton."""
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name


def read(cubin: bytes) -> tuple[dict[str, Function], dict[str, Resources]]:
    """The functions of a cubin and what they need, by name.

    Raises:
        RuntimeError: a tool that refuses the file; its own words.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        texts = []
        for name, *options in (("nvdisasm", "-c", "-ndf"), ("cuobjdump", "--dump-resource-usage")):
            done = subprocess.run([str(tool(name)), *options, str(path)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{name}: {done.stderr.strip() or done.stdout.strip()}")
            texts.append(done.stdout)
    return parse(texts[0]), resources(texts[1])
