"""The operators and the network as an engineer would write them in eager PyTorch: what lkops is measured against.

Not the references of lkops, which favour plainness: here layer norm is `F.layer_norm`, PixelShuffle and bicubic are
torch's own, and weights are folded. Each function takes the arguments of the lkops function of the same name.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models import LKCANet


def bicubic_upsample(x: Tensor, *, scale: int, cubic_a: float = -0.5, border: str = "symmetric") -> Tensor:
    """torch's own bicubic where the options are its own, else (MATLAB's) its antialiased one on a mirrored image."""
    if (cubic_a, border) == (-0.75, "replicate"):
        return F.interpolate(x, scale_factor=scale, mode="bicubic")
    if (cubic_a, border) != (-0.5, "symmetric"):
        raise ValueError(f"cubic_a and border must be torch's or MATLAB's, got {cubic_a} and {border!r}")
    padded = torch.cat((x[..., :2, :].flip(-2), x, x[..., -2:, :].flip(-2)), -2)
    padded = torch.cat((padded[..., :2].flip(-1), padded, padded[..., -2:].flip(-1)), -1)
    large = F.interpolate(padded, scale_factor=scale, mode="bicubic", antialias=True)
    return large[..., 2 * scale : -2 * scale, 2 * scale : -2 * scale]


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: int = 1) -> Tensor:
    return F.conv2d(
        x, weight, bias, padding=dilation * (weight.shape[-1] // 2), dilation=dilation, groups=weight.shape[0]
    )


def channel_attention(x: Tensor, *parameters: Tensor) -> Tensor:
    w1, b1, w2, b2 = parameters
    return x * F.conv2d(F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), w1, b1)), w2, b2).sigmoid()


def large_kernel_channel_attention(u: Tensor, *parameters: Tensor) -> Tensor:
    dw1_weight, dw1_bias, dw2_weight, dw2_bias, *gate, mix_weight, mix_bias = parameters
    a1 = depthwise_conv2d(u, dw1_weight, dw1_bias, dilation=5)
    a2 = depthwise_conv2d(a1, dw2_weight, dw2_bias, dilation=7)
    ac = channel_attention(torch.cat((u, a1, a2), 1), *gate)
    return F.conv2d(ac, mix_weight, mix_bias, groups=ac.shape[1] // mix_weight.shape[1]) * u


def norm_conv1x1_gelu(x: Tensor, *parameters: Tensor) -> Tensor:
    norm_weight, norm_bias, weight, bias = parameters
    normed = F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm_weight, norm_bias, 1e-6).permute(0, 3, 1, 2)
    return F.gelu(F.conv2d(normed, weight, bias))


def lk_block(x: Tensor, *parameters: Tensor) -> Tensor:
    *projection_and_attention, out_weight, out_bias = parameters
    u = norm_conv1x1_gelu(x, *projection_and_attention[:4])
    return x + F.conv2d(large_kernel_channel_attention(u, *projection_and_attention[4:]), out_weight, out_bias)


def upsample_add(
    features: Tensor, weight: Tensor, bias: Tensor, lowres: Tensor, *, scale: int, **bicubic: Any
) -> Tensor:
    groups = features.shape[1] // weight.shape[1]
    up = F.pixel_shuffle(F.conv2d(features, weight, bias, padding=weight.shape[-1] // 2, groups=groups), scale)
    return up + bicubic_upsample(lowres, scale=scale, **bicubic)


def spectral_losses(prediction: Tensor, target: Tensor, *, floor: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    def magnitude(x: Tensor) -> Tensor:
        here = x[:, 1:, 1:, 1:]
        steps = (here - x[:, :-1, 1:, 1:], here - x[:, 1:, :-1, 1:], here - x[:, 1:, 1:, :-1])
        return torch.sqrt(steps[0] ** 2 + steps[1] ** 2 + steps[2] ** 2 + 1e-6)

    cosine = F.cosine_similarity(prediction, target, dim=1, eps=1e-12)
    angle, distance = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6)), 1 - cosine
    if floor > 0:
        weight = F.relu(1 - floor**2 / target.detach().square().mean(1))
        angle, distance = weight * angle, weight * distance
    gradient = F.l1_loss(magnitude(prediction), magnitude(target))
    return F.l1_loss(prediction, target), angle.mean() / torch.pi, distance.mean(), gradient


class Network(torch.nn.Module):
    """A folded `LKCANet` run by these functions; it shares the network's parameters.

    With `folded=False` weight normalisation may be there, computed at every call as training does, without drop path.
    """

    def __init__(self, model: LKCANet, *, folded: bool = True) -> None:
        super().__init__()
        if folded and model.config["weight_norm"]:
            raise ValueError("model must be folded: call model.fold() first")
        fixed = {"dilations": [5, 7], "interleave": False, "eps": 1e-6}  # what the functions above compute
        for name, value in fixed.items():
            if model.config[name] != value:
                raise ValueError(f"model has {name} {model.config[name]}, here is {value} only")
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        features = self.model.head(x)
        for block in self.model.blocks:
            arguments: tuple[Any, ...] = block.arguments()  # type: ignore[operator]
            features = lk_block(features, *arguments)
        first, conv = self.model.upsample.first, self.model.upsample.conv
        if first is not None:
            features = first(features)
        assert conv.bias is not None
        bicubic = {key: self.model.config[key] for key in ("cubic_a", "border")}
        return upsample_add(features, conv.weight, conv.bias, x, scale=self.model.scale, **bicubic)
