"""The training loop of `models.supervised`'s networks: the regressor's, and that of the classifiers of the semi-supervised experiment."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kernels import philox
from models.optimizers import learning_rate as rate_of
from models.supervised import Supervised
from vaegan_kernels.runs.feed import Feed
from vaegan_kernels.shell.cli import EXIT_INTERRUPTED, EXIT_TERMINATED
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.shell.interrupt import StopRequest

RATE, RATE_STOP = 1e-3, 1e-5


@dataclass(frozen=True)
class Schedule:
    """``steps`` of ``batch_size`` images; the rate falls from ``learning_rate`` to `RATE_STOP`; ``seed`` of order and mirrors."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int


def train_steps(
    model: Supervised, images: np.ndarray, known: np.ndarray, chosen: np.ndarray, schedule: Schedule, *, what: str,
    save: Callable[[int], None], every: int, step: int = 0, quiet: bool = False,
    stopped: Callable[[int], str] = "stopped at step {}".format,
) -> None:  # fmt: skip
    """Steps ``step`` to ``schedule.steps``. Step k is a function of the state before it and of (seed, k): a resumed run is the same run.

    Args:
        model: what is trained.
        images: uint8 [n, S, S, C]; known: of each image, wide [n, A] or int32 [n]; chosen: indices of those that are trained on.
        what: the network in messages, "the regressor".
        save: called with the steps done after every ``every`` of them, behind the last, and behind the one in which a signal came.
        stopped: the line that is printed after a signal, of the steps done.

    Raises `UserError` for a loss that is no number any more; SystemExit with the signal's code.
    """
    from vaegan_kernels.shell.progress import Counter, Progress

    eng, n, steps, (_, size, _, channels) = model.engine, schedule.batch_size, schedule.steps, images.shape
    per_epoch = len(chosen) // n

    @functools.lru_cache(2)
    def order_of(epoch: int) -> np.ndarray:
        shuffled = philox.permutation(len(chosen), seed=schedule.seed, step=epoch, stream=philox.STREAM_SHUFFLE)
        return np.asarray(chosen[shuffled])

    feed = Feed(eng, images, (1, n), lambda step: order_of(step // per_epoch)[step % per_epoch * n :][:n])
    table = eng.asarray(known.reshape(len(known), -1), np.int32 if known.dtype == np.int32 else eng.wide)
    x, rows = eng.empty((n, size, size, channels)), eng.empty((n, table.shape[1]), table.dtype)
    targets = rows.reshape(-1) if known.ndim == 1 else rows
    order, counter, lr = eng.empty((len(chosen),), np.int32), eng.empty((1,), np.int64), eng.empty((1,), eng.wide)
    rates = [rate_of(k, steps, start=schedule.learning_rate, stop=min(RATE_STOP, schedule.learning_rate)) for k in range(steps)]
    rates = eng.asarray(rates, eng.wide)
    eng.put(counter, [step])

    def body() -> None:
        placed, placed_order, cycle = feed.gathered(order, per_epoch)
        eng.gather_batch(x, placed, placed_order, counter, per_epoch=cycle, seed=schedule.seed, flip=True)
        eng.gather_rows(rows, table, order, counter, per_epoch=per_epoch)
        eng.look_up_rate(lr, rates, counter)
        model.train_step(x, targets, lr)
        eng.advance(counter)

    feed.prepare(body)
    replay, epoch_of_order, show = eng.record(body), -1, Counter(f"training {what}", quiet=quiet)
    with contextlib.closing(feed), StopRequest(Progress(steps, step, quiet=quiet)) as request:
        while step < steps and request.signal is None:
            if step // per_epoch != epoch_of_order:
                epoch_of_order = step // per_epoch
                eng.put(order, order_of(epoch_of_order))
            feed.step(step, replay)
            step += 1
            show(step, steps)
            if step % every == 0 or step == steps or request.signal is not None:
                if not np.isfinite(model.fetch_loss()):
                    raise UserError(f"the loss of {what} is not finite at step {step}; try a smaller --learning-rate")
                save(step)
    if step < steps:
        print(stopped(step), flush=True)
        raise SystemExit(EXIT_INTERRUPTED if request.signal == 2 else EXIT_TERMINATED)
