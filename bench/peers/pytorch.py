"""One training step of the same VAE/GAN (same networks, batch norm groups, losses, weights, RMSProp) in PyTorch, twice.

(`bench.peers.compiled` has the third: `Lean` with all that PyTorch offers to make it fast.)

`Plain` is written as public VAE/GAN code is: three losses, each with zero_grad and a full backward(retain_graph=True).
`Lean` is what one writes in PyTorch to waste nothing: each network applied once, only the gradients that are needed, the
same passes as in `models.algorithm1`. Both are compared with this repository's gradients in tests/test_peers.py.

Joint batch norm (Dec over [z; z_p], Dis over [x; x̃; x_p]); negatives "both"; minimax loss with log(p + eps); no gate.
Weights: a real image weighs r in Dis, each generated one (1 - r) / 2, which Dec does not see: as every generated image has
the same weight, dividing it out at the image is dividing Dec's loss by it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.peers.networks import Networks
from models.objective import Objective

WEIGHT_DECAY = 2e-5


def optimizer(module: torch.nn.Module, lr: float, foreach: bool | None = None, capturable: bool = False) -> torch.optim.Optimizer:
    """RMSProp as in the paper's code; weight decay on convolution and FC weights but not on the latent heads.

    ``capturable``: with its state on the device, so that a CUDA graph can hold the update.
    """
    heads = {id(p) for name in ("mu", "logvar") for p in getattr(module, name, torch.nn.Module()).parameters()}
    decayed = [p for p in module.parameters() if p.ndim > 1 and id(p) not in heads]
    others = [p for p in module.parameters() if p.ndim == 1 or id(p) in heads]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others}]
    return torch.optim.RMSprop(groups, lr=lr, alpha=0.9, eps=1e-8, foreach=foreach, capturable=capturable)


class Peer:
    """Networks, three optimisers, and a `step`."""

    def __init__(
        self, networks: Networks, *, gamma: float = Objective.gamma, real_weight: float = Objective.real_weight,
        gan_eps: float = Objective.gan_eps, lr: float = 3e-4,
    ):  # fmt: skip
        self.networks = networks.train()
        self.gamma, self.gan_eps = gamma, gan_eps
        self.real_weight, self.weight = real_weight, (1 - real_weight) / 2
        self.modules = (networks.encoder, networks.decoder, networks.discriminator)
        self.optimizers = [optimizer(m, lr, self.foreach) for m in self.modules]

    foreach: bool | None = None

    def gradients(self, x: Tensor, eps: Tensor, z_p: Tensor) -> list[list[Tensor]]:
        """Gradients of Enc, Dec and Dis, each in the order of the module's parameters. x: [N, C, S, S]."""
        raise NotImplementedError

    def step(self, x: Tensor, eps: Tensor, z_p: Tensor) -> None:
        """One training step; running statistics move too."""
        for module, opt, gradients in zip(self.modules, self.optimizers, self.gradients(x, eps, z_p), strict=True):
            for p, g in zip(module.parameters(), gradients, strict=True):
                p.grad = g
            opt.step()
            opt.zero_grad(set_to_none=True)

    def gan_loss(self, logits: Tensor, n: int) -> Tensor:
        """Dis's weighted loss of [real; generated; generated]."""
        p = torch.sigmoid(logits.flatten())
        real, generated = -torch.log(p[:n] + self.gan_eps).sum(), -torch.log(1 - p[n:] + self.gan_eps).sum()
        return self.real_weight * real + self.weight * generated

    @staticmethod
    def kl(mu: Tensor, logvar: Tensor) -> Tensor:
        return 0.5 * torch.sum(mu**2 + logvar.exp() - 1 - logvar)


class Plain(Peer):
    """Three losses over one graph; every backward goes through everything it can reach."""

    def gradients(self, x: Tensor, eps: Tensor, z_p: Tensor) -> list[list[Tensor]]:
        enc, dec, dis = self.modules
        n = len(x)
        mu, logvar = enc(x)
        z = mu + torch.exp(0.5 * logvar) * eps
        generated = dec(torch.cat([z, z_p]))
        features, logits = dis(torch.cat([x, generated]))

        like = 0.5 * F.mse_loss(features[n : 2 * n], features[:n].detach(), reduction="sum")
        gan = self.gan_loss(logits, n)
        loss_enc, loss_dec, loss_dis = self.kl(mu, logvar) + like, self.gamma * like - gan / self.weight, gan
        found = []
        for module, loss in ((enc, loss_enc), (dec, loss_dec), (dis, loss_dis)):
            for opt in self.optimizers:
                opt.zero_grad()
            loss.backward(retain_graph=loss is not loss_dis)
            # Steps come after the last backward: PyTorch refuses a backward through weights that have changed.
            found.append([p.grad for p in module.parameters()])
        return found


class Lean(Peer):
    """Each network applied once; Dis's error from L_GAN serves its weights and the images; two errors through Dec."""

    foreach = True

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """mu and log variance."""
        mu, logvar = self.networks.encoder(x)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Images of latents."""
        images: Tensor = self.networks.decoder(z)
        return images

    def trunk(self, images: Tensor) -> Tensor:
        """The layers before Dis_l."""
        dis = self.networks.discriminator
        hidden: Tensor = dis.lower(dis.first(images))
        return hidden

    def top(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Dis_l, and L_GAN of [real; generated; generated]."""
        dis = self.networks.discriminator
        features = dis.metric(hidden)
        return features, self.gan_loss(dis.head(features), len(hidden) // 3)

    def gradients(self, x: Tensor, eps: Tensor, z_p: Tensor) -> list[list[Tensor]]:
        p_enc, p_dec, p_dis = (list(m.parameters()) for m in self.modules)
        n, grad, metric = len(x), torch.autograd.grad, self.networks.discriminator.metric

        mu, logvar = self.encode(x)
        latent = [t.detach().requires_grad_() for t in (mu, logvar)]
        z = latent[0] + torch.exp(0.5 * latent[1]) * eps
        z_leaf = z.detach().requires_grad_()
        generated = self.decode(torch.cat([z_leaf, z_p]))
        images = generated.detach().requires_grad_()
        hidden = self.trunk(torch.cat([x, images]))
        features, gan = self.top(hidden)

        *d_dis, d_gan = grad(gan, [*p_dis, images], retain_graph=True)
        with torch.no_grad():
            # L_like's error is 0 for all but the reconstructions, until batch norm spreads it
            e_like = features[n : 2 * n] - features[:n]
            e_hidden = torch.zeros_like(hidden)
            weight = metric.weight.to(e_like.dtype)
            e_hidden[n : 2 * n] = torch.nn.grad.conv2d_input(hidden[n : 2 * n].shape, weight, e_like, metric.stride, metric.padding)
        del features, gan
        (d_like,) = grad(hidden, images, e_hidden)
        del hidden
        (dz,) = grad(generated, z_leaf, d_like, retain_graph=True)
        d_dec = grad(generated, p_dec, d_like.mul_(self.gamma).sub_(d_gan, alpha=1 / self.weight))
        del generated
        d_latent = grad([z, self.kl(*latent)], latent, [dz, torch.ones_like(dz[0, 0])])
        d_enc = grad([mu, logvar], p_enc, d_latent)
        return [list(d_enc), list(d_dec), list(d_dis)]
