"""The options of a training run."""

import math
from dataclasses import dataclass

# Of a scene that is divided by its peak: measured, see bench/results/floor.md. Deep water lies at or below it.
FLOOR = 0.01
PRECISIONS = ("32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How to train; the defaults are the paper's, where it says (LKCA-Net, section IV-B).

    Training ends after `steps`, or `epochs`, or `max_minutes`, whichever comes first; with neither it runs 100 epochs.
    The learning rate falls as half a cosine from the first to the last value over that course. With `max_minutes` it
    follows the clock where that is ahead of the steps, so that a run which the time ends has cooled down as well; its
    weights then depend on the speed of the machine.

    Attributes:
        steps, epochs: one of them, or none. An epoch is every training patch once in each of its `orientations`.
        max_minutes: of training, without loading.
        batch_size: patches of a step.
        optimizer: "adam", the paper's; or "muon": orthogonal steps for the weights between features, Adam for the
            others, see `lkcanet.training.muon.Muon`.
        learning_rate, final_learning_rate: of the optimizer, first and last.
        whiten: standard deviation of the features that the network's first conv starts with, uncorrelated over the
            training images, see `lkcanet.training.whitening`; 0.1 is a good one. None leaves that conv as it is.
        warmup: steps over which the learning rate rises from 0 to what the cosine asks for.
        ema: decay, above 0 and below 1, of an exponential moving average of the weights, see
            `lkcanet.training.average.Average`: what is validated and what checkpoints hold is the average then. None
            keeps none.
        sam_weight, gradient_weight: of the H loss.
        psnr_weight: of the logarithm of the error of each image and band, which training minimises besides, see
            `lkcanet.objectives.losses.log_rmse`; validation goes by H all the same.
        floor: of the target's spectra, in units of the scene divided by its peak: a pixel's angle counts by how far the
            root mean square over its bands is above this, see `lkops.spectral_losses`. 0 is the paper's loss, which
            gives up the values of dark pixels (water, shadow) for their angle.
        augment: the eight rotations and reflections.
        mirror: the reflections among them; without, a patch comes in its four rotations.
        psf_sigma: width in pixels of the Gaussian point spread function that the LR images are made with, see
            `lkcanet.data.multispectral.gaussian_downsample`; None makes them by the MATLAB-exact bicubic.
        snr, msi_snr: dB of white Gaussian noise that is added to the LR images, and to those of a multispectral image,
            in training only, drawn anew in every step; None adds none.
        impulses: share of the values of the LR images that random ones replace, in training only, see
            `lkcanet.data.multispectral.with_impulses`; None replaces none.
        gradient_clip: largest norm of all gradients together; None does not clip.
        precision: as Lightning's Trainer takes it: "32-true", "bf16-mixed", ...
        validate_every: steps between validations; each one writes checkpoints.
        monitor: what makes a checkpoint the best: "loss" or "mpsnr" of the validation block. The loss weighs spectra
            too; MPSNR alone has picked checkpoints of worse SAM.
        log_every: steps between lines of the log.
        seed: of the order of patches and of drop path, which follow from it and the number of the epoch and the step.
            On the CPU one seed gives one result, bit for bit, for one number of threads and without `max_minutes`.
        workers: processes that load patches; 0 loads in this one, which is enough for a scene in memory.
        threads: that torch computes with; None leaves torch's number.
        device: "auto", "cpu" or "cuda".
        devices: processes that train together, a device each (on the CPU: a process each, through gloo). Each takes
            its part of every batch, and gradients are averaged: `batch_size` is that of all together, so that the
            result is that of one device but for rounding and the draws of drop path. The processes are spawned: a
            script that trains on several needs `if __name__ == "__main__":`.
        tensorboard: write TensorBoard's event files into `out_dir`/tensorboard too.
        progress: show it on stderr: a bar on a terminal, a line a validation elsewhere.

    Raises:
        ValueError: a value that is out of range, named.
    """

    steps: int | None = None
    epochs: int | None = None
    max_minutes: float | None = None
    batch_size: int = 32
    optimizer: str = "adam"
    learning_rate: float = 2e-3
    final_learning_rate: float = 2e-4
    whiten: float | None = None
    warmup: int = 0
    ema: float | None = None
    sam_weight: float = 0.5
    gradient_weight: float = 0.1
    psnr_weight: float = 0.0
    floor: float = FLOOR
    augment: bool = True
    mirror: bool = True
    psf_sigma: float | None = None
    snr: float | None = None
    msi_snr: float | None = None
    impulses: float | None = None
    gradient_clip: float | None = None
    precision: str = "32-true"
    validate_every: int = 200
    monitor: str = "loss"
    log_every: int = 10
    seed: int = 0
    workers: int = 0
    threads: int | None = None
    device: str = "auto"
    devices: int = 1
    tensorboard: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"give steps or epochs, not both; got steps {self.steps} and epochs {self.epochs}")
        for name, least in {"steps": 1, "epochs": 1, "batch_size": 1, "validate_every": 1, "log_every": 1}.items():
            self._whole(name, least)
        for name in ("seed", "workers", "warmup"):
            self._whole(name, 0)
        self._whole("threads", 1)
        self._whole("devices", 1)
        if self.batch_size % self.devices:
            raise ValueError(
                f"batch_size must be a multiple of devices, {self.devices}, which share a batch; got {self.batch_size}"
            )
        for name in ("learning_rate", "final_learning_rate", "max_minutes", "gradient_clip", "psf_sigma", "whiten"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and 0 < value < math.inf):
                raise ValueError(f"{name} must be a positive finite number, got {value!r}")
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate must be at most learning_rate, {self.learning_rate:g}; "
                f"got {self.final_learning_rate:g}"
            )
        if self.ema is not None and not (_is_number(self.ema) and 0 < self.ema < 1):
            raise ValueError(f"ema must be a number above 0 and below 1, such as 0.999; got {self.ema!r}")
        if self.impulses is not None and not (_is_number(self.impulses) and 0 < self.impulses < 1):
            raise ValueError(f"impulses must be a share above 0 and below 1, got {self.impulses!r}")
        for name in ("snr", "msi_snr"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and abs(value) < math.inf):
                raise ValueError(f"{name} must be a finite number of dB, got {value!r}")
        for name in ("sam_weight", "gradient_weight", "psnr_weight", "floor"):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value < math.inf):
                raise ValueError(f"{name} must be a finite number, 0 or more, got {value!r}")
        for name, choices in {
            "precision": PRECISIONS,
            "optimizer": ("adam", "muon"),
            "monitor": ("mpsnr", "loss"),
            "device": ("auto", "cpu", "cuda"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {getattr(self, name)!r}")

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is None and name in ("steps", "epochs", "threads"):
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number, {least} or more, got {value!r}")

    @property
    def orientations(self) -> int:
        """In how many orientations a patch comes: 8, 4 without `mirror`, 1 without `augment`."""
        return (8 if self.mirror else 4) if self.augment else 1

    def total_steps(self, samples: int) -> int | None:
        """Steps of a run over this many samples an epoch; None where only the clock ends it."""
        if self.steps is not None:
            return self.steps
        if self.epochs is None and self.max_minutes is not None:
            return None
        return math.ceil((self.epochs or 100) * samples / self.batch_size)

    def rate(self, fraction: float, step: int | None = None) -> float:
        """The learning rate after this part of the course, 0 to 1; with the rise of the first steps where `step` tells
        how many were taken."""
        fall = 0.5 * (1 + math.cos(math.pi * min(max(fraction, 0.0), 1.0)))
        rise = 1.0 if step is None or step >= self.warmup else (step + 1) / self.warmup
        return rise * (self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fall)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
