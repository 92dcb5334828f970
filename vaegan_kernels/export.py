"""``python -m vaegan_kernels.export CHECKPOINT``: the model for other tools, as a PyTorch module, safetensors and ONNX; or a page."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaegan_kernels.files import check_output, check_room, check_writable, nearest_existing, write_atomically
from vaegan_kernels.measures import attribute_vectors as vectors
from vaegan_kernels.portable import layout
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.inference import EXAMPLES, Model
from vaegan_kernels.shell.cli import CHECKPOINT, Parser, add_weights, check_choice, run_main
from vaegan_kernels.shell.errors import UserError

FORMATS = {"torch": "torch", "safetensors": "safetensors", "onnx": "onnx", "checkpoint": "h5py"}  # format: the package that writes it
OTHERS = [name for name in FORMATS if name != "checkpoint"]  # for other tools: what is written where no format is asked for
SOURCE = Path(layout.__file__).with_name("vaegan_torch.py")
EPILOG = """examples:
  python -m vaegan_kernels.export runs/my-run --out exported
  python -m vaegan_kernels.export runs/my-run --format onnx --out exported
  python -m vaegan_kernels.export runs/my-run --format checkpoint --out small          for this program: the weights alone
  python -m vaegan_kernels.export faces --page faces.html                 a page that a browser opens and computes, without a server
