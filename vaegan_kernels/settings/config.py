"""One frozen dataclass with everything that can be tuned; each field also declares its flag, range and help.

`options.py` makes the command line from the fields, `resolve.py` fills them. A value that is out of range is a `UserError` that names
the flag.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kernels import Engine
from kernels.augmentation import AUTHORS, Augmentation
from kernels.open import IMPLEMENTATIONS
from models.networks import NETWORKS, NetworkSpec, network
from models.objective import CHOICES, Objective
from models.optimizers import OPTIMIZERS
from models.presets import PRESETS
from models.system import SYSTEMS
from models.vaegan import VAEGAN
from vaegan_kernels.settings.fields import check_value, coerce, flag, option
from vaegan_kernels.shell.cli import close_match
from vaegan_kernels.shell.errors import UserError

# What a resumed run may change: where and how it runs and what it reports, never the mathematics.
CHANGEABLE = {"data", "device", "engine", "threads", "log_every", "draw_every", "save_every", "reconstruct_from"}
CHANGEABLE |= {"animation", "curves", "tensorboard", "stream", "rank_timeout"}


@dataclass(frozen=True)
class Config:
    """Everything a run is made of. None means "not given": `resolve` or `with_data` puts a value there."""

    data: str | None = option(
        None, "Data", "folder of images, CelebA, LFW, CIFAR-10, STL-10 or (Fashion-)MNIST, or packed .h5 (default: built-in drawn faces)",
        metavar="PATH",
    )  # fmt: skip
    image_channels: int = option(3, "Data", "1 (grey) or 3 (colour)", choices=(1, 3))
    limit: int | None = option(None, "Data", "use at most N images, evenly taken from each split", minimum=1)
    fit: str = option("crop", "Data", "of a folder of images: cut out the centred square, or pad with white", choices=("crop", "pad"))
    data_seed: int = option(0, "Data", "seed of the built-in drawings", minimum=0)
    flip: bool = option(True, "Data", "mirror each training image left-right with probability 1/2")

    augment: bool = option(False, "Augmentation", "vary each training image, each time anew; the defaults are the authors' strengths")
    augment_translation: float = option(
        round(AUTHORS.translation, 6), "Augmentation", "shift, standard deviation in shares of the image's side", minimum=0.0, maximum=1.0
    )
    augment_scale: float = option(AUTHORS.scale, "Augmentation", "scale N(1, X)", minimum=0.0, maximum=0.15)
    augment_rotation: float = option(AUTHORS.rotation, "Augmentation", "rotation N(0, X) radians", minimum=0.0, maximum=3.2)
    augment_gamma: float = option(AUTHORS.gamma, "Augmentation", "exponent exp(N(X^2, X) / ln 2) of all channels", minimum=0.0, maximum=1.0)
    augment_contrast: float = option(
        AUTHORS.contrast, "Augmentation", "the same exponent of saturation and value", minimum=0.0, maximum=1.0
    )
    augment_hue: float = option(AUTHORS.hue, "Augmentation", "hue + N(0, X) turns of the colour circle", minimum=0.0, maximum=1.0)

    network: str = option("small32", "Network", "network family and pixels a side", choices=tuple(NETWORKS))
    encoder_units: int | None = option(None, "Network", "width of the encoder's top layer (default: the network's)", minimum=1)

    init: str | None = option(None, "Network", "begin with the weights of this run, its average where there is one", metavar="RUN")

    model: str = option(
        "vaegan", "System", "the VAE/GAN, a VAE (pixels), a VAE in a trained GAN's features, or a GAN; each has its part of the objective",
        choices=tuple(SYSTEMS),
    )  # fmt: skip
    gan: str | None = option(
        None, "System", "of vae-dis: the run or checkpoint of the gan or vaegan whose features are the metric", metavar="CHECKPOINT"
    )
    gan_steps: int | None = option(
        None, "System", "of vae-dis without --gan: steps of the GAN that is trained first, in the run's folder gan (default: --steps)",
        minimum=1,
    )  # fmt: skip
    conditional: bool = option(False, "System", "give all networks the attributes of each image (section 4.2 of the paper)")
    attributes: str | None = option(
        None, "System", "of --conditional: names of attributes, separated by commas (default: all that the data has)", metavar="A,B,..."
    )

    preset: str = option("quick", "Objective", "values for the objective and the optimiser", choices=tuple(PRESETS))
    gamma: float = option(Objective.gamma, "Objective", "weight of the feature likelihood in the decoder's update", above=0.0)
    real_weight: float = option(Objective.real_weight, "Objective", "weight of a real image in the discriminator", above=0.0, below=1.0)
    negatives: str = option(Objective.negatives, "Objective", "generated images the discriminator sees", choices=CHOICES["negatives"])
    bn_groups: str = option(Objective.bn_groups, "Objective", "samples that share batch-norm statistics", choices=CHOICES["bn_groups"])
    generator_loss: str = option(Objective.generator_loss, "Objective", "the decoder's GAN loss", choices=CHOICES["generator_loss"])
    gan_eps: float = option(Objective.gan_eps, "Objective", "added inside the GAN loss's logarithm", minimum=0.0, below=1.0)
    fixed_statistics: bool = option(
        Objective.fixed_statistics, "Objective", "the decoder's GAN loss takes the discriminator's batch statistics as constants"
    )  # fmt: skip
    gate: bool = option(Objective.gate, "Objective", "hold back the network that is too far ahead (equilibrium gate)")
    equilibrium: float = option(Objective.equilibrium, "Objective", "GAN loss that the gate aims at", above=0.0)
    margin: float = option(Objective.margin, "Objective", "distance from it at which the gate acts", above=0.0)
    metric_weight: float = option(
        Objective.metric_weight, "Objective", "of vae-dis: weight of the feature likelihood at the learned metric's layer", above=0.0
    )
    metric_first: float = option(
        Objective.metric_first, "Objective", "of vae-dis: weight of the feature likelihood at the discriminator's first layer", minimum=0.0
    )
    dis_noise: float = option(
        0.0, "Objective", "noise on the images that the discriminator is shown, standard deviation at the start; falls to 0", minimum=0.0,
        maximum=10.0,
    )  # fmt: skip

    optimizer: str = option("rmsprop", "Optimisation", "update rule", choices=OPTIMIZERS)
    steps: int | None = option(None, "Optimisation", "training steps; the schedule follows them", minimum=1)
    epochs: int | None = option(None, "Optimisation", "the same in passes over the training images", minimum=1)
    batch_size: int = option(64, "Optimisation", "images in a batch, of all processes together", minimum=1)
    accumulate: int = option(1, "Optimisation", "batches in a step: their gradients are added up before it updates", minimum=1)
    bn_sync: bool = option(True, "Optimisation", "of several processes: batch-norm statistics of the whole batch, not of each one's share")
    learning_rate: float = option(3e-4, "Optimisation", "applied learning rate at the start, at any batch size", above=0.0)
    learning_rate_stop: float = option(1e-5 / 64, "Optimisation", "applied learning rate at the end", minimum=0.0)
    enc_rate: float = option(1.0, "Optimisation", "learning rate of the encoder, as a factor of --learning-rate", above=0.0)
    dis_rate: float = option(1.0, "Optimisation", "the same of the discriminator", above=0.0)
    schedule_epochs: int = option(0, "Optimisation", "stairs of the learning rate (0: a new rate each step)", minimum=0)
    weight_decay: float = option(2e-5, "Optimisation", "weight decay, on the batch-summed gradient", minimum=0.0)
    average: float = option(
        0.0, "Optimisation", "decay of the moving average of all weights, which pictures are made with (0: none is kept)", minimum=0.0,
        below=1.0,
    )  # fmt: skip
    seed: int = option(0, "Optimisation", "seed of the initial weights, the shuffle and all noise", minimum=0, maximum=2**63 - 1)

    log_every: int = option(10, "Logging", "steps between lines of metrics.jsonl", minimum=1)
    draw_every: int | None = option(None, "Logging", "steps between picture grids (default: about 20 grids a run)", minimum=1)
    save_every: int | None = option(None, "Logging", "steps between checkpoints (default: about 20 a run)", minimum=1)
    reconstruct_from: str = option("sampled", "Logging", "decode z = mu + sigma*eps or mu alone", choices=("sampled", "mean"))
    animation: bool = option(True, "Logging", "write convergence.gif")
    curves: bool = option(True, "Logging", "write curves.png")
    tensorboard: bool = option(False, "Logging", "also write TensorBoard files (needs: pip install tensorboardX)")

    device: str = option("auto", "Device", "where to compute", choices=("auto", "cpu", "cuda"))
    precision: str = option(
        "auto", "Device", "number format; bf16 and tf32 need a GPU", choices=("auto", "bf16", "tf32", "float32", "float64")
    )
    engine: str = option(
        "auto", "Device", "of the CPU: compiled C++ (float32), NumPy, or the first where there is a compiler",
        choices=IMPLEMENTATIONS,
    )  # fmt: skip
    stream: bool | None = option(
        None, "Device", "on a GPU: read images ahead of the steps that see them; a CPU always reads them where they are (default: where "
        "not all fit on the GPU)",
    )  # fmt: skip
    threads: int | None = option(None, "Device", "CPU threads (default: all cores)", minimum=1, maximum=4096)
    rank_timeout: float = option(300.0, "Device", "of several processes: seconds that one waits for the others before all end", above=0.0)

    def validate(self) -> None:
        """Raise `UserError` naming the flag, what was got and what is expected, for the first bad value."""
        for field in FIELDS.values():
            check_value(field, getattr(self, field.name))
        if self.learning_rate_stop > self.learning_rate:
            raise UserError(
                f"--learning-rate-stop: got {self.learning_rate_stop:g}, expected at most --learning-rate ({self.learning_rate:g})"
            )
        if self.margin > self.equilibrium:
            raise UserError(f"--margin: got {self.margin:g}, expected at most --equilibrium ({self.equilibrium:g})")
        for name in ("gan", "gan_steps"):
            if getattr(self, name) is not None and self.model != "vae-dis":
                raise UserError(f"{flag(name)}: only with --model vae-dis, the model is {self.model}; leave it out")
        if self.gan is not None and self.gan_steps is not None:
            raise UserError("--gan and --gan-steps: both given; with --gan no GAN is trained, leave one of them out")
        for name in Augmentation._fields:
            if not self.augment and getattr(self, f"augment_{name}") != FIELDS[f"augment_{name}"].default:
                raise UserError(f"{flag(f'augment_{name}')}: only with --augment; add it, or leave this out")
        if self.attributes is not None and not self.conditional:
            raise UserError("--attributes: only with --conditional; add it, or leave --attributes out")

    @property
    def step_images(self) -> int:
        """Images of a step."""
        return self.batch_size * self.accumulate

    @property
    def batch_in_words(self) -> str:
        """``"64"``, or with several batches a step ``"64 x --accumulate 4"``."""
        return f"{self.batch_size} x --accumulate {self.accumulate}" if self.accumulate > 1 else str(self.batch_size)

    @property
    def condition(self) -> tuple[str, ...]:
        """Names of the attributes that the networks are given; empty for an unconditional run, or while they are not known yet."""
        return tuple(self.attributes.split(",")) if self.conditional and self.attributes else ()

    @property
    def augmentation(self) -> Augmentation | None:
        """How training images are varied; None: not at all."""
        return Augmentation(*(getattr(self, f"augment_{name}") for name in Augmentation._fields)) if self.augment else None

    def system(self, engine: Engine) -> VAEGAN:
        """The networks of this configuration on ``engine``, at their start."""
        rates = {"encoder": self.enc_rate, "discriminator": self.dis_rate}
        return VAEGAN(
            engine, self.network_spec(), system=self.model, seed=self.seed, optimizer=self.optimizer, weight_decay=self.weight_decay,
            batches=self.accumulate, average=self.average > 0, rates={name: rate for name, rate in rates.items() if rate != 1.0},
        )  # fmt: skip

    def objective(self) -> Objective:
        """The `Objective` of this configuration."""
        names = [field.name for field in dataclasses.fields(Objective)]
        return Objective(**{name: getattr(self, name) for name in names})

    def network_spec(self) -> NetworkSpec:
        """The `NetworkSpec` of this configuration."""
        units, given = self.encoder_units, len(self.condition)
        return network(self.network, channels=self.image_channels, encoder_units=units, attributes=given)

    def parameter_counts(self) -> dict[str, int]:
        """Values of each network that the system has."""
        counts = self.network_spec().parameter_counts()
        return {name: counts[name] for name in SYSTEMS[self.model].networks}

    def with_data(self, train_images: int) -> Config:
        """The configuration with ``steps``, ``draw_every``, ``save_every`` and, where a GAN comes first, ``gan_steps`` filled in.

        Raises `UserError` if a batch needs more than the ``train_images`` there are.
        """
        if self.step_images > train_images:
            raise UserError(
                f"--batch-size: got {self.batch_in_words}, but the training split has only {train_images} images; "
                "use a smaller batch or more images"
            )
        per_epoch = train_images // self.step_images
        steps = self.epochs * per_epoch if self.epochs is not None else self.steps if self.steps is not None else 20 * per_epoch
        every = round_down(max(1, steps // 20))
        trains_gan = self.model == "vae-dis" and self.gan is None
        return dataclasses.replace(
            self, steps=steps, draw_every=self.draw_every or every, save_every=self.save_every or min(every, 500),
            gan_steps=(self.gan_steps or steps) if trains_gan else None,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """A dictionary that JSON can hold; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "configuration") -> Config:
        """Read what `to_dict` wrote. ``source`` is the name that errors give; unknown or ill-typed entries are `UserError`."""
        check_names(values, source)
        try:
            config = cls(**{name: coerce(FIELDS[name], value) for name, value in values.items()})
            config.validate()
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        return config


FIELDS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Config)}


def check_names(values: Any, source: str) -> None:
    """Raise `UserError` if ``values`` is no dictionary of known fields."""
    if not isinstance(values, Mapping):
        raise UserError(f"{source}: got {type(values).__name__}, expected a JSON object of settings")
    for name in values:
        if name not in FIELDS:
            raise UserError(f"{source}: unknown setting {name!r}{close_match(str(name), FIELDS)}")


def round_down(value: int) -> int:
    """``value`` with one significant digit, 1, 2 or 5: 37 → 20."""
    power = 10 ** (len(str(value)) - 1)
    return power * max(digit for digit in (1, 2, 5) if digit * power <= value)
