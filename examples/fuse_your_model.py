"""A model as anyone would write it, made faster: `python examples/fuse_your_model.py`."""

import torch
from torch import Tensor, nn

import lkops


class Residual(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class SuperResolver(nn.Module):
    """A small EDSR with a depthwise conv, as anyone would write it; it knows nothing of lkops."""

    def __init__(self, bands: int = 31, channels: int = 64, blocks: int = 4, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(bands, channels, 3, padding=1)
        self.body = nn.Sequential(*(Residual(channels) for _ in range(blocks)))
        self.wide = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.up = nn.Sequential(nn.Conv2d(channels, bands * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        image = nn.functional.interpolate(x, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return self.up(self.wide(self.body(self.head(x)))) + image


def main() -> nn.Module:
    """Fuse it: outputs and gradients are compared first, then every part is timed, and what is not faster stays."""
    torch.manual_seed(0)
    model, example = SuperResolver(), torch.rand(1, 31, 32, 32)
    fused, report = lkops.fuse(model, example)
    print(report)
    assert (
        fused.state_dict().keys() == model.state_dict().keys()
    )  # the same parameters, shared: train, save, load as before
    return fused


if __name__ == "__main__":
    main()
