"""Hyperspectral super-resolution: LKCA-Net, its data, metrics, training and inference, built on lkops."""

from .common.moved import install as _install

_install(__name__)
