"""Fused operators for super-resolution networks.

Every operator is one function with a plain PyTorch reference that defines it and, where they exist, compiled kernels;
`print(lkops.backends.status())` shows what runs here. Tensors are (N, C, H, W). `lkops.nn` holds the modules.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from . import nn  # isort: skip - operators are listed in the order in which they are imported
from . import backends, lowrank
from ._core.moved import install as _install
from .backends import backend
from .fusion import FusionError, FusionReport, fuse
from .lowrank import compress, distill_upsampler
from .ops.bicubic_upsample import bicubic_upsample
from .ops.channel_attention import channel_attention
from .ops.conv2d import conv2d
from .ops.depthwise_conv2d import depthwise_conv2d
from .ops.large_kernel_channel_attention import large_kernel_channel_attention
from .ops.lk_block import lk_block
from .ops.norm_conv1x1_gelu import norm_conv1x1_gelu
from .ops.spectral_losses import SpectralLosses, cosine_loss, gradient_loss, sam_loss, spectral_losses
from .ops.upsample_add import upsample_add

# the rooms' names before they had those of the functions: users' scripts import references from there
_ROOMS = {
    "attention": "large_kernel_channel_attention",
    "bicubic": "bicubic_upsample",
    "block": "lk_block",
    "depthwise": "depthwise_conv2d",
    "gating": "channel_attention",
    "losses": "spectral_losses",
    "projection": "norm_conv1x1_gelu",
    "upsample": "upsample_add",
}
_install(__name__, {f"{old}{part}": f"ops.{new}{part}" for old, new in _ROOMS.items() for part in ("", ".reference")})

if not TYPE_CHECKING:  # a checker would take any name

    def __getattr__(name: str) -> ModuleType:
        if name not in _ROOMS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f"{__name__}.{name}")


__version__ = "0.2.0"

__all__ = [
    "FusionError",
    "FusionReport",
    "SpectralLosses",
    "backend",
    "backends",
    "bicubic_upsample",
    "channel_attention",
    "compress",
    "conv2d",
    "cosine_loss",
    "depthwise_conv2d",
    "distill_upsampler",
    "fuse",
    "gradient_loss",
    "large_kernel_channel_attention",
    "lk_block",
    "lowrank",
    "nn",
    "norm_conv1x1_gelu",
    "sam_loss",
    "spectral_losses",
    "upsample_add",
]
