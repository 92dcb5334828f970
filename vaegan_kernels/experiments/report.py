"""``python -m vaegan_kernels.experiments.report OUT --page docs/paper.md``: the tables of the experiments in OUT, put into a page.

Every experiment keeps its tables, in Markdown, in its JSON file under ``tables``: {name: text}. A page has room for a table between
``<!-- table: NAME -->`` and ``<!-- /table -->``; what stands between is replaced, everything else is left as it is. ``NAME-source`` is the
line that says where a table's numbers come from.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaegan_kernels.experiments.results import read_json
from vaegan_kernels.experiments.tables import insert, markers, number
from vaegan_kernels.files import quoted, write_atomically
from vaegan_kernels.shell.cli import Parser, run_main
from vaegan_kernels.shell.errors import UserError

EPILOG = """example:
  python -m vaegan_kernels.experiments.report results/ --page docs/paper.md"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.report", epilog=EPILOG,
        description="Print the tables of an experiment's folder, or put them into a page.",
    )  # fmt: skip
    parser.add_argument("folder", metavar="OUT", nargs="+", help="folders of experiments; of tables with one name the last one's counts")
    parser.add_argument("--page", metavar="FILE", help="a Markdown page with places for tables (default: print them)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    tables: dict[str, str] = {}
    for folder in arguments.folder:
        tables |= collect(Path(folder))
    if arguments.page is None:
        for name, text in tables.items():
            print(f"{name}\n{text}\n")
        return 0
    page = Path(arguments.page)
    text = read_page(page)
    places = markers(text)
    renewed = insert(text, tables).encode()
    write_atomically(page, lambda file: file.write(renewed))
    put = [name for name in places if name in tables]
    missing = [name for name in places if name not in tables]
    print(f"{page}: {', '.join(put) or 'no table'} renewed" + (f"; no results for {', '.join(missing)}" if missing else ""))
    return 0


def collect(folder: Path) -> dict[str, str]:
    """The tables of every ``<name>.json`` in ``folder``, and of each a line with its source. Raises `UserError` if there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected the --out of an experiment")
    tables: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        results = read_json(path)
        if isinstance(results, dict) and isinstance(results.get("tables"), dict):
            own = {name: text for name, text in results["tables"].items() if isinstance(text, str)}
            tables |= own | {f"{name}-source": source(results) for name in own}
    if not tables:
        raise UserError(f"{folder}: no results with tables there; run an experiment with --out {quoted(folder)} first")
    return tables


def source(results: Mapping[str, Any]) -> str:
    """One line: data, steps, device, time, command and date of an experiment's results."""
    parts = []
    data = results.get("data")
    if isinstance(data, dict):
        parts.append(f"{data.get('name')} ({data.get('train'):,} training, {data.get('test'):,} test images)")
    runs = list((results.get("runs") or {}).values())
    for texts in (
        [run.get("network") for run in runs],
        [f"{run['steps']:,} steps of {run.get('batch_size')}" for run in runs],
        [device(run) for run in runs],
    ):
        parts.append(", ".join(dict.fromkeys(str(text) for text in texts if text)))
    if runs:
        minutes = number(sum(run.get("seconds") or 0 for run in runs) / 60)
        parts.append(f"{minutes} minutes of training in {len(runs)} run{'s' if len(runs) > 1 else ''}")
    parts.append(str(results.get("date", ""))[:10])
    command = shorten(str(results.get("command", "")))
    return f"*{'; '.join(part for part in parts if part)}:* `{command}`"


def device(run: Mapping[str, Any]) -> str:
    """``"cpu, 1 thread"``, or a GPU's name."""
    threads = run.get("threads")
    return str(run.get("device")) + (f", {threads} thread{'s' if threads > 1 else ''}" if threads else "")


def shorten(command: str) -> str:
    """A command with the last part of every path in it: where it lay on the machine says nothing."""
    return " ".join(Path(word).name if word.startswith(("/", "~", "..")) else word for word in shlex.split(command))


def read_page(page: Path) -> str:
    """The text of the page. Raises `UserError`."""
    try:
        return page.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"--page: {page} cannot be read ({error.strerror})") from None


if __name__ == "__main__":
    sys.exit(run_main(main))
