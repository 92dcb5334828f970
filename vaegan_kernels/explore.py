"""``python -m vaegan_kernels.explore RUN``: look into a trained model, or follow one in training, in a browser."""

from __future__ import annotations

import errno
import os
import sys
import warnings
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vaegan_kernels.shell.cli import CHECKPOINT, Parser, add_place, add_weights, place_of, run_main, tell, whole_number
from vaegan_kernels.shell.errors import UserError

if TYPE_CHECKING:
    from vaegan_kernels.explorer.routes import Routes
    from vaegan_kernels.explorer.server import Server

DESCRIPTION = """Look into trained models in a browser: samples, attributes, photos, walks, a map of the data; curves and grids of a run
that is still training. The page is served by this machine to this machine alone; nothing is sent anywhere, nothing is written."""

EPILOG = """examples:
  python -m vaegan_kernels.explore faces                                      the model that comes with the program
  python -m vaegan_kernels.explore runs/one runs/two                          side by side, with the same z or photo in each
  ssh -L 8765:localhost:8765 there, and there: python -m vaegan_kernels.explore runs/my-run --no-browser         from afar"""

PORT = 8765
MOST = 6  # runs


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m vaegan_kernels.explore", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("runs", nargs="+", metavar="RUN", help=f"{CHECKPOINT}; up to {MOST} of them")
    parser.add_argument("--data", metavar="PATH", help="images for the map (default: those that the run was trained on)")
    parser.add_argument("--port", type=whole_number, metavar="N", help=f"of the page's address (default: {PORT}, or a free one)")
    text = "this machine's name or address, for others to open the page; they must know the address that is printed (default: 127.0.0.1)"
    parser.add_argument("--host", default="127.0.0.1", metavar="NAME", help=text)
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    add_weights(parser, "those that the attribute vectors were made with; else the average, where there is one")
    add_place(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    if len(arguments.runs) > MOST:
        raise UserError(f"got {len(arguments.runs)} runs, expected at most {MOST}")
    if arguments.port is not None and not 0 <= arguments.port < 65536:
        raise UserError(f"--port: got {arguments.port}, expected 1 to 65535, or 0 for any that is free")
    if arguments.host in ("", "0.0.0.0", "::", "*") or any(mark in arguments.host for mark in "/[]@ ") or arguments.host.count(":") == 1:
        raise UserError(f"--host: got {arguments.host!r}, expected the one name or address that the page is to be opened by")

    from vaegan_kernels.data import check_source
    from vaegan_kernels.explorer.about import names_of
    from vaegan_kernels.explorer.routes import Routes
    from vaegan_kernels.explorer.shown import Shown
    from vaegan_kernels.explorer.worker import Worker

    warnings.filterwarnings("ignore", module="PIL")  # of photos: the terminal is the user's
    worker = Worker()
    runs = [Shown(run, worker, data=arguments.data, weights=arguments.weights, place=place_of(arguments)) for run in arguments.runs]
    for run, name in zip(runs, names_of(arguments.runs), strict=True):
        run.name = name
        try:
            worker.call(run.load, None)
        except UserError:
            if run.training is None:
                raise
            run.follow()
            tell(f"{run.path}: {run.problem}; the page follows its training")
        if arguments.data is not None and run.model is not None:
            size, _, channels = run.model.image_shape
            check_source(arguments.data, image_size=size, channels=channels)
    with listening(Routes(runs, worker), arguments.host, arguments.port) as server:
        if not server.local:
            tell(f"warning: --host {arguments.host}: whoever learns the address below can use the page, and it is not encrypted")
        print(f"{' and '.join(arguments.runs)}: {server.url}   (Ctrl-C ends it)", flush=True)
        if not arguments.no_browser and has_display():
            webbrowser.open(server.url)
        server.serve_forever()
    return 0


def has_display() -> bool:
    """Whether a browser would open in a window, and not in this terminal."""
    return sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def listening(routes: Routes, host: str, port: int | None) -> Server:
    """The server on ``port``; for None on the usual one or, where that is taken, on any. Raises `UserError`."""
    from vaegan_kernels.explorer.server import Server

    try:
        return Server(routes, host, PORT if port is None else port)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return listening(routes, host, 0)
        where = f"--port {port}" if error.errno in (errno.EADDRINUSE, errno.EACCES) else f"--host {host}"
        raise UserError(f"{where}: cannot listen there ({error.strerror or error}); choose another") from None


if __name__ == "__main__":
    sys.exit(run_main(main))
