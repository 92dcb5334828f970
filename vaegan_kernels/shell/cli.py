"""What every command shares: a parser that answers in one line, and the one place where errors become exit codes."""

from __future__ import annotations

import argparse
import difflib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NoReturn

from kernels import CompilationError, OutOfMemory
from kernels.ranks.mpi import launched, left_over, rank_of_launch
from vaegan_kernels.files import human_size
from vaegan_kernels.shell import interrupt
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.interrupt import EXIT_INTERRUPTED

EXIT_USER_ERROR = 2
EXIT_TERMINATED = 143  # 128 + SIGTERM
CHECKPOINT = "a run folder or a checkpoint.h5, or faces: the model that comes with the program"  # help of what `checkpoint.find` takes
MODULES = "python -m vaegan_kernels."

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the examples of the epilog as written; a wide column for the flags."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=118)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, ``error: ...``, on stderr, exit code 2, with no usage dump.

    ``front``: set by `vaegan_kernels.__main__`: what is called ``python -m vaegan_kernels.train`` is then called ``<front> train``.
    """

    front: ClassVar[str | None] = None

    def __init__(self, prog: str, *, several: bool = False, **kwargs: Any) -> None:
        """``several``: the command shares its work among the processes of a job (`vaegan_kernels.shell.job`)."""
        self.several = several
        if self.front is not None and prog.startswith(MODULES):
            prog = f"{self.front} {prog.removeprefix(MODULES).replace('.', ' ')}"
        kwargs.setdefault("formatter_class", HelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(prog, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        if not self.several and (count := launched()) > 1:
            if rank_of_launch() == 0:
                why = f"{count} processes were started ({left_over()} says so), and only train shares its work among them"
                fail(f"{self.prog}: {why}; leave mpiexec or srun out, or unset that variable")
            raise SystemExit(EXIT_USER_ERROR)
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            flag = unknown.split()[0].split("=")[0]
            near = close_match(flag, self._option_string_actions)
            message = f"unknown argument {flag}{near or ' (--help lists them all)'}"
        elif message.startswith("the following arguments are required: "):
            message = message.replace("the following arguments are required: ", "missing argument: ") + " (see --help)"
        else:
            message = message.removeprefix("argument ")
        fail(message)
        raise SystemExit(EXIT_USER_ERROR)


def whole_number(text: str) -> int:
    """argparse type: an integer."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number") from None


def real_number(text: str) -> float:
    """argparse type: a float. NaN and infinities pass here; the range check that follows names the flag and the range."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number") from None


def add_place(parser: Any, device: str | None = "cpu", *, said: str | None = None) -> None:
    """Add --device, --engine and --threads, as `place_of` reads them. ``said``: the default of --device in words, where it is None."""
    parser.add_argument("--device", default=device, metavar="{auto,cpu,cuda}", help=f"where to compute (default: {device or said})")
    text = "of the CPU: compiled C++ (float32), NumPy, or the first where there is a compiler (default: auto)"
    parser.add_argument("--engine", default=device and "auto", metavar="{auto,native,numpy}", help=text)
    parser.add_argument("--threads", type=whole_number, metavar="N", help="CPU threads (default: all cores)")


def place_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `load_model` takes of a command's flags: device, engine and threads, and who says that kernels are compiled: stderr, for
    stdout has the result; nobody with --quiet."""
    say = None if getattr(arguments, "quiet", False) else tell
    return {"device": arguments.device or "auto", "engine": arguments.engine or "auto", "threads": arguments.threads, "say": say}


def add_weights(parser: Any, default: str = "average, where there is one") -> None:
    """Add --weights, as `load_model` takes it."""
    text = f"the moving average that a run with --average keeps, or the weights of its last step (default: {default})"
    parser.add_argument("--weights", metavar="{average,raw}", help=text)


def tell(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def close_match(value: str, choices: Iterable[str]) -> str:
    """``"; did you mean X?"`` where one of ``choices`` is near ``value``, else an empty string."""
    near = difflib.get_close_matches(value, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def check_choice(flag: str, value: Any, choices: Iterable[str]) -> None:
    """Raise `UserError` with the choices and a close match if ``value`` is none of them."""
    choices = tuple(choices)
    if value not in choices:
        raise UserError(f"{flag}: got {value!r}, expected one of {', '.join(choices)}{close_match(str(value), choices)}")


def fail(message: str) -> None:
    """Print ``error: message`` as one line on stderr."""
    line = " ".join(str(message).split())
    try:
        sys.stdout.flush()
        print(f"error: {line}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody is listening; the exit code still tells


def disk_full(error: OSError) -> bool:
    """True where the operating system said that there is no more room for the file."""
    return error.errno in _DISK_FULL


def describe_os_error(error: OSError) -> str:
    """One line for an operating-system error: what, which file, what to do where that is known."""
    where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if disk_full(error):
        return f"the disk is full{where}: {error.strerror or error}; free some space, or write elsewhere (--out)"
    if isinstance(error, PermissionError):
        return f"permission denied{where}: choose a place that you may read or write"
    return f"{error.strerror or error}{where}"


def describe_out_of_memory(error: OutOfMemory, advice: str, *, what: str = "") -> str:
    """One line for a GPU that is full: for what, how much was needed, how much is free, what to do."""
    need, free = human_size(error.needed), human_size(error.free)
    return f"--device cuda: out of GPU memory: {what or 'an array'} needs {need}, {free} are free; {advice}"


def run_main(main: Callable[[], int | None]) -> int:
    """Run a program's ``main()`` and turn every foreseeable failure into one line on stderr.

    Returns: the exit code: 0 (or what ``main`` returns), 2 for an error, 130 for Ctrl-C. Use as
    ``if __name__ == "__main__": raise SystemExit(run_main(main))``.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started this; the next file that is opened must not take its number
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open to the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file on Windows has no Greek letters
            stream.reconfigure(errors="replace")
    with interrupt.Interruptible() as work:
        try:
            code, problem = _answer(main)
        except KeyboardInterrupt:
            work.hit = True
        except Exception:
            if not work.hit:
                raise
        if work.hit:  # whatever failed after a Ctrl-C failed because of it
            interrupt.tell()
            return EXIT_INTERRUPTED
        if problem:
            fail(problem)
        return code


def _answer(main: Callable[[], int | None]) -> tuple[int, str]:
    """The exit code, and what is told to the user: "" where nothing failed."""
    try:
        code = main() or 0
        sys.stdout.flush()
        return code, ""
    except BrokenPipeError:
        # The reader went away (`... | head`). Point stdout at nothing so that the interpreter's own flush stays silent.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1, ""
    except Exception as error:
        problem = described(error)
        if problem is None:
            raise
    return EXIT_USER_ERROR, problem


def described(error: BaseException) -> str | None:
    """What is told to the user of a failure that can be foreseen; None of any other."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OutOfMemory):
        return describe_out_of_memory(error, "use a GPU with more room, or --device cpu")
    if isinstance(error, CompilationError):
        return f"--device cuda: {error}; please report this with the versions in device.json; --device cpu works without"
    if isinstance(error, MemoryError):
        return f"out of memory{f' ({error})' if str(error) else ''}: use a smaller --batch-size, --network or --limit"
    if isinstance(error, OSError):
        return describe_os_error(error)
    return None
