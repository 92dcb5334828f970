"""Compiling many launches at once, in processes of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any

from kernels.cuda.device.base import Launch
from kernels.cuda.device.chips import Chip
from kernels.cuda.device.compile import Code, compile_launch, key_of
from kernels.engine import CompilationError
from kernels.processes import outcomes

#: One compilation's launches, and a result for each: its code, or why it has none.
Group = list[Launch]
Outcome = tuple[Group, "list[Code | str]"]


def compile_many(
    launches: Iterable[Launch], chip: Chip, jobs: int, progress: Callable[[int, int], None] | None = None
) -> dict[tuple[Any, ...], Code]:
    """The code of all launches by `key_of`, compiled once each in ``jobs`` processes.

    This process compiles what those do not: all with one job, or where none can be started; what is left where they were killed for
    memory. They do not interpret, even where this one does. ``progress`` is told (done, of), (0, of) at once.

    Raises:
        CompilationError: what did not compile, by name, the first five.
    """
    wanted = {key_of(launch): launch for launch in launches}
    groups: dict[Any, Group] = {}
    for key, launch in wanted.items():  # a file's functions are one compilation
        groups.setdefault((launch.source, launch.defines) if launch.kind == "cuda" else key, []).append(launch)
    slow_first = deque(sorted(groups.values(), key=lambda group: -group[0].cost.flops))
    show = progress or (lambda done, of: None)
    show(0, len(wanted))
    found: dict[tuple[Any, ...], Code | str] = {}
    with contextlib.closing(_outcomes(slow_first, chip, jobs)) as compiled:
        for group, codes in compiled:
            found |= zip(map(key_of, group), codes, strict=True)
            show(len(found), len(wanted))
    errors = [code for code in found.values() if isinstance(code, str)]
    if errors:
        text = f"{len(errors)} of {len(found)} kernels do not compile for {chip.name}: {' | '.join(errors[:5])}"
        raise CompilationError(text)
    return {key: code for key, code in found.items() if isinstance(code, Code)}


def _outcomes(waiting: deque[Group], chip: Chip, jobs: int) -> Generator[Outcome, None, None]:
    def sent(group: Group) -> tuple[Group, Chip]:
        return [_portable(launch) for launch in group], chip

    if jobs > 1:
        yield from outcomes(_compile, waiting, jobs, sent=sent, without="TRITON_INTERPRET")
    while waiting:
        group = waiting.popleft()
        yield group, _compile((group, chip))


def _portable(launch: Launch) -> Launch:
    """A launch that can be sent to another process: a Triton function becomes the name of its module and its own."""
    return launch if launch.kind == "cuda" else dataclasses.replace(launch, source=(launch.source.fn.__module__, launch.source.fn.__name__))


def _compile(given: tuple[Group, Chip]) -> list[Code | str]:
    launches, chip = given
    codes: list[Code | str] = []
    for launch in launches:
        try:
            if isinstance(launch.source, tuple):
                module, name = launch.source
                launch = dataclasses.replace(launch, source=getattr(importlib.import_module(module), name))
            codes.append(compile_launch(launch, chip))
        except Exception as error:
            codes.append(_line(str(error)))
    return codes


def _line(text: str) -> str:
    """An error as one short line: its begin says which kernel, its end what is wrong."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:100]} ... {text[-195:]}"
