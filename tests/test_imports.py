"""The three floors: imports go only downward, and nothing of the plain install needs PyTorch."""

from __future__ import annotations

import ast
import os
import re
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


def modules():
    """{module: its file} of every Python file of the floors and of bench."""
    found = {}
    for path in (p for top in (*FORBIDDEN, "bench") for p in sorted((ROOT / top).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def uses(name, text, known):
    """The modules of ``known`` that the text of module ``name`` imports, anywhere: inside functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside & known.keys() or {node.module}
            found |= {node.module} if inside - known.keys() else set()
    return found & known.keys() - {name}


def circle(arrows):
    """Some modules that import each other in a loop, in order, or None."""
    done, path = set(), []

    def walk(module):
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return None
        path.append(module)
        for other in sorted(arrows[module]):
            if found := walk(other):
                return found
        path.pop()
        done.add(module)
        return None

    return next((found for module in sorted(arrows) if (found := walk(module))), None)


def test_no_circle_of_files():
    known = modules()
    assert len(known) > 150
    arrows = {name: uses(name, path.read_text(encoding="utf-8"), known) for name, path in known.items()}
    found = circle(arrows)
    assert not found, " -> ".join([*found, found[0]])


def test_a_circle_is_found():
    """Through a function, through TYPE_CHECKING, through a package's __init__."""
    known = dict.fromkeys(("a", "a.b", "a.c", "a.d"))
    texts = {
        "a": "", "a.b": "def f():\n    from a import c",
        "a.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.d import D", "a.d": "import a.b",
    }  # fmt: skip
    arrows = {name: uses(name, text, known) for name, text in texts.items()}
    assert circle(arrows) == ["a.b", "a.c", "a.d"]
    assert circle({**arrows, "a.d": set()}) is None
    texts |= {"a": "from a.b import f", "a.d": "from a import version"}
    assert circle({name: uses(name, text, known) for name, text in texts.items()}) == ["a", "a.b", "a.c", "a.d"]


def test_rooms_import_no_command():
    """Commands use the rooms beside them, never the other way round; only an experiment is made of commands."""
    known = modules()
    own = {f"vaegan_kernels{name}" for name in ("", ".files", ".hdf5", ".hdf5_probe", ".version")}  # of everyone
    commands = {name for name in known if name.count(".") == 1 and name.startswith("vaegan_kernels.")} - own
    commands -= {name for name in commands if known[name].name == "__init__.py"}
    wrong = [
        f"{name} imports {other}"
        for name, path in known.items()
        if name.startswith("vaegan_kernels.") and name.count(".") > 1 and not name.startswith("vaegan_kernels.experiments.")
        for other in uses(name, path.read_text(encoding="utf-8"), known) & commands
    ]
    assert len(commands) > 10 and not wrong, wrong


def test_every_folder_says_what_lives_there():
    for folder in sorted({path.parent for path in modules().values()}):
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        said = (ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0]
        assert said.endswith(".") and len(said.split()) >= 5, folder


def test_no_engine_is_asked_for_its_name_in_models():
    wrong = [path.name for path in (ROOT / "models").glob("*.py") if re.search(r"(engine|eng)\.name\b", path.read_text(encoding="utf-8"))]
    assert not wrong


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