docs/export.md shows how each is used, and how a model that was changed elsewhere comes back (python -m vaegan_kernels.import)."""


def torch_files(model: Model, tensors: dict[str, np.ndarray], about: dict[str, Any], file: Path) -> dict[str, bytes]:
    """vaegan.pt, a state_dict; vaegan_torch.py, the module that takes it."""
    import torch

    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, buffer)
    return {"vaegan.pt": buffer.getvalue(), "vaegan_torch.py": SOURCE.read_bytes()}


def safetensors_files(model: Model, tensors: dict[str, np.ndarray], about: dict[str, Any], file: Path) -> dict[str, bytes]:
    """vaegan.safetensors: the same tensors, the description in its metadata."""
    from safetensors.numpy import save

    return {"vaegan.safetensors": save(tensors, metadata={"format": "pt", "vaegan": json.dumps(about)})}


def onnx_files(model: Model, tensors: dict[str, np.ndarray], about: dict[str, Any], file: Path) -> dict[str, bytes]:
    """encoder.onnx, decoder.onnx, discriminator.onnx: those networks that the model has."""
    from vaegan_kernels.portable.onnx_graphs import onnx_bytes

    return {f"{name}.onnx": onnx_bytes(name, tensors, model.spec, about) for name in about["sizes"]["networks"]}


def checkpoint_files(model: Model, tensors: dict[str, np.ndarray], about: dict[str, Any], file: Path) -> dict[str, bytes]:
    """checkpoint.h5: the weights alone, with the attribute vectors of the checkpoint ``file`` if they belong to these weights."""
    arrays, names = model.arrays(), {}
    if model.attribute_names:
        arrays[EXAMPLES] = model._examples
    elif checkpoint.read_extra(file, vectors.VECTORS) is not None and vectors.weights_of(file) == model.weights:
        found = vectors.load(file)
        arrays[vectors.VECTORS] = np.stack(list(found.values()))
        names = vectors.attributes(found, model.weights)
    buffer = io.BytesIO()
    checkpoint.write_hdf5(buffer, arrays, dataclasses.replace(model.header, weights=model.weights), names)
    return {"checkpoint.h5": buffer.getvalue()}


WRITERS: dict[str, Callable[[Any, dict[str, np.ndarray], dict[str, Any], Path], dict[str, bytes]]] = {
    "torch": torch_files, "safetensors": safetensors_files, "onnx": onnx_files, "checkpoint": checkpoint_files,
}  # fmt: skip


def chosen(asked: str | None) -> tuple[list[str], list[str]]:
    """(the formats to write, those left out for want of a package). Raises `UserError` for one asked for that is unknown or cannot be."""
    wanted = OTHERS if asked is None else [part.strip() for part in asked.split(",")]
    for name in wanted:
        check_choice("--format", name, FORMATS)
    absent = [name for name in wanted if importlib.util.find_spec(FORMATS[name]) is None]
    if asked is None and len(absent) == len(wanted):
        raise UserError(f"none of the packages {', '.join(absent)} is installed, and each format needs one; pip install safetensors onnx")
    if absent and asked is not None:
        raise UserError(f"--format {absent[0]}: needs the package {FORMATS[absent[0]]}; pip install {FORMATS[absent[0]]}")
    return [name for name in dict.fromkeys(wanted) if name not in absent], absent


def names_of(formats: Sequence[str], networks: Sequence[str]) -> list[str]:
    """The files that an export writes."""
    own = {"torch": ["vaegan.pt", "vaegan_torch.py"], "safetensors": ["vaegan.safetensors"], "onnx": [f"{name}.onnx" for name in networks]}
    own["checkpoint"] = ["checkpoint.h5"]
    return ["vaegan.json", *(name for one in formats for name in own[one])]


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.export",
        description="Write a model for other tools: as a PyTorch module, safetensors and ONNX; or as a page for a browser.",
        epilog=EPILOG,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    parser.add_argument("--out", metavar="FOLDER", help="the folder to write to (default: exported)")
    text = (
        "of torch, safetensors, onnx (default: all of these whose packages are installed), and checkpoint: the weights alone, to use here"
    )
    parser.add_argument("--format", metavar="A,B,..", help=text)
    text = "write an HTML file to explore the model in a browser, without a network; alone, unless --format or --out is given too"
    parser.add_argument("--page", metavar="FILE", help=text)
    parser.add_argument("--overwrite", action="store_true", help="replace the files of an earlier export")
    add_weights(parser, "average, where there is one; for a page with attribute vectors those that they were made with")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = make_parser().parse_args(argv)
    asked = arguments.page is None or arguments.format is not None or arguments.out is not None
    formats, absent = chosen(arguments.format) if asked else ([], [])
    if arguments.page is not None:
        page = check_output(arguments.page, overwrite=arguments.overwrite, flag="--page", suffixes=(".html",))
        if importlib.util.find_spec("onnx") is None:
            raise UserError("--page: needs the package onnx; pip install onnx")
    file = checkpoint.find(arguments.checkpoint)
    made = folder_files(file, arguments, formats) if asked else {}
    if arguments.page is not None:
        from vaegan_kernels.explorer.standalone import standalone

        made[page] = standalone(arguments.checkpoint, arguments.weights)
        check_room(page.absolute().parent, len(made[page]), flag="--page")
    for path, data in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        print(f"{path}  {len(data) / 1e6:.1f} MB")
    for name in absent:
        print(f"left out: {name} (pip install {FORMATS[name]})")
    return 0


def folder_files(file: Path, arguments: Any, formats: Sequence[str]) -> dict[Path, bytes]:
    """The files of ``formats`` for the folder --out. Raises `UserError` where they cannot be written."""
    from vaegan_kernels.runs.inference import load_model

    model = load_model(file, engine="numpy", weights=arguments.weights)  # nothing is computed
    about = layout.description(model)
    out = Path(arguments.out or "exported")
    files = names_of(formats, about["sizes"]["networks"])
    check_folder(out, files, overwrite=arguments.overwrite)
    tensors = layout.state_dict(model.arrays(), model.spec, tuple(about["sizes"]["networks"]))
    check_room(nearest_existing(out), (len(formats) + 1) * sum(array.nbytes for array in tensors.values()))
    made = {"vaegan.json": (json.dumps(about, indent=1) + "\n").encode()}
    for name in formats:
        made |= WRITERS[name](model, tensors, about, file)
    return {out / name: made[name] for name in files}


def check_folder(out: Path, files: Sequence[str], *, overwrite: bool) -> None:
    """Raise `UserError` unless ``files`` can be written in the folder ``out``."""
    existing = nearest_existing(out)
    if not existing.is_dir():
        raise UserError(f"--out: {existing} is a file, expected a folder")
    check_writable(existing, probe=True, flag="--out", wanted=out)
    for name in files:
        if (out / name).exists() and not overwrite:
            raise UserError(f"--out: {out / name} exists already; choose another folder or give --overwrite")


if __name__ == "__main__":
    sys.exit(run_main(main))
