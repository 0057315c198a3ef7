"""Networks with attention and layer norms in the usual styles; see `foreign`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.lkops.fusion.foreign_convs import default_conv


class LayerNorm2d(nn.Module):
    """ConvNeXt's channels-first layer norm."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class LKA(nn.Module):
    """VAN's large kernel attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.conv_spatial = nn.Conv2d(channels, channels, 7, padding=9, groups=channels, dilation=3)
        self.conv1 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        u = x.clone()
        attn = self.conv0(x)
        attn = self.conv_spatial(attn)
        attn = self.conv1(attn)
        return u * attn


class DropPath(nn.Module):
    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if self.probability == 0.0 or not self.training:
            return x
        keep = 1 - self.probability
        mask = keep + torch.rand((x.shape[0], 1, 1, 1), dtype=x.dtype, device=x.device)
        return x.div(keep) * mask.floor_()


class VANBlock(nn.Module):
    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm2d(channels), LayerNorm2d(channels)
        self.proj_1 = nn.Conv2d(channels, channels, 1)
        self.activation = nn.GELU()
        self.spatial_gating_unit = LKA(channels)
        self.proj_2 = nn.Conv2d(channels, channels, 1)
        hidden = channels * expansion
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.dwconv = nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.drop_path = DropPath(0.1)
        self.layer_scale = nn.Parameter(0.1 * torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        attn = self.proj_2(self.spatial_gating_unit(self.activation(self.proj_1(self.norm1(x)))))
        x = x + self.drop_path(self.layer_scale[:, None, None] * attn)
        return x + self.drop_path(self.fc2(self.activation(self.dwconv(self.fc1(self.norm2(x))))))


class VAN(nn.Module):
    def __init__(self, bands: int = 3, channels: int = 16, blocks: int = 2, scale: int = 2) -> None:
        super().__init__()
        self.embed = default_conv(bands, channels)
        self.blocks = nn.Sequential(*[VANBlock(channels) for _ in range(blocks)])
        self.to_img = nn.Sequential(default_conv(channels, bands * scale**2), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        feat = self.embed(x)
        return self.to_img(self.blocks(feat) + feat)


class UpsampleOneStep(nn.Sequential):
    def __init__(self, scale: int, channels: int, bands: int) -> None:
        super().__init__(nn.Conv2d(channels, scale**2 * bands, 3, 1, 1), nn.PixelShuffle(scale))


class WindowBlock(nn.Module):
    """A transformer block in SwinIR's style: attention within windows, tokens in the last place but one."""

    def __init__(self, channels: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:  # (N, H, W, C)
        n, h, w, c = x.shape
        k = self.window
        y = self.norm1(x).view(n, h // k, k, w // k, k, c).transpose(2, 3).reshape(-1, k * k, c)
        q, key, v = self.qkv(y).view(-1, k * k, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, key, v).transpose(1, 2).reshape(-1, k * k, c)
        y = self.proj(y).view(n, h // k, w // k, k, k, c).transpose(2, 3).reshape(n, h, w, c)
        x = x + y
        return x + self.mlp(self.norm2(x))


class SwinIR(nn.Module):
    def __init__(
        self, bands: int = 3, channels: int = 16, blocks: int = 2, scale: int = 4, window: int = 4, heads: int = 2
    ) -> None:
        super().__init__()
        self.window, self.scale, self.img_range = window, scale, 1.0
        self.conv_first = nn.Conv2d(bands, channels, 3, 1, 1)
        self.layers = nn.ModuleList([WindowBlock(channels, window, heads) for _ in range(blocks)])
        self.norm = nn.LayerNorm(channels)
        self.conv_after_body = nn.Conv2d(channels, channels, 3, 1, 1)
        self.mean = torch.full((1, bands, 1, 1), 0.4)
        self.upsample = UpsampleOneStep(scale, channels, bands)

    def check_image_size(self, x: Tensor) -> Tensor:
        _, _, h, w = x.size()
        pad_h = (self.window - h % self.window) % self.window
        pad_w = (self.window - w % self.window) % self.window
        return F.pad(x, (0, pad_w, 0, pad_h), "reflect")

    def forward_features(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        x = self.check_image_size(x)
        self.mean = self.mean.type_as(x)
        x = (x - self.mean) * self.img_range
        x = self.conv_first(x)
        x = self.conv_after_body(self.forward_features(x)) + x
        x = self.upsample(x)
        x = x / self.img_range + self.mean
        return x[:, :, : h * self.scale, : w * self.scale]


class Functional(nn.Module):
    """Everything in forward, on bare parameters."""

    def __init__(self, bands: int = 4, channels: int = 16, blocks: int = 2, scale: int = 2) -> None:
        super().__init__()
        self.r, self.channels = scale, channels

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape) / max(1, torch.Size(shape[1:]).numel()) ** 0.5)

        self.w_in = parameter(channels, bands, 3, 3)
        self.norm_w, self.norm_b = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.blocks = nn.ModuleList()
        for _ in range(blocks):
            block = nn.ParameterDict(
                {
                    "expand": parameter(channels, channels, 1, 1),
                    "depth": parameter(channels, 1, 5, 5),
                    "squeeze": parameter(channels // 4, channels, 1, 1),
                    "excite": parameter(channels, channels // 4, 1, 1),
                }
            )
            self.blocks.append(block)
        self.w_up, self.b_up = parameter(bands * scale**2, channels, 3, 3), parameter(bands * scale**2)

    def forward(self, x: Tensor) -> Tensor:
        f = F.conv2d(x, self.w_in, padding=1)
        block: Any
        for block in self.blocks:
            y = F.layer_norm(f.permute(0, 2, 3, 1), (self.channels,), self.norm_w, self.norm_b, 1e-6)
            y = F.gelu(F.conv2d(y.permute(0, 3, 1, 2), block["expand"]))
            y = F.conv2d(y, block["depth"], padding=(6, 6), dilation=3, groups=self.channels)
            s = y.mean(dim=(-2, -1), keepdim=True)
            s = torch.sigmoid(F.conv2d(F.relu(F.conv2d(s, block["squeeze"])), block["excite"]))
            f = f + F.dropout(y * s, 0.1, self.training)
        up = F.pixel_shuffle(F.conv2d(f, self.w_up, self.b_up, padding=1), self.r)
        size = (x.shape[-2] * self.r, x.shape[-1] * self.r)
        return torch.add(up, F.interpolate(x, size=size, mode="bicubic"))
