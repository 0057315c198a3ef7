"""Hyperspectral super-resolution: LKCA-Net, its data, metrics, training and inference, built on lkops."""
