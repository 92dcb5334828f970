"""``python -m vaegan_kernels.import FILE``: see `import_model`; "import" can be the name of a command, not of a module that is imported."""

from vaegan_kernels.cli import run_main
from vaegan_kernels.import_model import main

if __name__ == "__main__":
    raise SystemExit(run_main(main))
