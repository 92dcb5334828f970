"""The table of compiled kernels: as a file, as markdown and on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.aot.rules import RULES, Measured, Verdict, allowed

Groups = dict[tuple[str, str], list[Measured]]


def versions() -> dict[str, str]:
    """The compilers: numbers of one kernel are compared only between equal ones."""
    import triton
    from cupy_backends.cuda.libs import nvrtc

    return {"triton": str(triton.__version__), "nvrtc": ".".join(map(str, nvrtc.getVersion()))}


def save(path: Path, command: str, kernels: Iterable[Measured]) -> None:
    """Write the table: one line a kernel, so that a change shows as that line alone."""
    head = {"command": command, "versions": versions()}
    lines = [f"  {json.dumps(m.key)}: {json.dumps(m.line())}" for m in sorted(kernels, key=lambda m: m.key)]
    text = json.dumps(head, indent=1)[:-2] + ',\n "kernels": {\n' + ",\n".join(lines) + "\n }\n}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def load(path: Path) -> dict[str, Any]:
    """A table file.

    Raises:
        ValueError: it is not there or cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(content["kernels"], dict) and isinstance(content["versions"], dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{path}: no table of compiled kernels ({type(error).__name__}); write one with python -m bench.aot") from error
    result: dict[str, Any] = content
    return result


def same_compilers(table: dict[str, Any], now: dict[str, str]) -> tuple[set[str], str]:
    """The kinds of launch ("triton", "cuda") whose compiler is the table's, and a sentence on the others ("" if there are none)."""
    different = [name for name in ("triton", "nvrtc") if table["versions"].get(name) != now[name]]
    kinds = {kind for kind, name in (("triton", "triton"), ("cuda", "nvrtc")) if name not in different}
    said = ", ".join(f"{name} {now[name]} (the table: {table['versions'].get(name)})" for name in different)
    return kinds, f"{said}: of these kernels only the rules are checked, no growth" if different else ""


def rows_of(table: dict[str, Any], pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """The table's kernels for these (chip, precision) pairs."""
    pairs = set(pairs)
    return {key: row for key, row in table["kernels"].items() if (row["chip"], row["precision"]) in pairs}


def groups(kernels: Iterable[Measured]) -> Groups:
    """The kernels of each (chip, precision)."""
    result: Groups = {}
    for m in kernels:
        result.setdefault((m.chip, m.precision), []).append(m)
    return result


HEAD = ("chip", "precision", "kernels", "products", "spilling", "most registers", "most shared memory", "integer share of the main loops")


def overview(kernels: Iterable[Measured]) -> list[tuple[str, ...]]:
    """A row of HEAD for each (chip, precision)."""
    rows: list[tuple[str, ...]] = []
    for (chip, precision), found in groups(kernels).items():
        products = [m for m in found if m.family == "product"]
        shares = sorted(_integers(m) for m in products if m.loop)
        spilling = sum(bool(m.spills or m.stack) for m in found)
        registers, shared = max(m.registers for m in found), max(found, key=lambda m: m.shared)
        rows.append(
            (
                chip, precision, str(len(found)), str(len(products)), str(spilling), str(registers),
                f"{shared.shared / 1024:.0f} of {shared.limit / 1024:.0f} KB",
                f"{shares[0]:.0f} to {shares[-1]:.0f} %, median {shares[len(shares) // 2]:.0f} %" if shares else "",
            )
        )  # fmt: skip
    return rows


def _integers(m: Measured) -> float:
    """Percent of the main loop's instructions that are integer arithmetic, addresses and moves."""
    return 100 * m.loop.get("integer", 0) / m.loop["all"]


def print_overview(console: Any, kernels: Iterable[Measured]) -> None:
    """The overview on a terminal."""
    from rich.table import Table

    table = Table(*HEAD)
    for row in overview(kernels):
        table.add_row(*row)
    console.print(table)


PRODUCT = (
    "launched by",
    "kernel and tile",
    "registers",
    "shared",
    "main loop",
    "matrix",
    "copies",
    "LDS LDSM STS",
    "integer",
    "multiply-adds",
)
OTHER = ("kernel", "registers", "shared", "instructions", "16-byte loads", "16-byte stores", "narrower")


def markdown(kernels: Sequence[Measured], verdict: Verdict, command: str) -> str:
    """The whole table for readers: overview, rules, exceptions, then the kernels of each chip and precision."""
    lines = [
        "# Compiled kernels", "",
        f"`{command}`, {', '.join(f'{name} {v}' for name, v in versions().items())}. Compiled ahead of time and read off the machine code, "
        "**not run on a GPU**. The main loop is the one with the matrix instructions (float32: with the multiply-adds); its numbers are "
        "instructions of one pass, and of one step through K. \"integer\" are address arithmetic, masks and moves.", "",
        *_table(HEAD, overview(kernels)), "", "## Rules", "",
        *(f"- **{rule.name}**: {rule.meaning}" for rule in RULES),
        f"- **no growth**: registers and main-loop instructions at most 10 % or 8 above this table (100 may become {allowed(100)})",
        "", "## Exceptions", "",
    ]  # fmt: skip
    told: dict[Any, list[str]] = {}
    for m, _, wrong, excuse in verdict.excused:
        told.setdefault(excuse, []).append(f"`{m.key}`: {wrong}")
    for excuse, broken in told.items():
        lines += [f"- **{excuse.rule}**, `{excuse.kernel}` on {excuse.chip} in {excuse.precision}: {excuse.reason}"]
        lines += [f"  - {line}" for line in broken]
    lines += [] if told else ["None."]
    if verdict.broken:
        lines += ["", "## Broken rules", "", *(f"- `{m.key}`: {rule.name}: {wrong}" for m, rule, wrong in verdict.broken)]
    for (chip, precision), found in groups(kernels).items():
        products = [m for m in found if m.family == "product"]
        others = [m for m in found if m.family != "product"]
        lines += ["", f"## {chip}, {precision}: products", "", *_table(PRODUCT, [_product(m) for m in products])]
        lines += ["", f"## {chip}, {precision}: other kernels", "", *_table(OTHER, [_other(m) for m in others])]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _product(m: Measured) -> tuple[str, ...]:
    loop = m.loop
    copies = [f"{loop[kind]} {kind}" for kind in loop if kind.startswith(("LDGSTS", "LDG.", "UTMALDG"))]
    return (
        "; ".join(m.uses), f"{m.kernel} {m.tile}", str(m.registers), str(m.shared), str(loop.get("all", "no loop")),
        f"{loop['all'] / m.steps:.0f}" if m.steps else "",
        f"{loop.get('matrix', 0)} {' '.join(m.matrix)}".strip(), ", ".join(copies),
        " ".join(str(loop.get(kind, 0)) for kind in ("LDS", "LDSM", "STS")),
        f"{loop.get('integer', 0)} ({_integers(m):.0f} %)" if loop else "", str(m.fused),
    )  # fmt: skip


def _other(m: Measured) -> tuple[str, ...]:
    whole = m.whole
    narrow = [f"{n} {kind}" for kind, n in whole.items() if kind.startswith(("LDG.", "STG.")) and not kind.endswith(".128")]
    name = m.key.split(" ", 2)[2]
    wide = (str(whole.get(kind, 0)) for kind in ("LDG.128", "STG.128"))
    return name, str(m.registers), str(m.shared), str(whole["all"]), *wide, ", ".join(narrow)
