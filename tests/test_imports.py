"""The three floors: imports go only downward, and nothing of the plain install needs PyTorch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "kernels": {"models", "vaegan_kernels", "bench", "tests"},
    "models": {"vaegan_kernels", "bench", "tests"},
    "vaegan_kernels": {"bench", "tests"},
}
FRAMEWORKS = {"torch", "torchvision", "jax", "tensorflow", "keras", "autograd"}
#: What writes and reads PyTorch's files, when asked to, and the module that goes with them; nothing that trains imports these.
MAY = {"vaegan_kernels/export.py", "vaegan_kernels/portable/import_model.py", "vaegan_kernels/portable/vaegan_torch.py"}


def imported(path):
    """(top-level module, line) of every import anywhere in a file, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0], node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module", "__import__",
        ):  # fmt: skip
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from ((name.split(".")[0], node.lineno) for name in names)


@pytest.mark.parametrize("floor", FORBIDDEN)
def test_imports_go_downward(floor):
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files, f"{floor} has no Python file"
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in files
        for name, line in imported(path)
        if name in FORBIDDEN[floor] | FRAMEWORKS and not (name == "torch" and str(path.relative_to(ROOT)) in MAY)
    ]
    assert not wrong, "\n".join(wrong)


def test_frameworks_only_in_tests_and_bench():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] not in ("tests", "bench") and not any(p.startswith(".") for p in path.parts)
        for name, line in imported(path)
        if name in FRAMEWORKS and not (name == "torch" and str(path.relative_to(ROOT)) in MAY)
    ]
    assert not wrong, "\n".join(wrong)


def test_export_and_import_load_pytorch_only_when_it_is_asked_for():
    loaded = run("import sys, vaegan_kernels.export, vaegan_kernels.portable.import_model, vaegan_kernels.train; print(*sys.modules)")
    assert not {"torch", "onnx", "safetensors"} & {m.split(".")[0] for m in loaded}


def test_files_stay_short():
    """A file fits a reader's head: 300 lines at the most."""
    folders = ("kernels", "models", "vaegan_kernels", "tests", "bench")
    lengths = {p: len(p.read_text(encoding="utf-8").splitlines()) for f in folders for p in (ROOT / f).rglob("*.py")}
    assert not {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > 300}


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_kernels_alone_load_nothing_above_them():
    loaded = run("import sys, kernels; kernels.engine('cpu'); print(*sys.modules)")
    assert not {"torch", "models", "vaegan_kernels", "PIL", "h5py", "matplotlib"} & {m.split(".")[0] for m in loaded}


TRAIN = """
import sys, numpy as np, kernels
from models.networks import network
from models.objective import Objective
from models.vaegan import VAEGAN
eng = kernels.engine("cpu")
model = VAEGAN(eng, network("small32"), seed=0)
rng = np.random.default_rng(0)
x = eng.asarray(rng.uniform(-1, 1, (4, 32, 32, 3)))
eps, z_p = (eng.asarray(rng.standard_normal((4, 128))) for _ in range(2))
model.train_step(x, eps, z_p, Objective(), 3e-4)
losses = model.fetch_losses()
assert all(np.isfinite(v) for v in losses.values()), losses
import vaegan_kernels
print(*sys.modules)
"""


def test_a_training_step_loads_no_framework():
    loaded = {m.split(".")[0] for m in run(TRAIN)}
    assert "vaegan_kernels" in loaded
    assert not {"torch", "triton", "cupy", "matplotlib"} & loaded
