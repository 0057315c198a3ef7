"""Examples of `spectral_losses`: see `lkops.testing`."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core import examples as common


def draw(draw: common.Draw, case: common.Example) -> common.Arguments:
    prediction, target = draw(*case.shape), draw(*case.shape)
    target = prediction + 0.5 * target
    if case.sizes.get("empty_spectra"):
        prediction[:, :, 0, 0] = 0
        target[:, :, 1, 1] = 0
        prediction[:, :, 2, 2] = target[:, :, 2, 2] = 0
        prediction[:, :, 3, 3] = 1e-9
    return {"prediction": prediction, "target": target}


def _magnitude(x: Tensor) -> Tensor:
    here = x[:, 1:, 1:, 1:]
    steps = (here - x[:, :-1, 1:, 1:], here - x[:, 1:, :-1, 1:], here - x[:, 1:, 1:, :-1])
    return torch.sqrt(steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2 + 1e-6)


def eager(prediction: Tensor, target: Tensor, *, floor: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Half precision is widened by hand: in bfloat16 a cosine rounds to 1, whose arccos has no slope."""
    prediction, target = (x.float() if x.element_size() == 2 else x for x in (prediction, target))
    cosine = F.cosine_similarity(prediction, target, dim=1, eps=1e-12)
    angle, distance = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6)), 1 - cosine
    if floor > 0:
        weight = F.relu(1 - floor**2 / target.detach().square().mean(1))
        angle, distance = weight * angle, weight * distance
    gradient = F.l1_loss(_magnitude(prediction), _magnitude(target))
    return F.l1_loss(prediction, target), angle.mean() / torch.pi, distance.mean(), gradient


def work(case: common.Example, size: int) -> common.Work:
    """Both cubes read; about 15 multiply-adds a value."""
    n, c, h, w = case.shape
    values = n * c * h * w
    return common.Work(2 * values * size, vector=15 * values)


EMPTY = {"empty_spectra": True}
EXAMPLES = common.Examples(
    draw,
    eager,
    work,
    (
        *common.SHAPES,
        common.ONE_CHANNEL,
        common.example("empty_spectra", 2, 5, 6, 7, sizes=EMPTY),
        common.example("many_bands", 1, 130, 9, 8),
        common.example("floor", 2, 5, 6, 7, floor=0.8),  # some pixels are below it, some above
        common.example("floor_and_empty_spectra", 2, 5, 6, 7, floor=0.5, sizes=EMPTY),
        common.example("several_tiles", 1, 6, 3, 72),
        common.example("several_tiles_unaligned", 1, 5, 3, 67),
        common.example("megabytes", 1, 4, 1000, 1000, use="large"),
        *common.benchmarks(),
        common.Example("batch_64", (16, common.CHANNELS, 64, 64), use="benchmark"),
        common.Example("patches_64", (32, common.CHANNELS, 64, 64), use="benchmark"),
        common.Example("patches_128", (32, common.CHANNELS, 128, 128), use="benchmark"),
        common.Example("image_256", (1, common.CHANNELS, 256, 256), use="benchmark"),
        common.Example("image_512", (1, common.CHANNELS, 512, 512), use="benchmark"),
        common.Example("odd", common.ODD, use="benchmark"),
    ),
    images=("prediction", "target"),
    data=("target",),
    kinks=1e-5,
)
