"""Parts that most networks of the field share, in their usual form."""

from torch import Tensor, nn


def conv(inputs: int, outputs: int, kernel: int = 3, dilation: int = 1) -> nn.Conv2d:
    """A conv that keeps the size of the image."""
    return nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)


class Upsampler(nn.Sequential):
    """Conv and PixelShuffle for each factor of two (Shi et al. 2016, as EDSR has them)."""

    def __init__(self, scale: int, channels: int) -> None:
        if scale < 1 or scale & (scale - 1):
            raise ValueError(f"scale must be a power of two, got {scale}")
        steps: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            steps += [conv(channels, 4 * channels), nn.PixelShuffle(2)]
        super().__init__(*steps)


class ChannelAttention(nn.Module):
    """Squeeze and excitation with 1x1 convs (Hu et al. 2018, as RCAN has it)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.pool(x))


class ResidualBlock(nn.Module):
    """x + res_scale * conv(ReLU(conv(x))), with channel attention behind the second conv where `reduction` is given."""

    def __init__(self, channels: int, kernel: int = 3, res_scale: float = 1.0, reduction: int | None = None) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(channels, channels, kernel), nn.ReLU(True), conv(channels, channels, kernel)]
        if reduction is not None:
            layers.append(ChannelAttention(channels, reduction))
        self.body = nn.Sequential(*layers)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        res = self.body(x)
        if self.res_scale != 1:
            res = res.mul(self.res_scale)
        res += x
        return res


def band_groups(bands: int, size: int, overlap: int) -> list[slice]:
    """Groups of neighbouring bands that share `overlap` with the next; the last one is moved so that it is full."""
    if not 0 <= overlap < size <= bands:
        raise ValueError(f"size and overlap must be 0 <= overlap < size <= {bands} bands, got {size} and {overlap}")
    step = size - overlap
    count = -(-(bands - overlap) // step)
    starts = [min(step * i, bands - size) for i in range(count)]
    return [slice(start, start + size) for start in starts]
