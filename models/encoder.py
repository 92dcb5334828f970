"""Enc (Table 1): stride-2 convolutions and an FC layer, BN and ReLU behind each, then the linear heads μ, log σ²."""

from __future__ import annotations

from kernels import Array
from models.blocks import ConvBNReLU, Linear, LinearBNReLU
from models.graph import Application, Sequential
from models.layer import Context, Pass, Saved
from models.networks import NetworkSpec
from models.parameter import Parameter, Statistic


def trunk(context: Context, name: str, spec: NetworkSpec, attributes: int = 0) -> Sequential:
    """Images → the FC layer's units, [N, encoder_units]: all of Enc but its heads. ``attributes``: more inputs of the FC layer."""
    widths = (spec.channels, *spec.encoder)
    convs = [ConvBNReLU(context, f"{name}/conv{i}", widths[i - 1], widths[i]) for i in range(1, len(widths))]
    return Sequential([*convs, LinearBNReLU(context, f"{name}/fc", spec.grid**2 * widths[-1], spec.encoder_units, attributes=attributes)])


class Encoder:
    """q(z | x): images → μ, log σ². A conditional one is q(z | x, attributes)."""

    def __init__(self, context: Context, spec: NetworkSpec):
        self.pool, self.engine = context.pool, context.engine
        self.trunk = trunk(context, "encoder", spec, spec.attributes)
        self.mu = Linear(context, "encoder/mu", spec.encoder_units, spec.latent, decay=False)
        self.logvar = Linear(context, "encoder/logvar", spec.encoder_units, spec.latent, decay=False)

    @property
    def largest(self) -> Parameter:
        """The FC layer's weights: at 64 pixels two thirds of all parameters of the three networks."""
        return self.trunk.layers[-1].parameters[0]

    @property
    def parameters(self) -> list[Parameter]:
        return [*self.trunk.parameters, *self.mu.parameters, *self.logvar.parameters]

    @property
    def statistics(self) -> list[Statistic]:
        return self.trunk.statistics

    def apply(self, x: Array, pass_: Pass) -> EncoderApplication:
        """x [N, S, S, C] → an application with ``mu`` and ``logvar`` [N, latent]."""
        trunk = self.trunk.apply(x, pass_)
        with self.engine.together():
            heads = self.mu.forward(trunk.output, pass_), self.logvar.forward(trunk.output, pass_)
        return EncoderApplication(self, trunk, *heads)


class EncoderApplication:
    """One forward pass of `Encoder`."""

    def __init__(self, encoder: Encoder, trunk: Application, mu: tuple[Array, Saved], logvar: tuple[Array, Saved]):
        self._encoder, self._trunk = encoder, trunk
        (self.mu, self._mu), (self.logvar, self._logvar) = mu, logvar

    def backward(self, dmu: Array, dlogvar: Array) -> None:
        """Gradients of all parameters; both heads' errors meet at the FC layer."""
        with self._encoder.engine.together():
            self._backward(dmu, dlogvar)

    def _backward(self, dmu: Array, dlogvar: Array) -> None:
        encoder = self._encoder
        error = encoder.mu.backward(dmu, self._mu, dx=True, dw=True)
        other = encoder.logvar.backward(dlogvar, self._logvar, dx=True, dw=True)
        encoder.engine.add(error, other, error)
        encoder.pool.give(other)
        self._trunk.backward(error, dx=False, dw=True)

    def release(self) -> None:
        self._encoder.mu.release(self._mu)
        self._encoder.logvar.release(self._logvar)
        self._trunk.release()
