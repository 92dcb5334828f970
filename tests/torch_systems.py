"""The other systems of section 4 and the regressor in PyTorch with autograd: what `torch_reference` is for the VAE/GAN.

vae      Enc  L_prior + L_like     Dec  L_like     L_like = 1/2 |x - x~|^2 over pixels
vae-dis  the same, with L_like at Dis_l of a discriminator that is frozen and applied with its running statistics:
         1/2 sum_l w_l |Dis_l(x) - Dis_l(x~)|^2 over Dis_l (metric_weight) and its first convolution (metric_first)
gan      Dec  -L_GAN or the non-saturating loss     Dis  L_GAN     x_p = Dec(z_p), Dis sees [x; x_p]
"""

from __future__ import annotations

import torch
from torch_reference import Reference, numbers


class VAE(Reference):
    """Enc and Dec, each with the statistics of its batch; nothing of `objective` plays a part."""

    gated, losses = False, ("prior", "like")

    def compared(self, images, objective):
        """What L_like compares: [(weight, features), ...]."""
        return [(1.0, images)]

    def gradients(self, x, eps, z_p, objective, attributes=None):
        x, eps, a = self.inputs(x, eps, attributes)
        z, prior = self.encoded(x, eps, a)
        reconstruction = self.decoder(z, (len(x),), a)
        pairs = zip(self.compared(reconstruction, objective), self.compared(x, objective), strict=True)
        like = sum(0.5 * w * torch.sum((a - b.detach()) ** 2) for (w, a), (_, b) in pairs)
        enc, dec = self.of("encoder"), self.of("decoder")
        d_enc = torch.autograd.grad(prior + like, list(enc.values()), retain_graph=True)
        d_dec = torch.autograd.grad(like, list(dec.values()))
        return numbers([*enc, *dec], [*d_enc, *d_dec], {"prior": prior, "like": like})


class VAEDis(VAE):
    def __init__(self, parameters, statistics):
        super().__init__(parameters, statistics)
        self.fixed = ("discriminator",)

    def compared(self, images, objective):
        first = torch.relu(self.conv("discriminator/conv1", images, 1))
        return [(objective.metric_weight, self.features(images, (len(images),))), (objective.metric_first, first)]


class GAN(Reference):
    losses = ("gan_real", "gan_generated")

    def gradients(self, x, eps, z_p, objective, attributes=None):
        x, z_p, a = self.inputs(x, z_p, attributes)
        n = len(x)
        images = self.decoder(z_p, (n,), a)
        groups = (n, n) if objective.bn_groups == "split" else (2 * n,)  # the authors' one pass over Dis is the joint one
        logits = self.logits(self.features(self.shown(x, images), groups), groups, a)
        losses, l_gan, weight = self.judged(logits, n, objective)
        dec, dis = self.of("decoder"), self.of("discriminator")
        d_dis = torch.autograd.grad(l_gan, list(dis.values()), retain_graph=True)
        d_images = self.fooled(objective, losses, l_gan, weight, images)
        d_dec = torch.autograd.grad(images, list(dec.values()), d_images)
        return numbers([*dec, *dis], [*d_dec, *d_dis], losses)


class Regressor(Reference):
    """Enc's trunk and a linear head; 1/2 |y^ - y|^2, summed."""

    gated, losses = False, ("loss",)

    def outputs(self, x):
        """(FC's output after ReLU, the head's output)."""
        h = self.trunk("regressor", x)
        return h, self.linear("regressor/output", h)

    def gradients(self, x, targets):
        x, targets = self.inputs(x, targets)
        loss = 0.5 * torch.sum((self.outputs(x)[1] - targets) ** 2)
        return numbers(list(self.p), torch.autograd.grad(loss, list(self.p.values())), {"loss": loss})


class Classifier(Reference):
    """The trunk of Enc or Dis and a linear layer; cross-entropy of softmax, summed over the images with a label."""

    gated, losses = False, ("loss",)

    def outputs(self, x):
        """(the trunk's units, the logits)."""
        if "encoder/fc/weight" in self.p:
            h = self.trunk("encoder", x)
        else:
            blocks, size = self.blocks("discriminator", "conv"), x.shape[-1]
            self.metric = next(block for i, block in enumerate(blocks) if size >> i == 8)  # Dis_l is a map of 8 x 8
            h = self.units(self.features(x, (len(x),)), (len(x),))
        return h, self.linear("classifier/output", h)

    def gradients(self, x, labels):
        (x,), labels = self.inputs(x), torch.tensor(labels, dtype=torch.int64)
        loss = torch.nn.functional.cross_entropy(self.outputs(x)[1], labels, ignore_index=-1, reduction="sum")
        return numbers(list(self.p), torch.autograd.grad(loss, list(self.p.values())), {"loss": loss})


REFERENCES = {"vaegan": Reference, "vae": VAE, "vae-dis": VAEDis, "gan": GAN}
