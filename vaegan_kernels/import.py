"""``python -m vaegan_kernels.import FILE``: see `import_model`; "import" can be the name of a command, not of a module that is imported."""

from vaegan_kernels.portable.import_model import main, make_parser
from vaegan_kernels.shell.cli import run_main

__all__ = ["main", "make_parser"]

if __name__ == "__main__":
    raise SystemExit(run_main(main))
