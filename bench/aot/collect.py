"""Which kernels there are: the engine's own code runs whole training steps on a device that only records its launches."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.dry import infer, shared, step_body
from kernels.contract.operation import OPERATIONS
from kernels.cuda.device.chips import CHIPS as KNOWN
from models.classifier import FEATURES, Classifier
from models.networks import NetworkSpec, network
from models.objective import Objective
from models.regressor import Regressor
from models.supervised import Supervised
from models.system import SYSTEMS
from models.vaegan import VAEGAN

PRECISIONS = ("bf16", "tf32", "float32")
#: Chips of the table, by compiler name.
CHIPS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
#: Chips that are compiled for where ``--chips`` names them. Of sm_70 Triton 3.9's disassembler reads nothing.
TRIED = ("sm_87", "sm_103", "sm_121")


def _opened(chip: str) -> tuple[str, str]:
    """The chip with the precision that the engine has on it unless told otherwise."""
    return chip, "bf16" if KNOWN[chip].bf16 else "float32"


#: What CI compiles: Table 1's networks at the paper's batch.
CI_PAIRS = (*map(_opened, CHIPS), ("sm_90", "tf32"), ("sm_90", "float32"))
ALL_PAIRS = tuple((chip, precision) for precision in PRECISIONS for chip in CHIPS if KNOWN[chip].bf16 or precision == "float32")
TRIED_PAIRS = tuple(map(_opened, TRIED))
#: Where CI also compiles the other systems, conditional models, regressor and classifiers: one chip with descriptors, one with pointers.
SYSTEM_PAIRS = (("sm_80", "bf16"), ("sm_90", "bf16"))


ATTRIBUTES = 40  # of CelebA
CLASSES = 10  # of CIFAR-10 and STL-10


class Case(NamedTuple):
    """A training step, and with ``inference`` also encoding, decoding and judging, whose kernels are wanted.

    ``system``: one of `models.system.SYSTEMS`, "regressor", "classifier enc" or "classifier dis". ``pairs`` of chip and precision on which
    they are wanted; none: on all. ``batch``: images of each of the ``processes`` that share a step's.
    """

    title: str
    spec: NetworkSpec
    batch: int = 64
    objective: Objective = Objective()
    optimizer: str = "rmsprop"
    inference: bool = False
    system: str = "vaegan"
    pairs: tuple[tuple[str, str], ...] = ()
    augment: bool = False
    average: bool = False
    dis_noise: bool = False
    processes: int = 1


def cases(everything: bool) -> list[Case]:
    """CI's cases, or all: other networks, batches, groupings of statistics and losses."""
    paper, conditional = network("paper64"), network("paper64", attributes=ATTRIBUTES)
    first = [Case("", paper), Case("augmented", paper, augment=True), Case("eight processes", paper, processes=8)]
    passes = Objective(bn_groups="authors", generator_loss="non-saturating", gan_eps=0.0, fixed_statistics=True)  # of the preset quick
    systems = [
        Case("conditional", conditional),
        *(Case(system, paper, system=system) for system in SYSTEMS if system != "vaegan"),
        *(Case(f"conditional {system}", conditional, system=system) for system in SYSTEMS if system != "vaegan"),
        Case("regressor", paper, system="regressor"),
        *(Case(f"classifier {features}", paper, system=f"classifier {features}") for features in FEATURES),
        Case("quick", paper, objective=passes, optimizer="adam", average=True, dis_noise=True),
    ]
    if not everything:
        return first + [case._replace(pairs=SYSTEM_PAIRS) for case in systems]
    return [
        *first,
        *systems,
        Case("conditional inference", conditional, inference=True),
        Case("inference", paper, inference=True),
        Case("split", paper, objective=Objective(bn_groups="split")),
        Case("authors", paper, objective=Objective(bn_groups="authors")),
        Case("batch16", paper, 16),
        Case("non-saturating", paper, objective=Objective(generator_loss="non-saturating")),
        Case("released", network("paper64", encoder_units=1024), objective=Objective(negatives="prior", real_weight=0.5)),
        Case("grey", network("paper64", channels=1)),
        Case("paper32", network("paper32"), inference=True),
        Case("paper128", network("paper128"), 16),
        Case("small32", network("small32"), 16, Objective(bn_groups="split"), inference=True),
    ]


@dataclass
class Kernel:
    """One kernel to compile for one chip.

    Attributes:
        key: chip, precision, layer, operation, its shape and the kernel's name; CUDA C: file, function and defines.
        launch: a launch of it. product: whether it declares operations of `tl.dot`.
        uses: operations that launch it. bytes: the most that one of its launches touches.
        digest: of everything that its machine code depends on besides the versions of the compilers.
    """

    key: str
    chip: str
    precision: str
    launch: Any
    product: bool
    uses: list[str] = field(default_factory=list)
    bytes: int = 0
    digest: str = ""


def tile_of(launch: Any, warps: int) -> str:
    """What distinguishes the code of two launches of one kernel, as the table has it."""
    sizes = [f"{name}={value}" for name, value in launch.constexprs.items() if value is not None and name != "block"]
    stages = [f"{launch.stages} stages"] if launch.kind == "triton" else []
    return " ".join((f"{warps} warps", *stages, *sizes))


