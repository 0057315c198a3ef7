"""A small network that takes an MSI, and an objective that has a teacher and a weight of its own to train."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import lkops
from lkcanet.data.multispectral import simulate_msi
from lkcanet.data.responses import named_response
from lkcanet.data.scenes import Scene
from lkcanet.models import Network, register
from lkcanet.objectives import Batch, Objective
from lkcanet.training import TrainResult, train

from .training_helpers import options_of, split_of


class ToyMsiNetwork(Network):
    """bicubic(lowres) + conv1x1(d) + gain * conv3x3(gelu(conv3x3(bicubic(lowres), d))), d the detail of the MSI"""

    kind = "toy_msi"

    def __init__(self, bands: int, msi_bands: int, scale: int, features: int = 8) -> None:
        super().__init__()
        self.config = {"bands": bands, "msi_bands": msi_bands, "scale": scale, "features": features}
        self.bands, self.msi_bands, self.scale = bands, msi_bands, scale
        self.head = nn.Conv2d(bands + msi_bands, features, 3, padding=1)
        self.inject = nn.Conv2d(msi_bands, bands, 1)
        self.tail = nn.Conv2d(features, bands, 3, padding=1)
        self.unused = nn.Linear(2, 2)  # as the branches that a published student has and never runs
        self.register_buffer("gain", torch.tensor(0.25), persistent=False)
        for parameter in (*self.tail.parameters(), *self.inject.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, lowres: Tensor, msi: Tensor) -> Tensor:
        bicubic = lkops.bicubic_upsample(lowres, scale=self.scale)
        small = torch.nn.functional.avg_pool2d(msi, self.scale)
        detail = msi - lkops.bicubic_upsample(small, scale=self.scale)
        features = torch.nn.functional.gelu(self.head(torch.cat((bicubic, detail), 1)))
        return bicubic + self.inject(detail) + self.gain * self.tail(features)

    def fold(self) -> "ToyMsiNetwork":
        return copy.deepcopy(self).eval()

    def macs(self, height: int, width: int) -> int:
        pixels = height * width * self.scale**2
        c, b = self.config["features"], self.msi_bands
        return pixels * (9 * c * (2 * self.bands + b) + b * self.bands)


class ToyDistillation(Objective):
    """L1 of the network and of a teacher, weighed by a learnable number that is kept between 0.1 and 0.9, and the L1
    between them."""

    terms = ("l1", "teacher_l1", "between", "weight", "half")

    def __init__(self, teacher: Network) -> None:
        super().__init__()
        self.teacher, self.weight = teacher, nn.Parameter(torch.tensor(0.899))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("steps", torch.tensor(0.0))

    def forward(self, model: Network, batch: Batch, passes: float) -> dict[str, Tensor | float]:
        ours, theirs = model(batch.lowres, batch.msi), self.teacher(batch.lowres, batch.msi)
        l1, teacher = ((image - batch.target).abs().mean() for image in (ours, theirs))
        between = (ours - theirs.detach()).abs().mean()
        loss = self.weight * l1 - self.weight.square() / 2 + teacher + 0.1 * between
        terms = {"loss": loss, "l1": l1, "teacher_l1": teacher, "between": between, "weight": self.weight * 1}
        return {**terms, "half": 0.5 * passes}

    def after_step(self) -> None:
        self.steps += 1
        self.weight.data.clamp_(0.1, 0.9)

    def companions(self) -> dict[str, Network]:
        return {"teacher": self.teacher}

    def facts(self) -> dict[str, Any]:
        return {"objective": {"name": "ToyDistillation", "teacher": self.teacher.config}}


register("toy_msi", ToyMsiNetwork, fuses=True)


def toy(seed: int = 0, features: int = 8) -> ToyMsiNetwork:
    torch.manual_seed(seed)
    return ToyMsiNetwork(8, 2, 2, features)


def toy_objective(seed: int = 1) -> ToyDistillation:
    return ToyDistillation(toy(seed, 12))


def msi_of(scene: Scene) -> Scene:
    return simulate_msi(scene, named_response("average-2"))


def run_toy(
    scene: Scene,
    out: Path,
    model: Network | None = None,
    objective: Objective | None = None,
    *,
    resume: bool = False,
    **options: Any,
) -> TrainResult:
    given = options_of(**{"psf_sigma": 1.0, "snr": 35.0, "msi_snr": 40.0, "monitor": "mpsnr", **options})
    split = split_of(scene)
    model, objective = model or toy(), objective or toy_objective()
    return train(model, scene, split, given, out, msi=msi_of(scene), objective=objective, resume=resume)
