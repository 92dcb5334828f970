"""Dis (Table 1), in three parts: ``body`` before the learned metric, the convolution whose output is Dis_l, ``head`` after it.

Dis_l is read before its batch norm. Two losses enter here, L_like at Dis_l and L_GAN at the logit, and each has a backward
pass of its own through the same saved tensors. VAE_Dis_l's L_like may enter at the first convolution too.
"""

from __future__ import annotations

from contextlib import nullcontext

from kernels import Array, Previous
from models.blocks import BNReLU, Conv, ConvBNReLU, Linear, LinearBNReLU
from models.graph import Application, Sequential
from models.layer import Context, Layer, Pass, Saved
from models.networks import NetworkSpec
from models.parameter import Parameter, Statistic


class Discriminator:
    """Images → Dis_l and logits. A conditional one has attributes behind the input of its FC layer: Dis_l does not depend on them.

    With ``output=False`` it ends in its FC layer, whose units [m, discriminator_units] stand in for the logits: a classifier's trunk.
    """

    def __init__(self, context: Context, spec: NetworkSpec, *, output: bool = True):
        self.pool, self.engine = context.pool, context.engine
        widths = spec.discriminator
        first = Conv(context, "discriminator/conv1", spec.channels, widths[0], activation="relu")
        blocks: list[Layer] = [first]
        after: list[Layer] = []
        for i in range(1, len(widths)):
            name, ci, co = f"discriminator/conv{i + 1}", widths[i - 1], widths[i]
            if i + 1 == spec.metric:
                self.metric = Conv(context, name, ci, co, stride=2, bias=False)
                after.append(BNReLU(context, name, co))
            else:
                (blocks if i + 1 < spec.metric else after).append(ConvBNReLU(context, name, ci, co))
        units = spec.discriminator_units
        after.append(LinearBNReLU(context, "discriminator/fc", spec.grid**2 * widths[-1], units, attributes=spec.attributes))
        if output:
            after.append(Linear(context, "discriminator/output", spec.discriminator_units, 1))
        self.body, self.head = Sequential(blocks), Sequential(after)

    @property
    def parameters(self) -> list[Parameter]:
        return [*self.body.parameters, *self.metric.parameters, *self.head.parameters]

    @property
    def statistics(self) -> list[Statistic]:
        return [*self.body.statistics, *self.head.statistics]

    def apply(self, x: Array, pass_: Pass, head: Pass | None, *, own: bool = False) -> DiscriminatorApplication:
        """x [M, S, S, C] through ``body`` and the metric; the first ``sum(head.groups)`` images reach the logit.

        ``head=None`` stops at Dis_l. ``own``: x is of the pool, and the application's to hand back.
        """
        body = self.body.apply(x, pass_)
        features, saved = self.metric.forward(body.output, pass_)
        top = self.head.apply(features[: sum(head.groups)], head) if head else None
        return DiscriminatorApplication(self, body, (features, saved), top, (x,) if own else ())


class DiscriminatorApplication:
    """One forward pass of `Discriminator`: ``first`` (its first convolution, after ReLU, [M, S, S, c]), ``features`` (Dis_l, [M, h, w, c])
    and ``logits`` ([m, 1]; None if it stopped)."""

    def __init__(
        self, dis: Discriminator, body: Application, metric: tuple[Array, Saved], head: Application | None, own: tuple[Array, ...]
    ):  # fmt: skip
        self._dis, self._body, self._head, self._own = dis, body, head, own
        self.first = body.first
        self.features, self._metric = metric
        self.logits = head.output if head else None

    def backward_logits(self, dlogits: Array, *, dw: bool, rows: slice | None, fixed: bool = False) -> Array:
        """An error at the logits → the error at images ``rows`` (None: none is wanted); ``fixed`` as in `Application.backward`.
        ``dlogits`` is consumed."""
        assert self._head is not None
        with self._dis.engine.together() if dw else nullcontext():
            error = self._head.backward(dlogits, dx=True, dw=dw, fixed=fixed)
            return self._to_images(error, slice(0, len(error)), dw=dw, rows=rows, fixed=fixed)

    def backward_features(self, dfeatures: Array, of: slice, *, rows: slice, dfirst: Array = None) -> Array:
        """An error at the Dis_l of images ``of``, and one at ``first`` of all images or None → the error at images ``rows``; no
        gradient of any parameter: L_like never trains Dis. ``dfeatures`` and ``dfirst`` are consumed."""
        return self._to_images(dfeatures, of, dw=False, rows=rows, dfirst=dfirst)

    def _to_images(
        self, error: Array, of: slice, *, dw: bool, rows: slice | None, dfirst: Array = None, fixed: bool = False
    ) -> Array:  # fmt: skip
        """``error`` is at the Dis_l of images ``of``; the others have none there (but will, before it, through joint BN)."""
        dis, x = self._dis, self._metric.x
        if dw:
            dis.engine.conv2d_wgrad(dis.metric.weight.grad, x[of], error, stride=2)
        dx = dis.pool.take(x.shape)
        for others in (dx[: of.start], dx[of.stop :]):
            if len(others):
                dis.engine.fill(others, 0)
        previous = self._body.as_previous(dw)
        assert previous is not None  # the body ends in a ReLU
        part = self._part(previous, of)
        dis.engine.conv2d_dgrad(dx[of], error, dis.metric.weight.compute, stride=2, previous=part)
        if part.sums is not previous.sums:
            first, last = _overlap(previous.groups, of)
            dis.engine.fill(previous.sums, 0)
            for i in range(len(previous.sums)):
                dis.engine.copy(previous.sums[i, first:last], part.sums[i])
            dis.pool.give(part.sums)
        dis.pool.give(error)
        return self._body.backward(dx, dx=rows is not None, dw=dw, rows=rows, done=previous, at_first=dfirst, fixed=fixed)

    def _part(self, previous: Previous, of: slice) -> Previous:
        """``previous`` for the images ``of``, with sums of their groups alone: images outside have no error, and add nothing to them."""
        if previous.pre is None:
            return previous._replace(y=previous.y[of], groups=(len(previous.y[of]),))
        first, last = _overlap(previous.groups, of)
        starts = [sum(previous.groups[:i]) for i in range(len(previous.groups) + 1)]
        groups = tuple(min(starts[i + 1], of.stop) - max(starts[i], of.start) for i in range(first, last))
        sums, shape = previous.sums, (len(previous.sums), last - first, previous.sums.shape[2])
        if shape != sums.shape:
            sums = self._dis.pool.take(shape, self._dis.engine.wide)
        mean, var = previous.mean[first:last], previous.var[first:last]
        return previous._replace(y=previous.y[of], pre=previous.pre[of], mean=mean, var=var, groups=groups, sums=sums)

    def release(self) -> None:
        if self._head:
            self._head.release()
        self._dis.metric.release(self._metric)
        self._body.release()
        self._dis.pool.give(*self._own)


def _overlap(groups: tuple[int, ...], of: slice) -> tuple[int, int]:
    """The range of groups that images ``of`` belong to."""
    starts = [sum(groups[:i]) for i in range(len(groups) + 1)]
    touched = [i for i in range(len(groups)) if starts[i] < of.stop and starts[i + 1] > of.start]
    return touched[0], touched[-1] + 1
