"""The VAE/GAN and Algorithm 1 once more, in PyTorch with autograd: the independent check of `models`.

float64, NCHW inside. Written from the paper and the facts about the authors' code; it shares no code and no structure
with `models`: gradients come from autograd through the whole graph, and every size is read off the parameters' shapes.

N images x; z = mu + sigma eps; x̃ = Dec(z); x_p = Dec(z_p). What each network descends:

    Enc  L_prior + L_like                 Dec  gamma L_like - L_GAN (or + the non-saturating loss)       Dis  L_GAN
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

EPS_CONV, EPS_FC, KEPT = 1e-6, 1e-5, 0.9  # batch norm's epsilons; the fraction a running statistic keeps
NETWORKS = ("encoder", "decoder", "discriminator")


class Reference:
    """Networks built of `parameters` {"encoder/conv1/weight": array, ...} and running `statistics` {"encoder/conv1/running_mean": ...}."""

    def __init__(self, parameters, statistics):
        self.p = {name: torch.tensor(np.asarray(a, np.float64), requires_grad=True) for name, a in parameters.items()}
        self.running = {name: torch.tensor(np.asarray(a, np.float64)) for name, a in statistics.items()}
        self.seen = []  # (block, mean, variance) of each batch norm of the last forward, groups averaged by size
        # Dec starts from S/8 x S/8 maps of as many channels as its first upconv reads: weight [5, 5, Co, Ci].
        channels = parameters["decoder/up1/weight"].shape[3]
        self.start = math.isqrt(parameters["decoder/fc/weight"].shape[1] // channels)
        # Dis_l is Dis's third stride-2 convolution at 64 pixels, its second in the 32-pixel networks.
        self.metric = "conv4" if 8 * self.start == 64 else "conv3"

    def of(self, network):
        """The parameters of one network, by name."""
        return {name: p for name, p in self.p.items() if name.startswith(network + "/")}

    # Layers

    def batch_norm(self, block, x, groups, eps):
        assert sum(groups) == len(x)
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        shape = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
        normed, mean_sum, var_sum = [], 0.0, 0.0
        for part in torch.split(x, list(groups)):
            mean, var = part.mean(axes), part.var(axes, unbiased=False)
            normed.append((part - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + eps))
            mean_sum, var_sum = mean_sum + len(part) * mean.detach(), var_sum + len(part) * var.detach()
        self.seen.append((block, mean_sum / len(x), var_sum / len(x)))
        return torch.cat(normed) * self.p[f"{block}/gamma"].reshape(shape) + self.p[f"{block}/beta"].reshape(shape)

    def conv(self, block, x, stride):
        w = self.p[f"{block}/weight"]  # [KH, KW, Ci, Co]
        return F.conv2d(x.contiguous(), w.permute(3, 2, 0, 1).contiguous(), self.p.get(f"{block}/bias"), stride, (w.shape[0] - 1) // 2)

    def upconv(self, block, x):
        w = self.p[f"{block}/weight"]  # [KH, KW, Co, Ci]
        w, padding = w.permute(3, 2, 0, 1).contiguous(), (w.shape[0] - 1) // 2
        return F.conv_transpose2d(x.contiguous(), w, None, 2, padding, output_padding=1)

    def linear(self, block, x):
        y = x @ self.p[f"{block}/weight"]
        return y + self.p[f"{block}/bias"] if f"{block}/bias" in self.p else y

    # Networks

    def encoder(self, x):
        groups, h = (len(x),), x
        for name in ("conv1", "conv2", "conv3"):
            block = f"encoder/{name}"
            h = F.relu(self.batch_norm(block, self.conv(block, h, 2), groups, EPS_CONV))
        h = h.permute(0, 2, 3, 1).reshape(len(x), -1)  # flattened as rows, columns, channels
        h = F.relu(self.batch_norm("encoder/fc", self.linear("encoder/fc", h), groups, EPS_FC))
        return self.linear("encoder/mu", h), self.linear("encoder/logvar", h)

    def decoder(self, z, groups):
        h = F.relu(self.batch_norm("decoder/fc", self.linear("decoder/fc", z), groups, EPS_FC))
        h = h.reshape(len(z), self.start, self.start, -1).permute(0, 3, 1, 2)
        for name in ("up1", "up2", "up3"):
            block = f"decoder/{name}"
            h = F.relu(self.batch_norm(block, self.upconv(block, h), groups, EPS_CONV))
        return torch.tanh(self.conv("decoder/image", h, 1))

    def features(self, images, groups):
        """Dis_l: the output of the metric's convolution before its batch norm."""
        h = F.relu(self.conv("discriminator/conv1", images, 1))
        for name in ("conv2", "conv3", "conv4"):
            block = f"discriminator/{name}"
            h = self.conv(block, h, 2)
            if name == self.metric:
                return h
            h = F.relu(self.batch_norm(block, h, groups, EPS_CONV))
        raise AssertionError("no such layer")

    def logits(self, features, groups):
        """The rest of Dis, from Dis_l."""
        block = f"discriminator/{self.metric}"
        h = F.relu(self.batch_norm(block, features, groups, EPS_CONV))
        if self.metric == "conv3":
            block = "discriminator/conv4"
            h = F.relu(self.batch_norm(block, self.conv(block, h, 2), groups, EPS_CONV))
        h = h.permute(0, 2, 3, 1).reshape(len(h), -1)
        h = F.relu(self.batch_norm("discriminator/fc", self.linear("discriminator/fc", h), groups, EPS_FC))
        return self.linear("discriminator/output", h).reshape(-1)

    # Algorithm 1

    def passes(self, x, z, z_p, objective):
        """Every forward of a step: (Dis_l of x̃, Dis_l of x, images Dis judges as generated, logits of [x; them])."""
        n, both = len(x), objective.negatives == "both"
        if objective.bn_groups == "authors":  # repeated passes
            reconstruction = self.decoder(z, (n,))
            like = self.features(torch.cat([reconstruction, x]), (2 * n,))
            generated = self.decoder(torch.cat([z, z_p]), (2 * n,)) if both else self.decoder(z_p, (n,))
            m = n + len(generated)
            logits = self.logits(self.features(torch.cat([x, generated]), (m,)), (m,))
            return like[:n], like[n:], generated, logits
        joint = objective.bn_groups == "joint"
        assert joint or objective.bn_groups == "split"
        generated = self.decoder(torch.cat([z, z_p]), (2 * n,) if joint else (n, n))
        features = self.features(torch.cat([x, generated]), (3 * n,) if joint else (n, n, n))
        judged = features if both else torch.cat([features[:n], features[2 * n :]])  # x̃ only as far as Dis_l
        logits = self.logits(judged, (len(judged),) if joint else (n,) * (len(judged) // n))
        return features[n : 2 * n], features[:n], generated, logits

    def gradients(self, x, eps, z_p, objective):
        """({name: gradient}, losses): raw summed gradients, no weight decay, no gate."""
        x, eps, z_p = (torch.tensor(np.asarray(a, np.float64)) for a in (x, eps, z_p))
        x, n, e = x.permute(0, 3, 1, 2).contiguous(), len(x), objective.gan_eps
        self.seen = []
        mu, logvar = self.encoder(x)
        z = mu + torch.exp(0.5 * logvar) * eps
        prediction, target, images, logits = self.passes(x, z, z_p, objective)

        prior = 0.5 * torch.sum(mu**2 + torch.exp(logvar) - 1 - logvar)
        like = 0.5 * torch.sum((prediction - target.detach()) ** 2)
        p = torch.sigmoid(logits)
        real, generated = -torch.log(p[:n] + e).sum(), -torch.log(1 - p[n:] + e).sum()
        generator = -torch.log(p[n:] + e).sum()
        n_generated = len(logits) - n
        weight = (1 - objective.real_weight) * n / n_generated  # of one generated image; a real one weighs real_weight
        l_gan = objective.real_weight * real + weight * generated

        enc, dec, dis = (self.of(network) for network in NETWORKS)
        d_enc = torch.autograd.grad(prior + like, list(enc.values()), retain_graph=True)
        d_dis = torch.autograd.grad(l_gan, list(dis.values()), retain_graph=True)
        if objective.generator_loss == "minimax":  # the weights go through Dis and are divided out at the image
            (d_images,) = torch.autograd.grad(l_gan, images, retain_graph=True)
            d_images = -d_images / weight
        else:
            assert objective.generator_loss == "non-saturating"
            (d_images,) = torch.autograd.grad(generator, images, retain_graph=True)
        d_like = torch.autograd.grad(objective.gamma * like, list(dec.values()), retain_graph=True)
        d_gan = torch.autograd.grad(images, list(dec.values()), d_images)
        d_dec = [a + b for a, b in zip(d_like, d_gan, strict=True)]

        named = dict(zip([*enc, *dec, *dis], [*d_enc, *d_dec, *d_dis], strict=True))
        losses = {"prior": prior, "like": like, "gan_real": real, "gan_generated": generated, "generator": generator}
        self.counts = (n, n_generated)
        return {k: v.detach().numpy() for k, v in named.items()}, {k: float(v.detach()) for k, v in losses.items()}


class Trainer:
    """Training steps on a `Reference`: RMSProp, weight decay, the equilibrium gate, running statistics."""

    def __init__(self, reference, weight_decay):
        self.reference, self.weight_decay = reference, weight_decay
        self.mean_square = {name: torch.zeros_like(p) for name, p in reference.p.items()}
        self.gates = []  # (Dec updated, Dis updated) of each step

    def gate(self, losses, objective):
        (n, m), low = self.reference.counts, objective.equilibrium - objective.margin
        means, high = (losses["gan_real"] / n, losses["gan_generated"] / m), objective.equilibrium + objective.margin
        update = SimpleNamespace(encoder=True, decoder=max(means) <= high, discriminator=min(means) >= low)
        if not objective.gate or not (update.decoder or update.discriminator):
            update.decoder = update.discriminator = True
        self.gates.append((update.decoder, update.discriminator))
        return update

    def step(self, x, eps, z_p, objective, lr):
        gradients, losses = self.reference.gradients(x, eps, z_p, objective)
        update = self.gate(losses, objective)
        for name, p in self.reference.p.items():
            if not getattr(update, name.split("/")[0]):
                continue
            decayed = name.endswith("/weight") and name not in ("encoder/mu/weight", "encoder/logvar/weight")
            with torch.no_grad():
                g = torch.tensor(gradients[name]) + (self.weight_decay if decayed else 0.0) * p
                self.mean_square[name] = 0.9 * self.mean_square[name] + 0.1 * g**2
                p -= lr * g / (torch.sqrt(self.mean_square[name]) + 1e-8)
        for block, mean, var in self.reference.seen:
            for name, value in (("running_mean", mean), ("running_var", var)):
                running = self.reference.running[f"{block}/{name}"]
                running.mul_(KEPT).add_((1 - KEPT) * value)
        return losses
