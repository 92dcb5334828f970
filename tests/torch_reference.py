"""The VAE/GAN and Algorithm 1 once more, in PyTorch with autograd: the independent check of `models`.

float64, NCHW inside. Written from the paper and the facts about the authors' code; it shares no code and no structure
with `models`: gradients come from autograd through the whole graph, and every size is read off the parameters' shapes.

N images x; z = mu + sigma eps; x̃ = Dec(z); x_p = Dec(z_p). What each network minimises:

    Enc  L_prior + L_like                 Dec  gamma L_like - L_GAN (or + the non-saturating loss)       Dis  L_GAN

Conditional networks (section 4.2) read an image's attribute vector behind the input of Enc's FC layer, of Dis's FC layer and behind z.
The systems compared with the VAE/GAN, and the regressor, are in `torch_systems`.
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

    gated, losses = True, ("prior", "like", "gan_real", "gan_generated")

    def __init__(self, parameters, statistics):
        self.p = {name: torch.tensor(np.asarray(a, np.float64), requires_grad=True) for name, a in parameters.items()}
        self.running = {name: torch.tensor(np.asarray(a, np.float64)) for name, a in statistics.items()}
        self.seen = []  # (block, mean, variance) of each batch norm of the last forward, groups averaged by size
        self.fixed = ()  # networks whose batch norms use running statistics
        self.constant = False  # whether batch statistics count as constants
        self.noise = None  # [3 N, C, S, S], on the images [x; x_p; x̃] that Dis is shown for L_GAN
        if "decoder/fc/weight" not in parameters:  # the regressor and classifiers
            return
        # Dec starts from S/8 x S/8 maps of as many channels as its first upconv reads: weight [5, 5, Co, Ci].
        channels = parameters["decoder/up1/weight"].shape[3]
        self.start = math.isqrt(parameters["decoder/fc/weight"].shape[1] // channels)
        # Dis_l is a map of 8 x 8: Dis's third stride-2 convolution at 64 pixels, its second in the authors' 32-pixel networks.
        last = len(self.blocks("discriminator", "conv"))
        self.metric = f"discriminator/conv{last if self.start == 8 else last - 1}"

    def blocks(self, network, kind):
        """["encoder/conv1", "encoder/conv2", ...], as many as there are."""
        return [f"{network}/{kind}{i}" for i in range(1, 10) if f"{network}/{kind}{i}/weight" in self.p]

    def of(self, network):
        """The parameters of one network, by name."""
        return {name: p for name, p in self.p.items() if name.startswith(network + "/")}

    # Layers

    def batch_norm(self, block, x, groups, eps):
        assert sum(groups) == len(x)
        axes = (0,) if x.ndim == 2 else (0, 2, 3)
        shape = (1, -1) if x.ndim == 2 else (1, -1, 1, 1)
        gamma, beta = self.p[f"{block}/gamma"].reshape(shape), self.p[f"{block}/beta"].reshape(shape)
        if block.split("/")[0] in self.fixed:
            mean, var = (self.running[f"{block}/{name}"].reshape(shape) for name in ("running_mean", "running_var"))
            return (x - mean) / torch.sqrt(var + eps) * gamma + beta
        normed, mean_sum, var_sum = [], 0.0, 0.0
        for part in torch.split(x, list(groups)):
            mean, var = part.mean(axes), part.var(axes, unbiased=False)
            mean, var = (mean.detach(), var.detach()) if self.constant else (mean, var)
            normed.append((part - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + eps))
            mean_sum, var_sum = mean_sum + len(part) * mean.detach(), var_sum + len(part) * var.detach()
        if not self.constant:
            self.seen.append((block, mean_sum / len(x), var_sum / len(x)))
        return torch.cat(normed) * gamma + beta

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

    def trunk(self, network, x, a=None):
        """Enc up to its heads; the regressor's trunk is the same."""
        groups, h = (len(x),), x
        for block in self.blocks(network, "conv"):
            h = F.relu(self.batch_norm(block, self.conv(block, h, 2), groups, EPS_CONV))
        h = h.permute(0, 2, 3, 1).reshape(len(x), -1)  # flattened as rows, columns, channels
        h = h if a is None else torch.cat([h, a], dim=1)
        return F.relu(self.batch_norm(f"{network}/fc", self.linear(f"{network}/fc", h), groups, EPS_FC))

    def encoder(self, x, a=None):
        h = self.trunk("encoder", x, a)
        return self.linear("encoder/mu", h), self.linear("encoder/logvar", h)

    def decoder(self, z, groups, a=None):
        """Dec's images; `a` [N, A]: one row for each image of every part of z, in the same order in each."""
        h = z if a is None else torch.cat([z, a.repeat(len(z) // len(a), 1)], dim=1)
        h = F.relu(self.batch_norm("decoder/fc", self.linear("decoder/fc", h), groups, EPS_FC))
        h = h.reshape(len(z), self.start, self.start, -1).permute(0, 3, 1, 2)
        for block in self.blocks("decoder", "up"):
            h = F.relu(self.batch_norm(block, self.upconv(block, h), groups, EPS_CONV))
        return torch.tanh(self.conv("decoder/image", h, 1))

    def features(self, images, groups):
        """Dis_l: the output of the metric's convolution before its batch norm."""
        h = F.relu(self.conv("discriminator/conv1", images, 1))
        for block in self.blocks("discriminator", "conv")[1:]:
            h = self.conv(block, h, 2)
            if block == self.metric:
                return h
            h = F.relu(self.batch_norm(block, h, groups, EPS_CONV))
        raise AssertionError("no such layer")

    def units(self, features, groups, a=None):
        """Dis from Dis_l to its FC layer; `a` as in `decoder`."""
        blocks = self.blocks("discriminator", "conv")
        h = F.relu(self.batch_norm(self.metric, features, groups, EPS_CONV))
        for block in blocks[blocks.index(self.metric) + 1 :]:
            h = F.relu(self.batch_norm(block, self.conv(block, h, 2), groups, EPS_CONV))
        h = h.permute(0, 2, 3, 1).reshape(len(h), -1)
        h = h if a is None else torch.cat([h, a.repeat(len(h) // len(a), 1)], dim=1)
        return F.relu(self.batch_norm("discriminator/fc", self.linear("discriminator/fc", h), groups, EPS_FC))

    def logits(self, features, groups, a=None):
        """The rest of Dis, from Dis_l; `a` as in `decoder`."""
        return self.linear("discriminator/output", self.units(features, groups, a)).reshape(-1)

    # Algorithm 1

    def passes(self, x, z, z_p, objective, a):
        """Every forward of a step: (Dis_l of x̃, Dis_l of x, images Dis judges as generated, logits of [x; them])."""
        n, both = len(x), objective.negatives == "both"
        if objective.bn_groups == "authors":  # repeated passes; L_GAN's first (running statistics take both, in this order)
            generated = self.decoder(torch.cat([z, z_p]), (2 * n,), a) if both else self.decoder(z_p, (n,), a)
            m = n + len(generated)
            logits = self.judge(lambda: self.logits(self.features(self.shown(x, generated), (m,)), (m,), a))
            reconstruction = self.decoder(z, (n,), a)
            like = self.features(torch.cat([reconstruction, x]), (2 * n,))
            return like[:n], like[n:], generated, logits
        joint = objective.bn_groups == "joint"
        assert joint or objective.bn_groups == "split"
        generated = self.decoder(torch.cat([z, z_p]), (2 * n,) if joint else (n, n), a)
        features = []

        def logits():
            features.append(self.features(self.shown(x, generated), (3 * n,) if joint else (n, n, n)))
            judged = features[-1] if both else torch.cat([features[-1][:n], features[-1][2 * n :]])  # x̃ only as far as Dis_l
            return self.logits(judged, (len(judged),) if joint else (n,) * (len(judged) // n), a)

        logits = self.judge(logits)
        return features[-1][n : 2 * n], features[-1][:n], generated, logits

    def judge(self, logits):
        """The logits of L_GAN's pass, a function; and in ``self.again`` those of the same pass with constant batch statistics."""
        self.constant = True
        self.again = logits()
        self.constant = False
        return logits()

    def shown(self, x, generated):
        """What Dis is shown for L_GAN: [x; generated], with noise where there is any. generated: [x̃; x_p] or x_p."""
        images, n = torch.cat([x, generated]), len(x)
        if self.noise is None:
            return images
        parts = torch.split(self.noise, n)
        return images + torch.cat([parts[0], parts[2], parts[1]] if len(generated) > n else list(parts[:2]))

    def inputs(self, x, *others):
        """float64 tensors of a step's arrays (None stays None), the images NCHW."""
        self.seen = []
        x, *others = (None if a is None else torch.tensor(np.asarray(a, np.float64)) for a in (x, *others))
        return x.permute(0, 3, 1, 2).contiguous(), *others

    def encoded(self, x, eps, a):
        """(z, L_prior)."""
        mu, logvar = self.encoder(x, a)
        return mu + torch.exp(0.5 * logvar) * eps, 0.5 * torch.sum(mu**2 + torch.exp(logvar) - 1 - logvar)

    def judged(self, logits, n, objective):
        """({name: loss}, L_GAN as a loss, weight of one generated image) of the logits of n real and some generated images."""
        p, e, n_generated = torch.sigmoid(logits), objective.gan_eps, len(logits) - n
        real, generated = -torch.log(p[:n] + e).sum(), -torch.log(1 - p[n:] + e).sum()
        generator = -torch.log(p[n:] + e).sum()
        weight = (1 - objective.real_weight) * n / n_generated  # of one generated image; a real one weighs real_weight
        self.counts = (n, n_generated)
        losses = {"gan_real": real, "gan_generated": generated, "generator": generator}
        return losses, objective.real_weight * real + weight * generated, weight

    def fooled(self, objective, losses, l_gan, weight, images):
        """The error that Dec gets at its images: minimax or non-saturating."""
        if objective.fixed_statistics:
            losses, l_gan, weight = self.judged(self.again, self.counts[0], objective)
        if objective.generator_loss == "minimax":  # the weights go through Dis and are divided out at the image
            (d_images,) = torch.autograd.grad(l_gan, images, retain_graph=True)
            return -d_images / weight
        assert objective.generator_loss == "non-saturating"
        return torch.autograd.grad(losses["generator"], images, retain_graph=True)[0]

    def gradients(self, x, eps, z_p, objective, attributes=None):
        """({name: gradient}, losses): raw summed gradients, no weight decay, no gate."""
        x, eps, z_p, a = self.inputs(x, eps, z_p, attributes)
        z, prior = self.encoded(x, eps, a)
        prediction, target, images, logits = self.passes(x, z, z_p, objective, a)
        like = 0.5 * torch.sum((prediction - target.detach()) ** 2)
        losses, l_gan, weight = self.judged(logits, len(x), objective)

        enc, dec, dis = (self.of(network) for network in NETWORKS)
        d_enc = torch.autograd.grad(prior + like, list(enc.values()), retain_graph=True)
        d_dis = torch.autograd.grad(l_gan, list(dis.values()), retain_graph=True)
        d_images = self.fooled(objective, losses, l_gan, weight, images)
        d_like = torch.autograd.grad(objective.gamma * like, list(dec.values()), retain_graph=True)
        d_gan = torch.autograd.grad(images, list(dec.values()), d_images)
        d_dec = [a + b for a, b in zip(d_like, d_gan, strict=True)]
        return numbers([*enc, *dec, *dis], [*d_enc, *d_dec, *d_dis], {"prior": prior, "like": like, **losses})


def numbers(names, gradients, losses):
    """({name: gradient}, {name: loss}) in NumPy."""
    named = {name: g.detach().numpy() for name, g in zip(names, gradients, strict=True)}
    return named, {name: float(loss.detach()) for name, loss in losses.items()}


class Trainer:
    """Training steps on a `Reference`: RMSProp, weight decay, the equilibrium gate, running statistics."""

    def __init__(self, reference, weight_decay):
        self.reference, self.weight_decay = reference, weight_decay
        self.mean_square = {name: torch.zeros_like(p) for name, p in reference.p.items()}
        self.gates = []  # (Dec updated, Dis updated) of each step

    def gate(self, losses, objective):
        """Which networks are updated; systems with no GAN have no gate, and Enc is never gated."""
        update = SimpleNamespace(encoder=True, decoder=True, discriminator=True, regressor=True, classifier=True)
        if self.reference.gated:
            (n, m), margin = self.reference.counts, objective.margin
            means = (losses["gan_real"] / n, losses["gan_generated"] / m)
            update.decoder = max(means) <= objective.equilibrium + margin
            update.discriminator = min(means) >= objective.equilibrium - margin
            if not objective.gate or not (update.decoder or update.discriminator):
                update.decoder = update.discriminator = True
            self.gates.append((update.decoder, update.discriminator))
        return update

    def step(self, x, eps, z_p, objective, lr, attributes=None):
        gradients, losses = self.reference.gradients(x, eps, z_p, objective, attributes)
        update = self.gate(losses, objective)
        self.apply({name: g for name, g in gradients.items() if getattr(update, name.split("/")[0])}, lr)
        return losses

    def apply(self, gradients, lr):
        """RMSProp's update of the parameters that have a gradient here; running statistics of the batch norms last seen."""
        for name, gradient in gradients.items():
            p, decayed = self.reference.p[name], name.endswith("/weight") and name not in ("encoder/mu/weight", "encoder/logvar/weight")
            with torch.no_grad():
                g = torch.tensor(gradient) + (self.weight_decay if decayed else 0.0) * p
                self.mean_square[name] = 0.9 * self.mean_square[name] + 0.1 * g**2
                p -= lr * g / (torch.sqrt(self.mean_square[name]) + 1e-8)
        for block, mean, var in self.reference.seen:
            for name, value in (("running_mean", mean), ("running_var", var)):
                running = self.reference.running[f"{block}/{name}"]
                running.mul_(KEPT).add_((1 - KEPT) * value)
