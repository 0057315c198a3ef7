"""SPAN: Wan et al., Swift Parameter-free Attention Network for Efficient Super-Resolution (CVPRW 2024), the winner of
NTIRE 2024's challenge on efficient super-resolution."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .edsr import RGB_MEAN
from .parts import conv


class Conv3XC(nn.Module):
    """A 3x3 conv that is trained as 1x1 -> 3x3 -> 1x1, `gain` times as wide inside, beside a 1x1 conv.

    There is nothing between the three, so in evaluation mode they are one conv, which `eval` makes from the weights
    that there are (the authors make it in every call; here it costs a call nothing). Training pads the image and not
    what the first conv makes of it, so that the two forms agree at the border too.
    """

    def __init__(self, inputs: int, outputs: int, gain: int = 2) -> None:
        super().__init__()
        self.skip = nn.Conv2d(inputs, outputs, 1)
        self.expand = nn.Conv2d(inputs, inputs * gain, 1)
        self.middle = nn.Conv2d(inputs * gain, outputs * gain, 3)
        self.squeeze = nn.Conv2d(outputs * gain, outputs, 1)
        self.merged = conv(inputs, outputs).requires_grad_(False)
        self.merge()

    @torch.no_grad()
    def merge(self) -> None:
        """Write the weight of all four into that of evaluation."""
        first, last = self.expand.weight[:, :, 0, 0], self.squeeze.weight[:, :, 0, 0]
        weight = torch.einsum("om,mhij,hc->ocij", last, self.middle.weight, first)
        weight[:, :, 1, 1] += self.skip.weight[:, :, 0, 0]
        biases = [each.bias for each in (self.skip, self.expand, self.middle, self.squeeze)]
        skip, expand, middle, squeeze = (bias for bias in biases if bias is not None)
        inside = self.middle.weight.sum((2, 3)) @ expand + middle
        assert self.merged.bias is not None
        self.merged.weight.copy_(weight)
        self.merged.bias.copy_(last @ inside + squeeze + skip)

    def train(self, mode: bool = True) -> "Conv3XC":
        if not mode:
            self.merge()
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            padded = F.pad(x, (1, 1, 1, 1))
            return self.squeeze(self.middle(self.expand(padded))) + self.skip(x)
        return self.merged(x)


class SPAB(nn.Module):
    """Three convs; what they say of each value, through a sigmoid about 0, weighs it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv3XC(channels, channels)
        self.conv2 = Conv3XC(channels, channels)
        self.conv3 = Conv3XC(channels, channels)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The result, and the first conv's activation."""
        first = self.act(self.conv1(x))
        out = self.conv3(self.act(self.conv2(first)))
        attention = torch.sigmoid(out) - 0.5
        return (out + x) * attention, first


class SPAN(nn.Module):
    """SPAN; the defaults are the x4 with 48 channels: 426 K parameters in evaluation form. NTIRE's has 28: 151 K."""

    def __init__(self, scale: int = 4, channels: int = 48, mean: tuple[float, ...] = RGB_MEAN) -> None:
        super().__init__()
        bands = len(mean)
        self.mean = torch.tensor(mean).view(1, bands, 1, 1)  # no buffer: moved with the image, as the authors do
        self.conv1 = Conv3XC(bands, channels)
        self.blocks = nn.ModuleList(SPAB(channels) for _ in range(6))
        self.conv2 = Conv3XC(channels, channels)
        self.conv_cat = nn.Conv2d(4 * channels, channels, 1)
        self.upsample = nn.Sequential(conv(channels, bands * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean.type_as(x)
        x = (x - self.mean) * 255.0
        features = self.conv1(x)
        y, _ = self.blocks[0](features)
        shallow = y
        for block in list(self.blocks)[1:]:
            y, first = block(y)
        y = self.conv2(y)
        return self.upsample(self.conv_cat(torch.cat([features, y, shallow, first], 1)))
