"""An engine whose batches are shared among processes. Each has some of a step's images and does with them what it does alone; what
belongs to the whole batch is put together here:

    batch statistics      a mean and a variance from each process, put together in the order of the ranks (Chan et al. 1979)
    batch norm backward   Σ g and Σ g x̂ likewise
    the equilibrium gate  the GAN's losses, before it decides
    a large linear layer  not its gradient is summed, but its inputs and errors are gathered: each process makes the whole gradient
    all other gradients   views of one array, which is summed at the end of the step, with the losses
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from kernels.contract.batch_norm import Running
from kernels.contract.operation import OPERATIONS, Array
from kernels.contract.previous import Previous
from kernels.engine import Engine, Gradients
from kernels.ranks.ranks import Ranks, shards

Groups = tuple[int, ...]

#: Methods of an engine that are those of the process's own.
OWN = (
    "empty", "asarray", "put", "upload_images", "record", "fixed_weights", "unchanged", "update_list", "ring",
)  # fmt: skip


class RankedEngine(Engine):
    """``own`` on this process's images of a batch of ``images``; ``sync``: statistics are those of the batch, not of each share.

    Raises:
        ValueError: fewer images than processes.
    """

    def __init__(self, own: Engine, ranks: Ranks, images: int, *, sync: bool = True):
        if images < ranks.size:
            raise ValueError(f"batch size: got {images}, expected at least {ranks.size}, an image for each process")
        self.own: Any = own  # whose unchecked operations are called
        self.ranks, self.images, self.sync = ranks, images, sync
        self.shards = shards(images, ranks.size)
        self.name, self.precision, self.dtype, self.wide, self.threads = own.name, own.precision, own.dtype, own.wide, own.threads
        self.device, self.host_memory, self.notice = own.device, own.host_memory, own.notice
        inherited = [name for name in OPERATIONS if f"_{name}" not in vars(type(self)) and not name.endswith("_bn_relu_backward")]
        for name in (*OWN, *(f"_{name}" for name in inherited)):
            setattr(self, name, getattr(own, name))
        self._shares = own.asarray(np.array(self.shards) / images, np.float64)
        self._buffers: dict[Any, Array] = {}
        self._later: list[tuple[Array, Array]] | None = None  # within `together`: gradients of biases, and the whole ones
        self._summed: dict[int, Array] = {}  # by id the gradients that `total` sums: kept, so that no other array gets an id of theirs

    def describe(self) -> dict[str, Any]:
        return {**self.own.describe(), "processes": self.ranks.size, "bn_sync": self.sync}

    def prepare(self, body: Callable[[], None]) -> None:
        self.own.compiling = self.compiling
        self.own.prepare(body)

    def to_numpy(self, array: Array) -> np.ndarray:
        with self.ranks.waits():  # a GPU that waits for others ends when they come
            return np.asarray(self.own.to_numpy(array))

    def synchronize(self) -> None:
        with self.ranks.waits():
            self.own.synchronize()

    # ---- shares of a batch ----

    @property
    def here(self) -> int:
        """Images of this process."""
        return self.shards[self.ranks.rank]

    def shard(self, images: int) -> tuple[int, int]:
        if images != self.images:
            raise ValueError(f"batch size: got {images}, expected {self.images}: the processes have shared that")
        return sum(self.shards[: self.ranks.rank]), self.here

    def of_all(self, rows: int) -> int:
        return rows // self.here * self.images

    def gathers(self, shape: tuple[int, ...], times: int) -> bool:
        """Where it is fewer bytes: all rows of input and error come to each process, or a gradient goes there and back."""
        if len(shape) != 2:
            return False
        return times * self.images * sum(shape) * self.dtype.itemsize < 2 * shape[0] * shape[1] * self.wide.itemsize

    # ---- gradients and losses ----

    def gradients(self, shapes: Sequence[tuple[int, ...]], times: int) -> Gradients:
        whole = {i for i, shape in enumerate(shapes) if self.gathers(shape, times)}
        arrays, flats = dict[int, Array](), dict[bool, Array]()
        for is_whole in (False, True):
            numbers = [i for i in range(len(shapes)) if (i in whole) == is_whole]
            if numbers:
                flats[is_whole], views = self.side_by_side([shapes[i] for i in numbers])
                arrays |= zip(numbers, views, strict=True)
        self._summed |= {id(array): array for i, array in arrays.items() if i not in whole}
        return Gradients([arrays[i] for i in range(len(shapes))], tuple(flats.values()), flats.get(False))

    def total(self, gradients: Sequence[Gradients], losses: Array) -> None:
        self.ranks.total([losses, *(g.summed for g in gradients if g.summed is not None)])

    def _linear_wgrad(self, dw: Array, x: Array, dy: Array, *, dbias: Array | None = None) -> None:
        if id(dw) in self._summed:
            return self.own._linear_wgrad(dw, x, dy, dbias=dbias)
        whole_x, whole_dy = self._gathered("x", x), self._gathered("dy", dy)
        whole = None if dbias is None else self._buffer(f"dbias {id(dbias)}", dbias.shape, dbias.dtype)
        self.own._linear_wgrad(dw, whole_x, whole_dy, dbias=whole)
        if whole is not None:
            self._share(dbias, whole)

    def _share(self, dbias: Array, whole: Array) -> None:
        """The gradient of a bias is in an array that is summed: this process's share of the ``whole`` one."""
        if self._later is not None:
            self._later.append((dbias, whole))
        else:
            self.own._scale(dbias, whole, self.here / self.images)

    @contextmanager
    def together(self) -> Iterator[None]:
        outer, self._later = self._later, []
        try:
            with self.own.together():
                yield
            shared = self._later
        finally:
            self._later = outer
        for dbias, whole in shared:
            self._share(dbias, whole)

    def _linear_wgrad_rmsprop(self, w: Array, ms: Array, copy: Array | None, x: Array, dy: Array, **options: Any) -> None:
        self.own._linear_wgrad_rmsprop(w, ms, copy, self._gathered("x", x), self._gathered("dy", dy), **options)

    def _gathered(self, what: str, rows: Array) -> Array:
        """The rows of all processes, those of smaller shares filled up with zeros, which add nothing to a product of columns."""
        most = len(rows) // self.here * max(self.shards)
        buffer = self._parts(what, (most, *rows.shape[1:]), rows.dtype)
        self.own._copy(buffer[self.ranks.rank, : len(rows)], rows)
        self.ranks.gather(buffer)
        return buffer.reshape(-1, *rows.shape[1:])

    def _parts(self, what: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """[size, *shape], for what each process has; zero at first, the same each time."""
        return self._buffer(what, (self.ranks.size, *shape), dtype)

    def _buffer(self, what: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of ``shape``, zero at first, the same each time."""
        key = what, shape, np.dtype(dtype)
        if key not in self._buffers:
            self._buffers[key] = self.empty(shape, dtype)
            self.own._fill(self._buffers[key], 0)
        return self._buffers[key]

    # ---- batch norm ----

    def _statistics(self, mean: Array) -> Array:
        """[size, 2, G, C], for the mean and variance of each process."""
        return self._parts("statistics", (2, *mean.shape), self.wide)

    def _combine(self, mean: Array, var: Array, parts: Array) -> None:
        self.ranks.gather(parts)
        self.own._combine_statistics(mean, var, parts, self._shares)

    def _batch_norm_statistics(self, mean: Array, var: Array, x: Array, groups: Groups) -> None:
        if not self.sync:
            return self.own._batch_norm_statistics(mean, var, x, groups)
        parts = self._statistics(mean)
        self.own._batch_norm_statistics(*parts[self.ranks.rank], x, groups)
        self._combine(mean, var, parts)

    def _block_forward(
        self, operation: Any, y: Array, pre: Array, mean: Array, var: Array, x: Array, w: Array, gamma: Array, beta: Array,
        groups: Groups, *, eps: float, batch_statistics: bool = True, running: Running | None = None, **stride: int,
    ) -> None:  # fmt: skip
        if not (self.sync and batch_statistics):
            return operation(
                y, pre, mean, var, x, w, gamma, beta, groups, eps=eps, batch_statistics=batch_statistics, running=running, **stride
            )
        parts = self._statistics(mean)
        operation(None, pre, *parts[self.ranks.rank], x, w, gamma, beta, groups, eps=eps, **stride)
        self._combine(mean, var, parts)
        if y is not None:
            self.own._batch_norm_forward(y, pre, mean, var, gamma, beta, groups, eps=eps, relu=True, running=running)

    def _conv2d_bn_relu_forward(self, *arguments: Any, **options: Any) -> None:
        self._block_forward(self.own._conv2d_bn_relu_forward, *arguments, **options)

    def _upconv_bn_relu_forward(self, *arguments: Any, **options: Any) -> None:
        self._block_forward(self.own._upconv_bn_relu_forward, *arguments, **options)

    def _linear_bn_relu_forward(self, *arguments: Any, **options: Any) -> None:
        self._block_forward(self.own._linear_bn_relu_forward, *arguments, **options)

    def _batch_norm_backward(
        self, dx: Array, dy: Array, x: Array, y: Array, mean: Array, var: Array, gamma: Array, groups: Groups, *,
        eps: float, relu: bool = False, batch_statistics: bool = True, dgamma: Array | None = None, dbeta: Array | None = None,
        sums: Array | None = None,
    ) -> None:  # fmt: skip
        """The formula divides the sums by this process's count, and dγ, dβ are summed over the processes: so each takes its share of the
        batch's sums."""
        if self.sync and batch_statistics:
            parts = self._parts("sums", (2, *mean.shape), self.wide)
            if sums is None:
                if not relu:
                    raise NotImplementedError("batch norm without ReLU: its sums are not shared among processes")
                if dx is not dy:
                    self.own._copy(dx, dy)
                    dy = dx
                sums = parts[self.ranks.rank]
                # beta is not read where y is at hand
                self.own._finish_previous(dy, Previous(y, x, mean, var, gamma, gamma, eps, groups, sums))
            else:
                self.own._copy(parts[self.ranks.rank], sums)
            self.ranks.gather(parts)
            sums = self._buffer("share", (2, *mean.shape), self.wide)
            self.own._sum_parts(sums, parts, factor=self.here / self.images)
        self.own._batch_norm_backward(
            dx, dy, x, y, mean, var, gamma, groups, eps=eps, relu=relu, batch_statistics=batch_statistics, dgamma=dgamma, dbeta=dbeta,
            sums=sums,
        )  # fmt: skip

    # ---- the gate ----

    def _equilibrium_gate(self, flags: Array, losses: Array, n_real: int, n_generated: int, **options: Any) -> None:
        """``losses`` stays this process's own: it is summed with the others."""
        parts = self._parts("losses", losses.shape, losses.dtype)
        self.own._copy(parts[self.ranks.rank], losses)
        self.ranks.gather(parts)
        together = self._buffer("losses of all", losses.shape, losses.dtype)
        self.own._sum_parts(together, parts)
        self.own._equilibrium_gate(flags, together, self.of_all(n_real), self.of_all(n_generated), **options)