class Trace:
    """Names for an engine's launches: the layer, operation and shape from which each was made.

    The outermost operation counts; the layer is that of the first argument which is one of the model's parameters or gradients.
    """

    def __init__(self, engine: Any):
        self.device = engine.device
        self.names: list[str] = []
        self.layers: dict[int, str] = {}
        self._depth = 0
        for name in OPERATIONS:
            method = getattr(engine, name, None)
            if method is not None:
                setattr(engine, name, functools.partial(self._call, name, method))

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        self.close("")
        self._depth += 1
        try:
            return method(*args, **keywords)
        finally:
            self._depth -= 1
            if not self._depth:
                self.close(self._title(name, args, keywords))

    def close(self, title: str) -> None:
        """Give ``title`` to everything launched since the last call; within an operation do nothing."""
        if not self._depth:
            self.names += [title] * (len(self.device.launches) - len(self.names))

    def _title(self, name: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> str:
        arrays = list(_arrays((*args, *keywords.values())))
        layer = next((self.layers[a.ctypes.data] for a in arrays if a.ctypes.data in self.layers), "")
        shape = next(("x".join(map(str, a.shape)) for a in arrays if a.ndim > 1), "")
        return " ".join(filter(None, (layer, name, shape)))

    def learn(self, model: VAEGAN | Supervised) -> None:
        """Take the names of the model's layers."""
        for p in model.parameters:
            for array in _arrays(vars(p).values()):
                self.layers[array.ctypes.data] = p.name.rpartition("/")[0]


def _arrays(values: Iterable[Any]) -> Iterable[np.ndarray]:
    """Arrays among the values, in order, one level of tuples, lists and dictionaries deep."""
    for value in values:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else (value,)
        yield from (a for a in inner if isinstance(a, np.ndarray))


def record(case: Case, chip: str, precision: str) -> list[tuple[str, Any]]:
    """The launches of a case with their titles, those that create the model included."""
    from kernels.cuda.engine import dry_engine

    engine: Any = dry_engine(KNOWN[chip], precision)
    if case.processes > 1:
        engine = shared(engine, 0, case.processes, case.processes * case.batch)
    engine.device.launches = []
    trace = Trace(engine)
    perform(engine, case, trace.learn)
    trace.close("")
    return list(zip(trace.names, engine.device.launches, strict=True))


def perform(engine: Any, case: Case, learn: Callable[[VAEGAN | Supervised], None] = lambda model: None) -> None:
    """Make the model of a case and do its step; ``learn`` is called with the model between."""
    kind, _, features = case.system.partition(" ")
    if kind in ("regressor", "classifier"):
        supervised: Supervised
        if kind == "regressor":
            supervised = Regressor(engine, case.spec, ATTRIBUTES, optimizer=case.optimizer)
            targets = engine.empty((case.batch, ATTRIBUTES), engine.wide)
        else:
            supervised = Classifier(engine, case.spec, CLASSES, features=features, optimizer=case.optimizer)
            targets = engine.empty((case.batch,), np.int32)
        learn(supervised)
        x = engine.empty((case.batch, case.spec.image_size, case.spec.image_size, case.spec.channels))
        supervised.train_step(x, targets, engine.empty((1,), engine.wide))
    else:
        model = VAEGAN(engine, case.spec, system=case.system, seed=0, optimizer=case.optimizer, average=case.average)
        learn(model)
        step_body(engine, model, case.batch, case.objective, augment=case.augment, dis_noise=case.dis_noise)()
        if case.inference:
            infer(model, case.batch)


def collect(pairs: Iterable[tuple[str, str]], wanted: Iterable[Case]) -> list[Kernel]:
    """The different kernels of the cases on each (chip, precision), in the order in which they are first launched."""
    from kernels.cuda.device.compile import key_of

    result: dict[str, Kernel] = {}
    wanted = list(wanted)
    for chip, precision in pairs:
        known: dict[Any, Kernel] = {}
        for case in wanted:
            if case.pairs and (chip, precision) not in case.pairs:
                continue
            for title, launch in record(case, chip, precision):
                identity = key_of(launch)
                kernel = known.get(identity)
                if kernel is None:
                    key = _free(f"{chip} {precision} {_name(case, title, launch)}", result)
                    kernel = known[identity] = result[key] = Kernel(
                        key, chip, precision, launch, False, digest=_digest(identity, launch, chip)
                    )
                if launch.warps > kernel.launch.warps:  # CUDA C: the largest block
                    kernel.launch = launch
                kernel.product |= launch.cost.flops > 0
                kernel.bytes = max(kernel.bytes, launch.cost.reads + launch.cost.writes)
                if title and title not in kernel.uses:
                    kernel.uses.append(title)
    return list(result.values())


def _digest(identity: Any, launch: Any, chip: str) -> str:
    from kernels.cuda.device import compile as compiling
    from kernels.cuda.device.source import source_of

    # Triton's cache_key covers a function's source, that of every function it calls, and the constants these use
    text = source_of(launch.source) if launch.kind == "cuda" else getattr(launch.source, "cache_key", "")
    parts = (identity, chip, text, Path(compiling.__file__).read_text(encoding="utf-8"))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _name(case: Case, title: str, launch: Any) -> str:
    """The key after chip and precision."""
    if launch.kind == "cuda":
        return " ".join((f"{Path(launch.source).name}:{launch.name}", *launch.defines))
    return " ".join(filter(None, (title, launch.name, case.title and f"({case.title})")))


def _free(key: str, taken: Iterable[str]) -> str:
    """``key``, or with the first number that makes it unique."""
    number, free = 1, key
    while free in taken:
        number += 1
        free = f"{key} #{number}"
    return free
