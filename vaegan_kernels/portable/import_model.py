"""``python -m vaegan_kernels.import FILE``: a state_dict that `export` wrote, changed elsewhere or not, back into a run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.files import quoted, write_atomically
from vaegan_kernels.portable import layout
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.checkpoint import Header
from vaegan_kernels.runs.run_folder import RunFolder, check_new
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.cli import Parser
from vaegan_kernels.shell.errors import UserError

EPILOG = """examples:
  python -m vaegan_kernels.import exported/vaegan.pt --out runs/back
  python -m vaegan_kernels.import tuned.safetensors --out runs/tuned
  python -m vaegan_kernels.import tuned.pt --description exported/vaegan.json --out runs/tuned
FILE is read as numbers only; nothing in it is executed. The run has no state of the optimiser: sample, reconstruct, interpolate, edit,
evaluate and export work as with any other, and train --resume continues with the optimiser's state at zero. The average of a run with
--average starts at the weights in FILE."""


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    """(the tensors of a .pt or .safetensors file, float32 where they are narrower; its own description, JSON). Raises `UserError`."""
    if not path.is_file():
        raise UserError(f"no such file: {path}; expected a vaegan.pt or vaegan.safetensors that export wrote")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in (".pt", ".pth", ".bin"):
        return _read_torch(path), None
    raise UserError(f"{path}: got a name that ends in {path.suffix or 'nothing'}, expected .pt or .safetensors")


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str | None]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UserError(f"{path}: needs the package safetensors; pip install safetensors") from None
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get("vaegan")  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no safetensors file, or a damaged one ({str(error).splitlines()[0]})") from None


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: needs PyTorch; pip install torch, or save the model as safetensors") from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # the library has no class of its own for a file that is not its; code in a pickle is refused unrun
        raise UserError(f"{path}: is no PyTorch file of tensors alone, or a damaged one; save model.state_dict()") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) and isinstance(t, torch.Tensor) for name, t in found.items()):
        raise UserError(f"{path}: is no state_dict, a dictionary of names and tensors; save model.state_dict()")
    return {name: (t.float() if t.is_floating_point() else t).numpy() for name, t in found.items()}


def read_description(text: str, source: str) -> tuple[Header, list[Any]]:
    """The header that a checkpoint of the described model has, and its examples of attributes. Raises `UserError`."""
    try:
        about = json.loads(text)
    except ValueError:
        about = None
    if not isinstance(about, Mapping) or about.get("format") != layout.FORMAT:
        raise UserError(f"{source}: is no description that export wrote (vaegan.json)")
    if about.get("format_version") != layout.FORMAT_VERSION:
        raise UserError(f"{source}: has version {about.get('format_version')}, expected {layout.FORMAT_VERSION}; export the model again")
    kinds = {"config": Mapping, "step": int, "attribute_names": list, "examples": list, "data_name": str, "data_fingerprint": str}
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            raise UserError(f"{source}: the entry {name} is missing or damaged; export the model again")
    config = Config.from_dict(about["config"], source)
    names = tuple(map(str, about["attribute_names"]))
    seconds = float(about["seconds"]) if isinstance(about.get("seconds"), int | float) else 0.0
    return Header(about["step"], config, about["data_fingerprint"], about["data_name"], names, seconds), about["examples"]


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.import",
        description="Make a run's folder of a state_dict that export wrote, changed elsewhere or not.",
        epilog=EPILOG,
    )
    parser.add_argument("file", metavar="FILE", help="a state_dict: .pt or .safetensors")
    parser.add_argument("--out", metavar="FOLDER", required=True, help="the run's folder to make, new or empty")
    parser.add_argument("--description", metavar="JSON", help="the vaegan.json of the export (default: in FILE, or beside it)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    import kernels
    from models.system import SYSTEMS
    from vaegan_kernels.runs.inference import EXAMPLES

    arguments = make_parser().parse_args(argv)
    path, folder = Path(arguments.file), RunFolder(arguments.out)
    tensors, text = read_tensors(path)
    source = str(path)
    if arguments.description or text is None:
        beside = Path(arguments.description) if arguments.description else path.with_name("vaegan.json")
        if not beside.is_file():
            raise UserError(f"{beside}: no such file; give the vaegan.json of the export with --description")
        text, source = beside.read_text(encoding="utf-8", errors="replace"), str(beside)
    header, examples = read_description(text, source)
    config, spec = header.config, header.config.network_spec()
    arrays = layout.arrays_of(tensors, spec, SYSTEMS[config.model].networks, str(path))

    engine = kernels.engine("cpu", "float32", implementation="numpy")
    model = config.system(engine)
    own = model.state_arrays().items()  # an average starts at the weights that there are
    state = {name: np.asarray(arrays.get(name.removeprefix("average/"), array)) for name, array in own}
    if config.condition:
        kept = np.asarray(examples, np.float32)
        if kept.ndim != 2 or kept.shape[1] != spec.attributes or not np.isfinite(kept).all():
            raise UserError(f"{source}: the entry examples has shape {kept.shape}, expected (up to 256, {spec.attributes}); export again")
        state[EXAMPLES] = kept
    check_new(folder.path, 2 * sum(array.nbytes for array in state.values()))
    folder.path.mkdir(parents=True, exist_ok=True)
    checkpoint.save(folder.checkpoint, state, header)
    settings = json.dumps(config.to_dict(), indent=2) + "\n"
    write_atomically(folder.config, lambda file: file.write(settings.encode()))
    print(
        f"{folder.path}: {config.model}, {config.network}, step {header.step}, {sum(a.size for a in arrays.values()):,} numbers from {path}"
    )
    print(f"try: python -m vaegan_kernels.sample {quoted(folder.path)}")
    return 0
