"""Table 1 as `torch.nn` modules, as PyTorch users write it (NCHW), and weights moved in from this repository's layouts.

Sizes are read off the arrays of a model's state, so one class serves all networks.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def conv_block(w: tuple[int, ...]) -> nn.Sequential:
    """conv↓ BN ReLU of a weight [5, 5, Ci, Co]."""
    conv = nn.Conv2d(w[2], w[3], w[0], stride=2, padding=w[0] // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(w[3], eps=1e-6, momentum=0.1), nn.ReLU(inplace=True))


def upconv_block(w: tuple[int, ...]) -> nn.Sequential:
    """upconv↑ BN ReLU of a weight [5, 5, Co, Ci]."""
    conv = nn.ConvTranspose2d(w[3], w[2], w[0], stride=2, padding=w[0] // 2, output_padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(w[2], eps=1e-6, momentum=0.1), nn.ReLU(inplace=True))


def fc_block(w: tuple[int, ...]) -> nn.Sequential:
    """FC BN ReLU of a weight [in, out]."""
    return nn.Sequential(nn.Linear(w[0], w[1], bias=False), nn.BatchNorm1d(w[1], eps=1e-5, momentum=0.1), nn.ReLU(inplace=True))


def numbered(shapes: dict[str, tuple[int, ...]], prefix: str) -> list[tuple[int, ...]]:
    """The weights prefix1, prefix2, … that there are."""
    names = (f"{prefix}{i}/weight" for i in range(1, 10))
    return [shapes[name] for name in names if name in shapes]


class Encoder(nn.Module):
    """Images [N, C, S, S] to mu and log variance [N, latent]."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        super().__init__()
        self.convs = nn.Sequential(*(conv_block(w) for w in numbered(shapes, "encoder/conv")))
        self.fc = fc_block(shapes["encoder/fc/weight"])
        self.mu = nn.Linear(*shapes["encoder/mu/weight"])
        self.logvar = nn.Linear(*shapes["encoder/logvar/weight"])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.fc(self.convs(x).flatten(1))
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    """z [N, latent] to images [N, C, S, S] in (-1, 1)."""

    def __init__(self, shapes: dict[str, tuple[int, ...]]):
        super().__init__()
        self.fc = fc_block(shapes["decoder/fc/weight"])
        self.channels = shapes["decoder/up1/weight"][3]
        self.size = math.isqrt(shapes["decoder/fc/weight"][1] // self.channels)
        self.ups = nn.Sequential(*(upconv_block(w) for w in numbered(shapes, "decoder/up")))
        w = shapes["decoder/image/weight"]
        self.image = nn.Conv2d(w[2], w[3], w[0], padding=w[0] // 2)

    def forward(self, z: Tensor) -> Tensor:
        h = self.fc(z).view(len(z), self.channels, self.size, self.size)
        return torch.tanh(self.image(self.ups(h)))


class Discriminator(nn.Module):
    """Images [N, C, S, S] to Dis_l (before its batch norm) and logits [N, 1]."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], metric: int):
        super().__init__()
        w, *others = numbered(shapes, "discriminator/conv")
        self.first = nn.Sequential(nn.Conv2d(w[2], w[3], w[0], padding=w[0] // 2), nn.ReLU(inplace=True))
        blocks = [conv_block(other) for other in others]
        self.lower = nn.Sequential(*blocks[: metric - 2])
        self.metric = blocks[metric - 2][0]
        self.upper = nn.Sequential(*blocks[metric - 2][1:], *blocks[metric - 1 :])
        self.fc = fc_block(shapes["discriminator/fc/weight"])
        self.output = nn.Linear(*shapes["discriminator/output/weight"])

    def features(self, x: Tensor) -> Tensor:
        """Dis_l."""
        return self.metric(self.lower(self.first(x)))

    def head(self, features: Tensor) -> Tensor:
        """Logits from Dis_l."""
        return self.output(self.fc(self.upper(features).flatten(1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return features, self.head(features)

    def convolutions(self) -> list[nn.Module]:
        """conv1, conv2, …, each followed by its batch norm (None for conv1)."""
        modules = [*self.lower, nn.Sequential(self.metric, self.upper[0]), *self.upper[2:]]
        return [nn.Sequential(self.first[0]), *modules]


class Networks(nn.Module):
    """Enc, Dec and Dis with the sizes of `parameters` ({"encoder/conv1/weight": array, ...}).

    ``metric``: which of Dis's convolutions gives Dis_l; None: the one whose map is 8 x 8, as in Table 1's networks.
    """

    def __init__(self, parameters: dict[str, np.ndarray], dtype: torch.dtype = torch.float32, metric: int | None = None):
        super().__init__()
        shapes = {name: array.shape for name, array in parameters.items()}
        self.encoder, self.decoder = Encoder(shapes), Decoder(shapes)
        last = len(numbered(shapes, "discriminator/conv"))  # its map has as many rows as Dec's first image, 8 or 4
        self.discriminator = Discriminator(shapes, metric=metric or (last if self.decoder.size == 8 else last - 1))
        self.to(dtype)

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], metric: int) -> Networks:
        """With the weights and running statistics of a `VAEGAN.state_arrays`, as NumPy arrays."""
        parts = [{k.removeprefix(p): a for k, a in state.items() if k.startswith(p)} for p in ("parameters/", "statistics/")]
        networks = cls(parts[0], metric=metric)
        networks.load(*parts)
        return networks

    def named(self) -> dict[str, nn.Module]:
        """This repository's block names, each with the module (a layer, or a layer and its batch norm) of that block."""
        e, d, s = self.encoder, self.decoder, self.discriminator
        blocks: dict[str, Any] = {f"encoder/conv{i + 1}": m for i, m in enumerate(e.convs)}
        blocks |= {"encoder/fc": e.fc, "encoder/mu": e.mu, "encoder/logvar": e.logvar, "decoder/fc": d.fc}
        blocks |= {f"decoder/up{i + 1}": m for i, m in enumerate(d.ups)} | {"decoder/image": d.image}
        blocks |= {f"discriminator/conv{i + 1}": m for i, m in enumerate(s.convolutions())}
        return blocks | {"discriminator/fc": s.fc, "discriminator/output": s.output}

    def tensors(self) -> dict[str, tuple[Tensor, bool]]:
        """{name of ours: (parameter or running statistic, whether it is a parameter)}."""
        found = {}
        for block, module in self.named().items():
            layer, norm = (module[0], module[1:2]) if isinstance(module, nn.Sequential) else (module, [])
            found[f"{block}/weight"] = (layer.weight, True)
            if layer.bias is not None:
                found[f"{block}/bias"] = (layer.bias, True)
            for bn in norm:
                found[f"{block}/gamma"], found[f"{block}/beta"] = (bn.weight, True), (bn.bias, True)
                found[f"{block}/running_mean"] = (bn.running_mean, False)
                found[f"{block}/running_var"] = (bn.running_var, False)
        return found

    def load(self, parameters: dict[str, np.ndarray], statistics: dict[str, np.ndarray]) -> None:
        """Copy arrays of this repository's layouts in."""
        with torch.no_grad():
            for name, (tensor, is_parameter) in self.tensors().items():
                array = np.asarray((parameters if is_parameter else statistics)[name])
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(self._to_torch(name, array))))

    def gradients(self, tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
        """Arrays of this repository's layouts from tensors of PyTorch's, by name."""
        return {name: self._from_torch(name, tensor.detach().numpy()) for name, tensor in tensors.items()}

    # A fully connected layer beside an image lists its units as (rows, columns, channels) here, (channels, rows, columns) there.

    def _to_torch(self, name: str, a: np.ndarray) -> np.ndarray:
        if a.ndim == 4:
            return a.transpose(3, 2, 0, 1)  # [KH, KW, Ci, Co] -> [Co, Ci, KH, KW]; upconv [KH, KW, Co, Ci] -> [Ci, Co, KH, KW]
        size = self.decoder.size
        if name.startswith("decoder/fc/"):
            a = a.reshape(*a.shape[:-1], size, size, -1)
            a = np.moveaxis(a, -1, -3).reshape(*a.shape[:-3], -1)
        elif name in ("encoder/fc/weight", "discriminator/fc/weight"):
            a = np.moveaxis(a.reshape(size, size, -1, a.shape[1]), 2, 0).reshape(-1, a.shape[1])
        return a.T if a.ndim == 2 else a

    def _from_torch(self, name: str, a: np.ndarray) -> np.ndarray:
        if a.ndim == 4:
            return a.transpose(2, 3, 1, 0)
        a, size = a.T if a.ndim == 2 else a, self.decoder.size
        if name.startswith("decoder/fc/"):
            a = np.moveaxis(a.reshape(*a.shape[:-1], -1, size, size), -3, -1).reshape(*a.shape[:-1], -1)
        elif name in ("encoder/fc/weight", "discriminator/fc/weight"):
            a = np.moveaxis(a.reshape(-1, size, size, a.shape[1]), 0, 2).reshape(-1, a.shape[1])
        return a
