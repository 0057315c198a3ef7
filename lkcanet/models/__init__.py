"""The networks, and the files they live in."""

from .checkpoints import load_model, load_model_and_extra, save_model
from .lkcanet import LKCANet, lkca_lr, lkca_net
from .registry import KINDS, PRESETS, Network, Preset, register

__all__ = [
    "KINDS",
    "PRESETS",
    "LKCANet",
    "Network",
    "Preset",
    "lkca_lr",
    "lkca_net",
    "load_model",
    "load_model_and_extra",
    "register",
    "save_model",
]
