"""The least work of one training step: what Algorithm 1 needs, whoever computes it.

Operations: every product of every layer that an output or a wanted gradient depends on, once; no padding, no inserted zero.
Bytes: each input of the step, each pre-BN output, each activation, each error and each gradient written once and read once by each
of its consumers; weights read once by each use; optimiser state read and written once. Axis letters as in kernels.cpu.conv2d.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from models.networks import NetworkSpec

WIDE = 4  # bytes of a parameter, its gradient and its optimiser state


class Layer(NamedTuple):
    """One matrix product of a network. Counts are for one image.

    ``norm``: batch norm and ReLU follow it; ``act``: a ReLU or tanh whose gradient reads the output; ``weights``: elements of w;
    ``others``: of bias, gamma and beta.
    """

    name: str
    x: int
    y: int
    macs: int
    weights: int
    others: int
    norm: bool
    act: bool = False


def conv(name: str, ci: int, co: int, size: int, out: int, *, norm: bool = True, act: bool = False, bias: bool = False) -> Layer:
    """A 5x5 convolution from size² to out² pixels, or (out > size) a fractional-strided one: the smaller image counts."""
    others = 2 * co if norm else co if bias else 0
    small = min(size, out)
    return Layer(name, size * size * ci, out * out * co, 25 * ci * co * small * small, 25 * ci * co, others, norm, act)


def linear(name: str, i: int, o: int, *, norm: bool) -> Layer:
    return Layer(name, i, o, i * o, i * o, 2 * o if norm else o, norm)


def layers(spec: NetworkSpec) -> dict[str, list[Layer]]:
    """Table 1 as matrix products, for each network from input to output; Dis_l's convolution is ``metric``."""
    s, grid, latent = spec.image_size, spec.grid, spec.latent
    e, d, w = (spec.channels, *spec.encoder), spec.decoder, (spec.channels, *spec.discriminator)
    encoder = [conv(f"encoder/conv{i + 1}", e[i], e[i + 1], s >> i, s >> (i + 1)) for i in range(len(spec.encoder))]
    encoder += [linear("encoder/fc", grid * grid * e[-1], spec.encoder_units, norm=True)]
    encoder += [linear(f"encoder/{head}", spec.encoder_units, latent, norm=False) for head in ("mu", "logvar")]
    decoder = [linear("decoder/fc", latent, grid * grid * d[0], norm=True)]
    decoder += [conv(f"decoder/up{i + 1}", d[i], d[i + 1], grid << i, grid << (i + 1)) for i in range(len(d) - 1)]
    decoder += [conv("decoder/image", d[-1], spec.channels, s, s, norm=False, act=True, bias=True)]
    dis = [conv("discriminator/conv1", w[0], w[1], s, s, norm=False, act=True, bias=True)]
    for i in range(1, len(spec.discriminator)):
        layer = conv(f"discriminator/conv{i + 1}", w[i], w[i + 1], s >> (i - 1), s >> i)
        dis.append(layer._replace(name=layer.name + " (metric)") if i + 1 == spec.metric else layer)
    dis += [linear("discriminator/fc", grid * grid * w[-1], spec.discriminator_units, norm=True)]
    dis += [linear("discriminator/output", spec.discriminator_units, 1, norm=False)]
    return {"encoder": encoder, "decoder": decoder, "discriminator": dis}


@dataclass
class Minimum:
    """Sums of a step. ``by_layer``: name → operations."""

    item: int
    flops: int = 0
    bytes: int = 0
    by_layer: dict[str, int] = field(default_factory=dict)

    def _product(self, layer: Layer, rows: int) -> None:
        self.flops += 2 * layer.macs * rows
        self.by_layer[layer.name] = self.by_layer.get(layer.name, 0) + 2 * layer.macs * rows

    def forward(self, layer: Layer, rows: int) -> None:
        """x and w read, the result written; with batch norm that is read again and the activation written."""
        self._product(layer, rows)
        self.bytes += self.item * (rows * layer.x + layer.weights + rows * layer.y * (3 if layer.norm else 1))

    def backward(self, layer: Layer, rows: int, *, dx_rows: int, dw: bool) -> None:
        """The error at y (read; through batch norm with its input, and written) to the error at x and the weight gradient."""
        y, x, item = layer.y, layer.x, self.item
        if layer.norm:
            self.bytes += item * rows * y * 3
        elif layer.act:
            self.bytes += item * rows * y  # the output, for the slope; the product reads the error
        if dw:
            self._product(layer, rows)
            self.bytes += item * rows * (x + y) + WIDE * (layer.weights + layer.others)
        if dx_rows:
            self._product(layer, dx_rows)
            self.bytes += item * (rows * y + layer.weights + dx_rows * x)


def minimum(spec: NetworkSpec, n: int, *, negatives: str = "both", bn_groups: str = "joint", item: int = 2) -> Minimum:
    """The least operations and bytes of one step of n images, RMSProp, minimax loss.

    Args:
        negatives, bn_groups: as in `models.objective.Objective` ("joint" or "split"). With joint statistics an error at one image
            reaches every image of the batch.
        item: bytes of an activation, an error or a weight as an operand (2: bf16).
    """
    total, nets = Minimum(item), layers(spec)
    encoder, decoder, dis = nets["encoder"], nets["decoder"], nets["discriminator"]
    joint = bn_groups == "joint"
    metric = next(i for i, layer in enumerate(dis) if layer.name.endswith("(metric)"))
    m = 3 * n if negatives == "both" else 2 * n  # rows that reach the logit
    early = 3 * n if joint else m  # rows of the layers before Dis_l that L_GAN's error reaches

    for layer in encoder:
        total.forward(layer, n)
    for layer in decoder:
        total.forward(layer, 2 * n)
    for i, layer in enumerate(dis):
        total.forward(layer, 3 * n if i <= metric else m)

    for i, layer in enumerate(dis):  # L_GAN: weights of Dis, and the generated images
        if i > metric:
            total.backward(layer, m, dx_rows=m, dw=True)
        else:
            rows = m if i == metric else early
            total.backward(layer, rows, dx_rows=rows if i else 2 * n, dw=True)
    for i in range(metric + 1):  # L_like: from Dis_l of the reconstructions to the generated images
        rows = n if i == metric or not joint else 3 * n
        layer = dis[i]._replace(norm=False) if i == metric else dis[i]
        total.backward(layer, rows, dx_rows=rows if i else (2 * n if joint else n), dw=False)
    total.bytes += item * 3 * n * dis[metric].y  # the loss reads two sets of features and writes an error

    like = 2 * n if joint else n
    for i, layer in enumerate(decoder):
        total.backward(layer, 2 * n, dx_rows=2 * n if i else 0, dw=True)
        total.backward(layer, like, dx_rows=like if i else n, dw=False)
    for i, layer in enumerate(encoder):
        total.backward(layer, n, dx_rows=n if i else 0, dw=True)

    for layer in (*encoder, *decoder, *dis):  # RMSProp: w and its mean square read and written, the gradient read, the operand written
        elements = layer.weights + layer.others
        total.bytes += elements * (5 * WIDE) + (item * layer.weights if item != WIDE else 0)
    largest = encoder[3]
    total.bytes -= 2 * WIDE * largest.weights  # Enc's FC layer: its gradient is used where it is computed, never stored
    total.bytes += n * spec.image_size**2 * spec.channels * (1 + item)  # the batch, from bytes
    return total
