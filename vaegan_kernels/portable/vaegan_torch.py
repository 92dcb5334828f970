"""A trained VAE/GAN as a PyTorch module. Needs PyTorch alone.

    model = load("exported")               # the folder with vaegan.json and vaegan.pt
    mu, logvar = model.encode(images)      # images: [N, C, S, S], float in [-1, 1]
    pictures = model.decode(mu)            # [N, C, S, S] in (-1, 1)
    p_real = model.discriminate(pictures)  # [N]

Images are NCHW, as PyTorch has them. Networks that the model does not have (a GAN's encoder, a VAE's discriminator) are None. A
conditional model's methods want the attributes too, [N, A], in the order of `sizes["attributes"]`. `load` puts the model into evaluation
mode: batch norm uses the running statistics of training. To train it call `model.train()`; they then follow the batches again.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

EPS_CONV, EPS_FC = 1e-6, 1e-5  # of batch norm


def conv_block(ci: int, co: int) -> nn.Sequential:
    """A 5x5 convolution of stride 2, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(ci, co, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(co, eps=EPS_CONV), nn.ReLU())


def upconv_block(ci: int, co: int) -> nn.Sequential:
    """A 5x5 fractional-strided convolution to twice the size, batch norm, ReLU."""
    conv = nn.ConvTranspose2d(ci, co, 5, stride=2, padding=2, output_padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(co, eps=EPS_CONV), nn.ReLU())


def fc_block(inputs: int, outputs: int) -> nn.Sequential:
    """A linear layer, batch norm, ReLU."""
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, eps=EPS_FC), nn.ReLU())


def joined(h: Tensor, attributes: Tensor | None) -> Tensor:
    """The attributes behind a layer's input."""
    return h if attributes is None else torch.cat([h, attributes], dim=1)


class Encoder(nn.Module):
    """Images [N, C, S, S] to the mean and log variance of q(z|x), each [N, latent]."""

    def __init__(self, sizes: dict):
        super().__init__()
        widths = [sizes["channels"], *sizes["encoder"]]
        self.convs = nn.Sequential(*(conv_block(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)))
        self.fc = fc_block(sizes["grid"] ** 2 * widths[-1] + len(sizes["attributes"]), sizes["encoder_units"])
        self.mu = nn.Linear(sizes["encoder_units"], sizes["latent"])
        self.logvar = nn.Linear(sizes["encoder_units"], sizes["latent"])

    def forward(self, x: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self.fc(joined(self.convs(x).flatten(1), attributes))
        return self.mu(h), self.logvar(h)


class Decoder(nn.Module):
    """z [N, latent] to images [N, C, S, S] in (-1, 1)."""

    def __init__(self, sizes: dict):
        super().__init__()
        widths = sizes["decoder"]
        self.start = (widths[0], sizes["grid"], sizes["grid"])
        self.fc = fc_block(sizes["latent"] + len(sizes["attributes"]), sizes["grid"] ** 2 * widths[0])
        self.ups = nn.Sequential(*(upconv_block(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)))
        self.image = nn.Conv2d(widths[-1], sizes["channels"], 5, padding=2)

    def forward(self, z: Tensor, attributes: Tensor | None = None) -> Tensor:
        h = self.fc(joined(z, attributes)).unflatten(1, self.start)
        return torch.tanh(self.image(self.ups(h)))


class Discriminator(nn.Module):
    """Images [N, C, S, S] to logits [N]: the log odds that an image is a real one."""

    def __init__(self, sizes: dict):
        super().__init__()
        widths = sizes["discriminator"]
        self.first = nn.Sequential(nn.Conv2d(sizes["channels"], widths[0], 5, padding=2), nn.ReLU())
        self.convs = nn.Sequential(*(conv_block(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True)))
        self.below = sizes["metric"] - 2  # blocks below the one whose convolution gives the features
        self.fc = fc_block(sizes["grid"] ** 2 * widths[-1] + len(sizes["attributes"]), sizes["discriminator_units"])
        self.output = nn.Linear(sizes["discriminator_units"], 1)

    def features(self, x: Tensor) -> Tensor:
        """Dis_l, the learned metric's features, [N, channels, 8, 8]: a convolution's output before its batch norm."""
        return self.metric_block()[0](self.convs[: self.below](self.first(x)))

    def metric_block(self) -> nn.Sequential:
        """The block whose convolution gives the features."""
        block = self.convs[self.below]
        assert isinstance(block, nn.Sequential)
        return block

    def forward(self, x: Tensor, attributes: Tensor | None = None) -> Tensor:
        h = self.metric_block()[1:](self.features(x))
        h = self.convs[self.below + 1 :](h)
        return self.output(self.fc(joined(h.flatten(1), attributes))).squeeze(1)


class VAEGAN(nn.Module):
    """The networks that ``sizes`` (of vaegan.json) names, and what they are for."""

    def __init__(self, sizes: dict):
        super().__init__()
        self.sizes = sizes
        has = sizes["networks"]
        self.encoder = Encoder(sizes) if "encoder" in has else None
        self.decoder = Decoder(sizes)
        self.discriminator = Discriminator(sizes) if "discriminator" in has else None

    def encode(self, images: Tensor, attributes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x), each [N, latent]."""
        assert self.encoder is not None, "the model has no encoder"
        return self.encoder(images, attributes)

    def decode(self, z: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Images of latents [N, latent]."""
        return self.decoder(z, attributes)

    def sample(self, count: int, attributes: Tensor | None = None) -> Tensor:
        """Images of z ~ N(0, I)."""
        weight = next(self.decoder.parameters())
        return self.decode(torch.randn(count, self.sizes["latent"], device=weight.device, dtype=weight.dtype), attributes)

    def reconstruct(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """Images of a sampled z = mu + sigma * eps of each image."""
        mu, logvar = self.encode(images, attributes)
        return self.decode(mu + torch.exp(0.5 * logvar) * torch.randn_like(mu), attributes)

    def discriminate(self, images: Tensor, attributes: Tensor | None = None) -> Tensor:
        """The probability [N] that each image is a real one."""
        assert self.discriminator is not None, "the model has no discriminator"
        return torch.sigmoid(self.discriminator(images, attributes))

    def features(self, images: Tensor) -> Tensor:
        """The learned metric's features."""
        assert self.discriminator is not None, "the model has no discriminator"
        return self.discriminator.features(images)


def load(folder: str | Path) -> VAEGAN:
    """The model of ``folder``'s vaegan.json and vaegan.pt, in evaluation mode."""
    folder = Path(folder)
    sizes = json.loads((folder / "vaegan.json").read_text(encoding="utf-8"))["sizes"]
    model = VAEGAN(sizes)
    model.load_state_dict(torch.load(folder / "vaegan.pt", map_location="cpu", weights_only=True))
    return model.eval()
