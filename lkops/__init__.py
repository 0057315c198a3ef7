"""Fused operators for super-resolution networks.

Every operator is one function with a plain PyTorch reference that defines it and, where they exist, compiled kernels;
`print(lkops.backends.status())` shows what runs here. Tensors are (N, C, H, W). `lkops.nn` holds the modules.
"""

from . import nn  # isort: skip - operators are listed in the order in which they are imported
from . import backends, lowrank
from .attention import large_kernel_channel_attention
from .backends import backend
from .bicubic import bicubic_upsample
from .block import lk_block
from .depthwise import depthwise_conv2d
from .fusion import FusionError, FusionReport, fuse
from .gating import channel_attention
from .losses import SpectralLosses, cosine_loss, gradient_loss, sam_loss, spectral_losses
from .lowrank import compress, distill_upsampler
from .projection import norm_conv1x1_gelu
from .upsample import upsample_add

__version__ = "0.1.0"

__all__ = [
    "FusionError",
    "FusionReport",
    "SpectralLosses",
    "backend",
    "backends",
    "bicubic_upsample",
    "channel_attention",
    "compress",
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
