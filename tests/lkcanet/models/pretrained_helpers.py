"""A tiny trained network under a name, in a folder of the test's own."""

from pathlib import Path
from typing import Any

import torch

from lkcanet.models import LKCANet, save_model

NANOMETRES = [400.0 + 20 * band for band in range(6)]
CARD: dict[str, Any] = {
    "data": {"name": "random numbers", "terms": "none", "citation": "nobody, 2026"},
    "protocol": "none: a test",
    "scores": {"mean": {"mpsnr": 31.5, "sam": 4.25}, "images": {"first": {"mpsnr": 31.5, "sam": 4.25}}},
    "training": {"commit": "0", "command": "lkca train", "machine": "this one", "hours": 0.1},
    "test_looks": 1,
}


def tiny(bands: int = 6, scale: int = 2, seed: int = 0) -> LKCANet:
    """A network whose image is not the bicubic one."""
    torch.manual_seed(seed)
    model = LKCANet(bands, scale, 16, 1, 1, reduction=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def checkpoint(path: Path, model: LKCANet | None = None, peak: float | None = 1000.0, **extra: Any) -> Path:
    """The file of a tiny network, with the record of a training."""
    scene = {"name": "first", "shape": [6, 32, 32], "wavelengths": NANOMETRES}
    save_model(model or tiny(), path, extra={"peak": peak, "scene": scene, **extra})
    return path
