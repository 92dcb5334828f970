"""``python -m vaegan_kernels.import FILE``: see `import_model`; "import" can be the name of a command, not of a module that is imported."""

from vaegan_kernels.portable.import_model import main
from vaegan_kernels.shell.cli import run_main

if __name__ == "__main__":
    raise SystemExit(run_main(main))
